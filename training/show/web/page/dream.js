// A dream, step by step, as WorldModel and DreamEnv dream it. Its states are never changed: going back, and forking, is
// keeping them. `primed` gives a state's cache, and the outputs that predicted its step.
//
// Letters: S tokens of a step, M codes of a token, W steps of the window, N layers, H heads, K features of a head.

import {keyOf, pickAndSeed, uniforms} from "./noise.js";

// An action as numbers: one-hot for one of several; for a vector, held for all frames of a step.
export function vector(action, {kind, features, frames}) {
  if (kind === "discrete") return Float32Array.from({length: features}, (_, place) => Number(place === action));
  return Float32Array.from(Array(frames).fill(Array.from(action)).flat());
}

// One step of the network with the cache `past`, a list of the last steps' keys and values, the oldest first. Returns
// the outputs, and the cache that the next step sees.
async function pass(world, {past, clock}, codes, action, first) {
  const {layers, heads, window, tokens, features} = world.about.cache;
  const slots = window - 1, size = tokens * features;
  past.forEach(({keys, values}, slot) => {
    for (let head = 0; head < layers * heads; head++) {
      const to = (head * slots + slot) * size, part = [head * size, (head + 1) * size];
      world.keys.set(keys.subarray(...part), to);
      world.values.set(values.subarray(...part), to);
    }
  });
  const hidden = Float32Array.from({length: slots}, (_, slot) => slot < past.length ? 0 : -Infinity);
  const ring = [layers, heads, slots, tokens, features];
  const out = await world.run("pass", {
    codes: [codes, [tokens, codes.length / tokens]],
    action: [action, [action.length]],
    first: [Float32Array.of(first), []],
    keys: [world.keys, ring],
    values: [world.values, ring],
    hidden: [hidden, [slots]],
    turn: [turn(clock, world.about.speeds, features), [2, features]],
  });
  const next = [...past, {keys: out.new_keys, values: out.new_values}].slice(-slots);
  return {outputs: out.outputs, cache: {past: next, clock: clock + 1}};
}

// Cosines and sines of the rotation at a time, for both halves of the features.
function turn(clock, speeds, features) {
  const turned = new Float32Array(2 * features), half = features / 2;
  speeds.forEach((speed, pair) => {
    const cos = Math.cos(clock * speed), sin = Math.sin(clock * speed);
    turned.set([cos], pair);
    turned.set([cos], half + pair);
    turned.set([-sin], features + pair);
    turned.set([sin], features + half + pair);
  });
  return turned;
}

// The dream that an env seeded with `seed` dreams first; `number` counts those that follow without a seed.
export async function begin(world, seed, number = 0) {
  const key = keyOf(seed), {about, starts} = world;
  const both = "first_codes" in starts;  // by turns from the first steps of an episode, and from the middle of play
  const prefix = both && (key ^ BigInt(number)) & 1n ? "first_" : "";
  const [codes, actions, signals] = ["codes", "actions", "signals"].map(name => starts[prefix + name]);
  const {pick, seed: draws} = pickAndSeed(key, number, codes.shape[0]);
  const row = ({shape, data}) => data.subarray(...[pick, pick + 1].map(n => n * data.length / shape[0]));
  const steps = codes.shape[1], size = codes.data.length / codes.shape[0] / steps;
  const given = Int32Array.from(row(codes)), done = Array.from(row(actions), Number);
  const each = done.length / Math.max(1, steps - 1);
  const nothing = new Float32Array(about.action.features);
  const burnIn = async () => {
    let cache = {past: [], clock: 0}, outputs = new Float32Array(about.cache.tokens * about.width);
    for (let step = about.lead ? -1 : 0; step < steps - 1; step++) {
      const before = given.slice(Math.max(0, step) * size, (Math.max(0, step) + 1) * size);
      const own = about.action.kind === "discrete" ? vector(done[step], about.action)
        : Float32Array.from(done.slice(step * each, (step + 1) * each));
      const first = step < 0;
      ({outputs, cache} = await pass(world, cache, before, first ? nothing : own, Number(first)));
    }
    return {outputs, cache};
  };
  let primed = null;  // the first picture does not wait for it
  const last = given.slice((steps - 1) * size), known = row(signals).slice(-about.signals.length || Infinity);
  return {primed: () => primed ??= burnIn(), codes: last, signals: known, seed: draws, counter: 0};
}

// The state after an action, and what the step earns: {reward, nll, entropy, ended}.
export async function step(world, state, action, temperature) {
  const {about} = world, {tokens} = about.cache, done = vector(action, about.action);
  const size = state.codes.length, shape = [tokens, size / tokens];
  const {outputs, cache} = await pass(world, (await state.primed()).cache, state.codes, done, 0);
  const noise = uniforms(state.seed, state.counter, size + 1);
  const out = await world.run("draw", {
    outputs: [outputs, [tokens, about.width]],
    before: [state.codes, shape],
    first: [Float32Array.of(0), []],
    noise: [noise.subarray(0, size), shape],
    temperature: [Float32Array.of(temperature), []],
    signals: [state.signals, [state.signals.length]],
    action: [done, [done.length]],
    chance: [noise.subarray(size), []],
  });
  const [reward, nll, entropy, ended] = ["reward", "nll", "entropy", "ended"].map(name => out[name][0]);
  const primed = () => ({outputs, cache}), {seed, counter} = state;
  const next = {primed, codes: out.codes, signals: out.after, seed, counter: counter + 1};
  return {state: next, reward, nll, entropy, ended: Boolean(ended)};
}

// The frames (F, H, W, 3) of a state's step, as bytes.
export async function picture(world, {codes}) {
  const {tokens} = world.about.cache;
  return (await world.run("picture", {codes: [codes, [tokens, codes.length / tokens]]})).frames;
}
