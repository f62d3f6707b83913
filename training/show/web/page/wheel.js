// Who is at the wheel: what the keys that are held mean, and who plays while none is held.

import {uniforms} from "./noise.js";

const REPEAT = 0.8;  // of the policy "sticky", and its odds by the actions' names
const ODDS = {noop: 0.25, move_forward: 3};

// The action for the keys held, in the order in which they were pressed: the last one counts.
export function actionOf(keys, {action, bindings}) {
  const places = keys.map(key => bindings.findIndex(([bound]) => bound.includes(key))).filter(place => place >= 0);
  if (action.kind === "discrete") return places.at(-1) ?? Math.max(0, action.names.indexOf("noop"));
  const numbers = action.low.map((low, place) => Math.min(Math.max(0, low), action.high[place]));
  for (const place of places) numbers[place >> 1] = (place % 2 ? action.high : action.low)[place >> 1];
  return numbers;
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

export class Wheel {
  constructor(world) {
    this.world = world;
    this.who = "you";
    this.begin(0);
  }

  get offers() { return [["you", "you"], ["random", "random"], ["sticky", "sticky"]]; }

  begin(seed) {
    const {about} = this.world;
    this.blinds = {random: new Blind(about, seed, 0), sticky: new Blind(about, seed, REPEAT)};
  }

  give(who, seed) {
    if (!this.offers.some(([name]) => name === who)) throw new Error(`nobody is called ${who} here`);
    this.who = who;
    this.begin(seed);
  }

  remind() {}

  // What is done while no key is held.
  async act() { return this.blind(); }

  // The same in several futures at once, which an agent cannot play.
  blind() { return this.who in this.blinds ? this.blinds[this.who].act() : actionOf([], this.world.about); }
}
