// The world as it lies beside the page: what there is to know of it, its starts, and its graphs, ready to be run.

const file = name => new URL(name, import.meta.url);

async function bytes(name) {
  const response = await fetch(file(name));
  if (!response.ok) throw new Error(`${name} could not be loaded (${response.status} ${response.statusText})`);
  return response.arrayBuffer();
}

const ARRAYS = {I16: Int16Array, I64: BigInt64Array, F32: Float32Array};

// The tensors of a file of safetensors by name: {shape, data}.
export function readTensors(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  delete header.__metadata__;
  return Object.fromEntries(Object.entries(header).map(([name, {dtype, shape, data_offsets: [from, to]}]) =>
    [name, {shape, data: new ARRAYS[dtype](buffer.slice(8 + length + from, 8 + length + to))}]));
}

// The runtime's module, and what computes the large graphs: the graphics card where the browser and the folder can.
async function openRuntime({plain, webgpu}) {
  const gpu = webgpu && "Suspending" in WebAssembly && await navigator.gpu?.requestAdapter();
  const [script, wasm] = gpu ? webgpu : plain;
  const runtime = await import(file(`runtime/${script}`));
  runtime.env.wasm.numThreads = 1;  // more of them would ask the host for special headers
  runtime.env.wasm.wasmPaths = {wasm: file(`runtime/${wasm}`).href};
  runtime.env.logLevel = "error";
  return [runtime, gpu ? "webgpu" : "wasm"];
}

export async function openWorld(notice) {
  notice("Loading the world …");
  const about = JSON.parse(new TextDecoder().decode(await bytes("world.json")));
  const names = ["pass", "draw", "picture"];
  const [[runtime, fast], starts, ...graphs] = await Promise.all(
    [openRuntime(about.runtime), bytes("starts.safetensors"), ...names.map(name => bytes(`${name}.onnx`))]);
  notice("Preparing the world …");
  const sessions = {};
  for (const [place, name] of names.entries()) {
    // The draw is small, and its sums in float64 are for a processor.
    const executionProviders = [name === "draw" ? "wasm" : fast];
    sessions[name] = await runtime.InferenceSession.create(new Uint8Array(graphs[place]), {executionProviders});
  }
  return new World(about, readTensors(starts), runtime, sessions, fast);
}

export class World {
  constructor(about, starts, runtime, sessions, fast) {
    Object.assign(this, {about, starts, runtime, sessions, fast});
    const {layers, heads, window, tokens, features} = about.cache;
    const size = layers * heads * (window - 1) * tokens * features;
    this.keys = new Float32Array(size);  // room for the cache of the step that is computed
    this.values = new Float32Array(size);
  }

  // Run a graph on arrays of numbers by name: [data, shape]; its outputs by name.
  async run(name, inputs) {
    const feeds = {};
    for (const input of this.sessions[name].inputNames) {
      const [data, shape] = inputs[input];
      feeds[input] = new this.runtime.Tensor(data instanceof Int32Array ? "int32" : "float32", data, shape);
    }
    const outputs = await this.sessions[name].run(feeds), found = {};
    for (const [output, tensor] of Object.entries(outputs)) found[output] = tensor.data;
    return found;
  }
}
