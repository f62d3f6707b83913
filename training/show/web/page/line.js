// The line to the world: as the play page's line to its server, but the world dreams here, in a worker of this page.

import {FILM, film} from "./clip.js";

export class Line {
  // events: notice(words) for each line that is no answer, opened(), closed(reason).
  constructor(events) {
    this.events = events;
    this.waiting = [];  // what becomes of each answer that is still to come
    this.filming = false;
  }

  connect() {
    this.worker?.terminate();
    this.worker = new Worker(new URL("worker.js", import.meta.url), {type: "module"});
    this.worker.onmessage = ({data}) => {
      if (data.waiting) this.events.notice(data);
      else if (data.opened) this.events.opened();
      else if (data.closed) this.close(data.closed);
      else {
        if (FILM) data.about?.clips.push(FILM[0]);
        this.waiting.shift()(data);
      }
    };
    this.worker.onerror = event => this.close(event.message || "The page's worker could not be loaded");
    this.worker.postMessage({address: location.href});
  }

  close(reason) {
    for (const one of this.waiting.splice(0)) one({error: reason});
    this.worker.terminate();
    this.worker = null;
    this.events.closed(reason);
  }

  // The answer to a message: its words, with arrays by name in `arrays` ({shape, data}); or {error}.
  async ask(message) {
    if (!this.worker) return {error: "The world is not loaded."};
    this.worker.postMessage(message);
    const answer = await new Promise(resolve => this.waiting.push(resolve));
    return answer.film ? this.film(answer) : answer;
  }

  // The answer with a film of its frames, which only the page can record, in their place.
  async film(answer) {
    const {shape, data} = answer.arrays.file;
    this.filming = true;
    try {
      const bytes = await film(data, shape, answer.film, FILM[1], waiting => this.events.notice({waiting}));
      return {...answer, arrays: {file: {shape: [bytes.length], data: bytes}}};
    } catch (error) {
      return {error: `The film could not be recorded: ${error.message}`};
    } finally {
      this.filming = false;
    }
  }

  get busy() { return this.filming || this.waiting.length > 0; }

  get lost() { return !this.worker; }
}
