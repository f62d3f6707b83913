// The dreams' noise, number for number as in worldmodel/dynamics/sampling.py and envs/dream/start_states.py: hashes of
// a dream's seed, step and place, in 32-bit integers. Seeds are BigInts of up to 64 bits.

function mix(x) {  // of 32 bits, as an unsigned number
  x ^= x >>> 16;
  x = Math.imul(x, 0x7feb352d);
  x ^= x >>> 15;
  x = Math.imul(x, 0x846ca68b);
  return (x ^ x >>> 16) >>> 0;
}

// Noise in [0, 1) of step `counter`, `count` numbers.
export function uniforms(seed, counter, count) {
  const folded = Number(BigInt.asUintN(32, seed ^ seed >> 32n));
  const key = mix(mix(folded) ^ Math.imul(counter, 0x9e3779b9));
  const noise = new Float32Array(count);
  for (let index = 1; index <= count; index++) {
    noise[index - 1] = (mix(mix(key ^ Math.imul(index, 0x85ebca6b)) + index) >>> 8) / 2 ** 24;
  }
  return noise;
}

// Where the dream of this number begins, out of `count` places, and the seed of all that it draws.
export function pickAndSeed(key, number, count) {
  const noise = uniforms(key, number, 4);
  const pick = Math.min(count - 1, Math.floor((noise[0] + noise[1] / 2 ** 24) * count));
  return {pick, seed: BigInt(noise[2] * 2 ** 24) << 24n | BigInt(noise[3] * 2 ** 24)};
}

export const branchSeed = (seed, future) => seed ^ BigInt(future) * 0x9e3779b1n;

// --- the key that an env draws from its seed: NumPy's SeedSequence and PCG64 ---------------------------------------

const words = numbers => {  // 64-bit numbers out of pairs of 32-bit words, the lower one first
  const made = [];
  for (let i = 0; i < numbers.length; i += 2) made.push(BigInt(numbers[i + 1]) << 32n | BigInt(numbers[i]));
  return made;
};

function hashing(start, factor) {  // a hash whose constant changes with each word
  let constant = start;
  return word => {
    word = (word ^ constant) >>> 0;
    constant = Math.imul(constant, factor) >>> 0;
    word = Math.imul(word, constant) >>> 0;
    return (word ^ word >>> 16) >>> 0;
  };
}

// Eight words out of a whole number of at least 0.
function seedSequence(seed) {
  const entropy = [];
  for (let rest = BigInt(seed); rest || !entropy.length; rest >>= 32n) entropy.push(Number(rest & 0xffffffffn));
  const hash = hashing(0x43b0d7e5, 0x931e8875);
  const merge = (x, y) => {
    const merged = Math.imul(0xca01f9dd, x) - Math.imul(0x4973f715, y) >>> 0;
    return (merged ^ merged >>> 16) >>> 0;
  };
  const pool = [0, 1, 2, 3].map(place => hash(entropy[place] ?? 0));
  for (let from = 0; from < 4; from++) {
    for (let to = 0; to < 4; to++) if (from !== to) pool[to] = merge(pool[to], hash(pool[from]));
  }
  for (const more of entropy.slice(4)) {
    for (let to = 0; to < 4; to++) pool[to] = merge(pool[to], hash(more));
  }
  const give = hashing(0x8b51f9dd, 0x58f38ded);
  return Array.from({length: 8}, (_, place) => give(pool[place % 4]));
}

const u128 = x => BigInt.asUintN(128, x);
const PCG = 0x2360ed051fc65da44385df649fccf645n;

export function keyOf(seed) {
  const [high, low, more, less] = words(seedSequence(seed));
  const step = u128((more << 64n | less) << 1n | 1n);
  let state = u128(step + (high << 64n | low));  // the first advance is of zero
  state = u128(state * PCG + step);
  state = u128(state * PCG + step);  // the first draw
  const turned = state >> 122n, folded = BigInt.asUintN(64, state >> 64n ^ state);
  return BigInt.asUintN(64, folded >> turned | folded << (64n - turned)) >> 2n;  // 62 bits
}
