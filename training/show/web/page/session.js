// Somebody plays a dream: what the messages of the page do, as training/show/play/session.py does it for a server.

import {gif} from "./clip.js";
import {begin, picture, step} from "./dream.js";
import {branchSeed} from "./noise.js";
import {actionOf, Wheel} from "./wheel.js";

const KEPT = 256;  // steps to which one can look or go back
const TAKEN_BACK = 9;  // steps of one press of "back"
const FUTURES = 4;

export class Session {
  constructor(world, seed) {
    this.world = world;
    this.wheel = new Wheel(world);
    this.seed = seed - 1;  // of the episode that is shown
    this.temperature = world.about.temperature;
    this.moments = [];  // the steps of the episode that are kept, the present one last
    this.futures = null;  // the steps of each future since they parted, the parting one first
  }

  async answer(message) {
    const does = Session.answers[message.do];
    if (!does) throw new Error(`a message must do one of ${Object.keys(Session.answers).join(", ")}, got ${message.do}`);
    if (!this.moments.length) await this.begin();
    return does.call(this, message);
  }

  // Make ready for the next step what the picture that is shown did not need.
  async warm() {
    await this.now.state.primed();
    await this.world.session("draw");
  }

  get now() { return this.moments.at(-1); }

  // --- steps ----------------------------------------------------------------------------------------------------

  async begin() {
    this.seed += 1;
    const state = await begin(this.world, this.seed);
    this.moments = [{state, frames: await picture(this.world, state), step: 0, reward: 0, total: 0, nll: null, ended: ""}];
    this.wheel.begin(this.seed);
  }

  // The moment after another one, by an action.
  async after(moment, action) {
    const {state, reward, nll, ended} = await step(this.world, moment.state, action, this.temperature);
    const frames = await picture(this.world, state);
    return {state, frames, step: moment.step + 1, reward, total: moment.total + reward, nll, action,
      ended: ended ? "terminated" : ""};
  }

  add(moment) {
    this.moments.push(moment);
    if (this.moments.length > KEPT + 1) this.moments.shift();
  }

  async step({keys = []}) {
    const held = keys.length ? actionOf(keys, this.world.about) : null;
    if (this.futures) {
      const ended = this.futures.every(future => future.at(-1).ended) || this.futures[0].length > KEPT;
      const action = held ?? this.wheel.blind();
      for (const future of ended ? [] : this.futures) {
        if (!future.at(-1).ended) future.push(await this.after(future.at(-1), action));
      }
    } else if (!this.now.ended) {
      this.add(await this.after(this.now, held ?? await this.wheel.act(this.moments)));
    }
    return this.show({});
  }

  back({to = this.now.step - TAKEN_BACK}) {
    this.futures = null;
    const before = this.now.step;
    while (this.moments.length > 1 && this.now.step > to) this.moments.pop();
    const went = before - this.now.step;
    return this.everything(went === 1 ? "One step back." : `${went} steps back.`);
  }

  look({at}) {
    const place = Math.min(Math.max(at - this.moments[0].step, 0), this.moments.length - 1);
    return this.moment({looking: place < this.moments.length - 1}, this.moments[place]);
  }

  fork() {
    if (this.now.ended) return this.everything("The episode has ended: go back first, or begin a new one.");
    this.futures = Array.from({length: FUTURES}, (_, future) => {
      const state = {...this.now.state, seed: branchSeed(this.now.state.seed, future)};
      return [{...this.now, state}];
    });
    return this.everything("Four futures. Choose one to continue.");
  }

  choose({which = -1}) {
    const futures = this.futures;
    this.futures = null;
    if (!futures) return this.everything();
    if (which < 0) return this.everything("Back to where the futures parted.");
    this.moments[this.moments.length - 1] = futures[which][0];  // going back to here keeps the future's seed
    for (const moment of futures[which].slice(1)) this.add(moment);
    return this.everything(`The dream continues as future ${which + 1}.`);
  }

  // All kept steps: a GIF as a file, or else what the page needs to film them.
  async clip({kind}) {
    const {title, fps, frames: [count, ...size]} = this.world.about, bytes = count * size[0] * size[1] * size[2];
    const all = new Uint8Array(this.moments.length * bytes), shape = [this.moments.length * count, ...size];
    this.moments.forEach(({frames}, place) => all.set(frames, place * bytes));
    const stem = title.replace(/[^\p{L}\p{N}_.-]+/gu, "-").replace(/^[-.]+|[-.]+$/g, "") || "clip";
    const file = `${stem}-${this.seed}-${this.moments[0].step}-${this.now.step}.${kind}`;
    if (kind !== "gif") return {file, film: fps * count, arrays: {file: {shape, data: all}}};
    const data = await gif(all, shape, fps * count);
    return {file, arrays: {file: {shape: [data.length], data}}};
  }

  // --- words ----------------------------------------------------------------------------------------------------

  everything(note = "") {
    const {about} = this.world;
    return this.show({
      about: {
        world: about.title, worlds: [about.title], dream: true, fps: about.fps, bindings: about.bindings,
        drivers: this.wheel.offers, driver: this.wheel.who, temperature: this.temperature, dreams_on: "",
        came_from: "", usual: about.usual, palette: about.palette, num_codes: about.num_codes, slices: about.slices,
        clips: about.gif ? ["gif"] : [],
      },
      note,
      history: this.moments.map(({step, reward, nll, ended}) => [step, reward, nll, ended]),
    });
  }

  show(words) {
    if (!this.futures) return this.moment(words, this.now);
    const shown = this.futures.map(future => future.at(-1)), [count, ...size] = this.world.about.frames;
    const all = new Uint8Array(shown.length * shown[0].frames.length);
    shown.forEach(({frames}, future) => all.set(frames, future * frames.length));
    const frames = {shape: [shown.length * count, ...size], data: all};
    return {...words, futures: shown.map(one => this.numbers(one)), first: this.moments[0].step, arrays: {frames}};
  }

  moment(words, moment) {
    const frames = {shape: this.world.about.frames, data: moment.frames};
    return {...words, now: this.numbers(moment), first: this.moments[0].step, codes: Array.from(moment.state.codes),
      grid: this.world.about.grid, arrays: {frames}};
  }

  numbers({step, reward, total, nll, ended, state}) {
    const signals = Object.fromEntries(this.world.about.signals.map((name, place) => [name, state.signals[place]]));
    return {step, reward, return: total, native: null, nll, signals, ended};
  }

  static answers = {
    show() { return this.everything(); },
    step: Session.prototype.step,
    async begin() {
      this.futures = null;
      await this.begin();
      return this.everything();
    },
    back: Session.prototype.back,
    look: Session.prototype.look,
    drive({who}) {
      this.wheel.give(who, this.seed);
      return this.everything();
    },
    clip: Session.prototype.clip,
    fork: Session.prototype.fork,
    choose: Session.prototype.choose,
    temperature({value}) {
      this.temperature = value;
      return this.everything();
    },
  };
}
