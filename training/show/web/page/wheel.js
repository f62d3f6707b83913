// Who is at the wheel: what the keys that are held mean, and who plays while none is held.

import {vector} from "./dream.js";
import {uniforms} from "./noise.js";

const REPEAT = 0.8;  // of the policy "sticky", and its odds by the actions' names
const ODDS = {noop: 0.25, move_forward: 3};

// The action for the keys held, in the order in which they were pressed: the last one counts. Keys held together mean
// the action that joins most of their names by "+", the last one's among them.
export function actionOf(keys, {action, bindings}) {
  const places = keys.map(key => bindings.findIndex(([bound]) => bound.includes(key))).filter(place => place >= 0);
  if (action.kind === "discrete") {
    return places.length ? chord(places, action.names) : Math.max(0, action.names.indexOf("noop"));
  }
  const numbers = action.low.map((low, place) => Math.min(Math.max(0, low), action.high[place]));
  for (const place of places) numbers[place >> 1] = (place % 2 ? action.high : action.low)[place >> 1];
  return numbers;
}

function chord(places, names) {
  const held = places.map(place => names[place]), parts = names.map(name => name.split("+"));
  const size = place => parts[place]?.length ?? 1;
  return parts.reduce((best, part, place) => part.includes(held.at(-1)) && part.every(one => held.includes(one))
    && part.length > size(best) ? place : best, places.at(-1));
}

// Draws random actions from a seed; with `repeat` an action is often repeated, and their odds go by their names.
class Blind {
  constructor({action}, seed, repeat) {
    Object.assign(this, {action, seed: BigInt(seed), repeat, counter: 0, last: null});
  }

  act() {
    const {action} = this, noise = uniforms(this.seed, this.counter++, 1 + (action.kind === "discrete" ? 1 : action.count));
    if (this.last !== null && noise[0] < this.repeat) return this.last;
    if (action.kind !== "discrete") {
      return this.last = action.low.map((low, place) => low + noise[1 + place] * (action.high[place] - low));
    }
    const odds = Array.from({length: action.count}, (_, place) => this.repeat ? ODDS[action.names[place]] ?? 1 : 1);
    let left = noise[1] * odds.reduce((sum, one) => sum + one);
    this.last = odds.findIndex(one => (left -= one) < 0);
    return this.last;
  }
}

// A trained agent. It keeps nothing: what it saw of a moment is kept with the moment.
class Agent {
  constructor(world, seed) { Object.assign(this, {world, seed: BigInt(seed)}); }

  async act(moments) {
    const {about} = this.world, {stack, seen} = about.agent, size = seen.reduce((product, n) => product * n, 1);
    const past = new Float32Array((stack - 1) * size);
    for (let back = 1; back < stack && back < moments.length; back++) {
      const moment = moments.at(-1 - back);
      moment.seen ??= (await this.run(moment, new Float32Array(past.length))).seen;
      past.set(moment.seen, past.length - back * size);
    }
    const now = moments.at(-1), {choice, seen: saw} = await this.run(now, past);
    now.seen = saw;
    return this.draw(choice, now.step);
  }

  async run({state, frames, step, action}, past) {
    const {about} = this.world, {stack, seen} = about.agent, shape = [about.cache.tokens, -1];
    shape[1] = state.codes.length / shape[0];
    const last = step ? vector(action, {...about.action, features: about.action.count, frames: 1})
      : new Float32Array(about.action.count);
    const {outputs} = await state.primed();
    return this.world.run("agent", {
      codes: [state.codes, shape],
      outputs: [outputs, [shape[0], about.width]],
      frames: [frames, about.frames],
      last: [last, [last.length]],
      begun: [Float32Array.of(step > 0), []],
      past: [past, [stack - 1, ...seen]],
    });
  }

  draw(choice, step) {  // by its odds; or around its means, within the bounds
    const {action} = this.world.about;
    if (action.kind === "discrete") {
      let left = uniforms(this.seed, step, 1)[0] * choice.reduce((sum, one) => sum + one);
      const drawn = choice.findIndex(one => (left -= one) < 0);
      return drawn < 0 ? choice.length - 1 : drawn;  // rounding left something
    }
    const noise = uniforms(this.seed, step, 2 * action.count);
    return action.low.map((low, place) => {
      const [u, v] = noise.subarray(2 * place), normal = Math.sqrt(-2 * Math.log(1 - u)) * Math.cos(2 * Math.PI * v);
      return Math.min(action.high[place], Math.max(low, choice[place] + choice[action.count + place] * normal));
    });
  }
}

export class Wheel {
  constructor(world) {
    this.world = world;
    this.who = "you";
    this.begin(0);
  }

  get offers() {
    return [["you", "you"], ...this.agent ? [["agent", "agent"]] : [], ["random", "random"], ["sticky", "sticky"]];
  }

  begin(seed) {
    const {about} = this.world;
    this.agent = about.agent ? new Agent(this.world, seed) : null;
    this.blinds = {random: new Blind(about, seed, 0), sticky: new Blind(about, seed, REPEAT)};
  }

  give(who, seed) {
    if (!this.offers.some(([name]) => name === who)) throw new Error(`nobody is called ${who} here`);
    this.who = who;
    this.begin(seed);
  }

  // What is done while no key is held, after these moments of an episode.
  async act(moments) { return this.who === "agent" ? this.agent.act(moments) : this.blind(); }

  // The same in several futures at once, which an agent does not play.
  blind() { return this.who in this.blinds ? this.blinds[this.who].act() : actionOf([], this.world.about); }
}
