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
  const names = ["picture", "pass", "draw", ...about.agent ? ["agent"] : []];
  const graphs = Object.fromEntries(names.map(name => [name, bytes(`${name}.onnx`)]));  // on their way
  for (const graph of Object.values(graphs)) graph.catch(() => {});  // whoever needs it hears of it
  const [[runtime, fast], starts] = await Promise.all([openRuntime(about.runtime), bytes("starts.safetensors")]);
  const world = new World(about, readTensors(starts), runtime, graphs, fast);
  notice("Preparing the world …");
  await world.session("picture");
  return world;
}

const TYPES = new Map([[Int32Array, "int32"], [Float32Array, "float32"], [Uint8Array, "uint8"]]);

export class World {
  constructor(about, starts, runtime, graphs, fast) {
    Object.assign(this, {about, starts, runtime, graphs, fast});
    this.sessions = {};
    const {layers, heads, window, tokens, features} = about.cache;
    const size = layers * heads * (window - 1) * tokens * features;
    this.keys = new Float32Array(size);  // room for the cache of the step that is computed
    this.values = new Float32Array(size);
  }

  // A graph, ready to be run from its first use on.
  session(name) {
    // The draw and the agent are small, and the draw's sums in float64 are for a processor.
    const executionProviders = [name === "pass" || name === "picture" ? this.fast : "wasm"];
    return this.sessions[name] ??= this.graphs[name].then(graph =>
      this.runtime.InferenceSession.create(new Uint8Array(graph), {executionProviders}));
  }

  // Run a graph on arrays of numbers by name: [data, shape]; its outputs by name.
  async run(name, inputs) {
    const feeds = {}, session = await this.session(name);
    for (const input of session.inputNames) {
      const [data, shape] = inputs[input];
      feeds[input] = new this.runtime.Tensor(TYPES.get(data.constructor), data, shape);
    }
    const outputs = await session.run(feeds), found = {};
    for (const [output, tensor] of Object.entries(outputs)) found[output] = tensor.data;
    return found;
  }
}
