// Three ways to run the same network in a page. Each has load(about), which may take a while, and
// run(pixels): Uint8Array [784] -> a promise of the ten logits, as integers.

const toInt8 = (values, { scale, zero }) =>
  Int8Array.from(values, (v) => Math.max(-128, Math.min(127, Math.round(v / scale) + zero)));

/** The course's C, as WebAssembly. */
class Own {
  name = "Our C";
  kernels = "lesson 47, SIMD";
  threads = 1;

  async load(about) {
    const bytes = await (await fetch(about.own.file)).arrayBuffer();
    const { instance } = await WebAssembly.instantiate(bytes, {});
    const { memory, image, logits, model_run: run } = instance.exports;
    this.ends = about.own;
    this.image = new Int8Array(memory.buffer, image(), 784);
    this.logits = new Int8Array(memory.buffer, logits(), about.classes.length);
    this.go = run;
  }

  async run(pixels) {
    for (let k = 0; k < 784; k++) this.image[k] = pixels[k] - 128;
    this.go();
    return this.logits.slice();
  }
}

/** LiteRT.js takes float32 tensors only: the file has QUANTIZE and DEQUANTIZE at its ends. */
class LiteRT {
  name = "LiteRT.js";
  kernels = "XNNPACK";

  async load(about, threads = 1) {
    const lib = await import("./vendor/litert/index.js");
    const folder = new URL("./vendor/litert/wasm/", import.meta.url).href;
    await lib.loadLiteRt(folder, { threads: threads > 1 });
    const options = { accelerator: "wasm", cpuOptions: { numThreads: threads } };
    this.model = await lib.loadAndCompile(about.litert.file, options);
    [this.lib, this.ends, this.threads] = [lib, about.litert, threads];
  }

  async run(pixels) {
    const input = new this.lib.Tensor(Float32Array.from(pixels, (p) => p / 255), [1, 28, 28, 1]);
    const [output] = await this.model.run(input);
    const found = toInt8(output.toTypedArray(), this.ends);
    input.delete();
    output.delete();
    return found;
  }
}

/** ONNX Runtime's file has scales of its own, and uint8 outputs: zero stands 128 lower here. */
class Ort {
  name = "onnxruntime-web";
  kernels = "MLAS";

  async load(about, threads = 1) {
    const lib = await import("./vendor/ort/ort.wasm.min.mjs");
    lib.env.wasm.wasmPaths = new URL("./vendor/ort/", import.meta.url).href;
    lib.env.wasm.numThreads = threads;
    lib.env.logLevel = "error";
    this.session = await lib.InferenceSession.create(about.ort.file);
    [this.lib, this.ends, this.threads] = [lib, about.ort, threads];
  }

  async run(pixels) {
    const values = Float32Array.from(pixels, (p) => p / 255);
    const input = new this.lib.Tensor("float32", values, [1, 1, 28, 28]);
    const { output } = await this.session.run({ input });
    return toInt8(output.data, this.ends);
  }
}

export const ENGINES = { own: Own, litert: LiteRT, ort: Ort };

const quantile = (values, part) => values.toSorted((a, b) => a - b)[Math.floor(values.length * part)];

/** {key: {median, low, high}}, ms for a picture: engines in turn, each in blocks of 10 ms or more. */
export async function race(engines, pixels, rounds = 21) {
  const block = async (engine, runs) => {
    const start = performance.now();
    for (let k = 0; k < runs; k++) await engine.run(pixels);
    return performance.now() - start;
  };
  const runs = {};
  const times = {};
  for (const key in engines) {
    for (runs[key] = 5; (await block(engines[key], runs[key])) < 10; ) runs[key] *= 2;
    times[key] = [];
  }
  const keys = Object.keys(engines);
  for (let round = 0; round < rounds; round++)
    for (let k = 0; k < keys.length; k++) {
      const key = keys[(k + round) % keys.length];
      times[key].push((await block(engines[key], runs[key])) / runs[key]);
    }
  return Object.fromEntries(
    keys.map((key) => [
      key,
      {
        median: quantile(times[key], 0.5),
        low: quantile(times[key], 0.25),
        high: quantile(times[key], 0.75),
        all: times[key],
      },
    ]),
  );
}
