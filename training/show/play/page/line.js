// The line to the server: messages go out, answers come back in the same order.

import {recall, remember} from "./panel.js";

const KEY = "videogen.session", TAB = "sessionStorage";

export class Line {
  // events: notice(words) for each line that is no answer, opened(), closed(reason).
  constructor(events) {
    this.events = events;
    this.waiting = [];  // what becomes of each answer that is still to come
    this.words = null;  // an answer whose arrays are still to come
  }

  connect() {
    const key = recall(KEY, TAB) || "";
    const scheme = location.protocol === "https:" ? "wss://" : "ws://";
    const socket = new WebSocket(`${scheme}${location.host}/play?session=${encodeURIComponent(key)}`);
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.events.opened();
    socket.onmessage = event => this.hear(event.data);
    socket.onclose = event => {
      for (const one of this.waiting.splice(0)) one({error: "The connection is closed."});
      this.words = null;
      this.events.closed(event.reason);
    };
  }

  // The answer to a message: its words, with arrays by name in `arrays` ({shape, data}); or {error}.
  ask(message) {
    if (this.socket.readyState !== WebSocket.OPEN) return Promise.resolve({error: "There is no connection."});
    this.socket.send(JSON.stringify(message));
    return new Promise(resolve => this.waiting.push(resolve));
  }

  get busy() { return this.waiting.length > 0; }

  get lost() { return this.socket.readyState > WebSocket.OPEN; }

  hear(data) {
    if (typeof data !== "string") return this.answer(this.words, data);
    const words = JSON.parse(data);
    if (words.session) {
      remember(KEY, words.session, TAB);
      this.events.notice(words);
    } else if (words.waiting) this.events.notice(words);
    else if (words.parts) this.words = words;
    else this.answer(words, new ArrayBuffer(0));
  }

  answer(words, buffer) {
    words.arrays = {};
    let from = 0;
    for (const [name, shape] of words.parts || []) {
      const size = shape.reduce((product, n) => product * n, 1);
      words.arrays[name] = {shape, data: new Uint8Array(buffer, from, size)};
      from += size;
    }
    this.words = null;
    this.waiting.shift()(words);
  }
}
