// The line to the world: as the play page's line to its server, but the world dreams here, in a worker of this page.

export class Line {
  // events: notice(words) for each line that is no answer, opened(), closed(reason).
  constructor(events) {
    this.events = events;
    this.waiting = [];  // what becomes of each answer that is still to come
  }

  connect() {
    this.worker?.terminate();
    this.worker = new Worker(new URL("worker.js", import.meta.url), {type: "module"});
    this.worker.onmessage = ({data}) => {
      if (data.waiting) this.events.notice(data);
      else if (data.opened) this.events.opened();
      else if (data.closed) this.close(data.closed);
      else this.waiting.shift()(data);
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
  ask(message) {
    if (!this.worker) return Promise.resolve({error: "The world is not loaded."});
    this.worker.postMessage(message);
    return new Promise(resolve => this.waiting.push(resolve));
  }

  get busy() { return this.waiting.length > 0; }
}
