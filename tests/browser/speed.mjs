// Forward and reverse passes of whole networks in Wasm, in Chromium: milliseconds, GFLOP/s, and how much of the rate of the kernel's
// tile alone that is; on one thread, and with half the images in each of two workers. `cargo xtask bench` builds `speed.wasm` and runs it.

import fs from "node:fs";
import { launch, newPage, root, serve } from "./harness.mjs";

const file = process.argv[2];
const browser = await launch();
console.log(`${file}: ${fs.statSync(file).size} bytes; Chromium ${browser.version()}`);
const server = await serve({ folder: `${root}/tests/browser` });
const page = await newPage(browser);
await page.goto(`${server.url}package.json`);

/** In the page: loads the module into two workers, which answer calls of its exports one by one. */
function start(module) {
  const worker = () => {
    let exports;
    onmessage = async ({ data }) => {
      if (data.bytes) {
        const module = await WebAssembly.compile(data.bytes);
        // Dependencies leave imports of wasm-bindgen behind; nothing that is timed calls them.
        const imports = {};
        for (const { module: from, name } of WebAssembly.Module.imports(module)) {
          (imports[from] ??= {})[name] = () => { throw new Error(`${name} was called`); };
        }
        exports = (await WebAssembly.instantiate(module, imports)).exports;
      }
      const start = performance.now();
      const value = data.call && exports[data.call](...data.values);
      postMessage({ value, time: performance.now() - start });
    };
  };
  const bytes = Uint8Array.from(atob(module), (c) => c.charCodeAt(0));
  const source = URL.createObjectURL(new Blob([`(${worker})()`], { type: "text/javascript" }));
  const ask = (worker, message) =>
    new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = (event) => reject(new Error(event.message));
      worker.postMessage(message);
    });
  const workers = [new Worker(source), new Worker(source)];
  self.call = (i, call, ...values) => ask(workers[i], { call, values });
  return Promise.all(workers.map((worker) => ask(worker, { bytes })));
}
await page.evaluate(start, fs.readFileSync(file).toString("base64"));

/**
 * In the page: one network, in rounds. What is compared with each other is measured within one round, a second apart, because the speed of a
 * shared machine changes; medians over the rounds come back. Times in milliseconds, rates in GFLOP/s.
 */
async function measure([which, images, gradient, rounds]) {
  const time = async (i, call, ...values) => (await self.call(i, call, ...values)).time;
  const rate = async (call, count) => {
    const { value } = await self.call(0, call, count);
    return (2e-6 * value) / (await time(0, call, count));
  };
  const multiplications = (await self.call(0, "build", which, images)).value;
  const flops = 2 * multiplications * (gradient ? 3 : 1);
  const found = [];
  for (let round = 0; round < rounds; round++) {
    await self.call(0, "build", which, images);
    await self.call(0, "run", gradient);
    const before = await rate("tiles", 16000);
    const one = await time(0, "run", gradient);
    const after = await rate("tiles", 16000);
    const product = await rate("products", 16);
    const tile = (before + after) / 2;
    const both = async (...call) => Math.max(...(await Promise.all([0, 1].map((i) => time(i, ...call)))));
    for (const i of [0, 1]) await self.call(i, "build", which, images / 2);
    await both("run", gradient);
    const two = await both("run", gradient);
    // What two threads gain at most on this machine now: twice the tiles, which share nothing, in what time?
    const alone = await time(0, "tiles", 16000);
    const ceiling = (2 * alone) / (await both("tiles", 16000));
    found.push({ one, rate: flops / one / 1e6, share: flops / one / 1e6 / tile, tile, product, threads: one / two, ceiling });
  }
  const middle = (key) => found.map((f) => f[key]).sort((a, b) => a - b)[Math.floor(rounds / 2)];
  await self.call(0, "build", which, images);
  await self.call(0, "peak");
  await self.call(0, "run", gradient);
  const peak = (await self.call(0, "peak")).value;
  return { ...Object.fromEntries(Object.keys(found[0]).map((key) => [key, middle(key)])), peak };
}

/** In the page: how many times as long one network takes per multiplication as another, forward and back, run in turns. */
async function against([[a, imagesA], [b, imagesB], rounds]) {
  const count = [(await self.call(0, "build", a, imagesA)).value, (await self.call(1, "build", b, imagesB)).value];
  const each = async (i) => (await self.call(i, "run", true)).time / count[i];
  await each(0);
  await each(1);
  const ratios = [];
  for (let round = 0; round < rounds; round++) {
    const before = await each(1);
    const other = await each(0);
    ratios.push((before + (await each(1))) / 2 / other);
  }
  return ratios.sort((x, y) => x - y)[Math.floor(rounds / 2)];
}

/** In the page: millions of weights that the entropy coder decodes a second, the best of some runs, and their rate. */
async function decoding([scale, signs, rounds]) {
  const bits = (await self.call(0, "encode", scale, signs)).value;
  let best = 0;
  for (let round = 0; round < rounds; round++) {
    const { time, value } = await self.call(0, "decode");
    best = Math.max(best, value / time / 1e3);
  }
  return { bits, best };
}

const ROUNDS = 9;
const columns = ["", "images", "", "ms", "GFLOP/s", "of tile", "tile", "product", "peak MB", "2 threads", "of tile"];
const line = (cells) => console.log(cells.map((cell, i) => (i % 2 || i > 2 ? String(cell).padStart(10) : String(cell).padEnd(17))).join(""));
line(columns);
try {
  for (const [which, name, images] of [[0, "ResNet-18", 4], [1, "ResNet-20", 32], [2, "MobileNet-v2", 4]]) {
    for (const gradient of [false, true]) {
      const { one, rate, share, tile, product, peak, threads, ceiling } = await page.evaluate(measure, [which, images, gradient, ROUNDS]);
      const cells = [one.toFixed(0), rate.toFixed(1), `${(100 * share).toFixed(0)}%`, tile.toFixed(1), product.toFixed(1), (peak / 1e6).toFixed(0)];
      line([name, images, gradient ? "forward and back" : "forward", ...cells, `${threads.toFixed(2)}x`, `${ceiling.toFixed(2)}x`]);
    }
  }
  const ratio = await page.evaluate(against, [[0, 4], [2, 4], ROUNDS]);
  console.log(`MobileNet-v2 per multiplication, ResNet-18 being 1, forward and back, in turns: ${ratio.toFixed(2)}`);
  for (const scale of [0.3, 0.8, 1.6, 3.2, 12.8]) {
    for (const signs of [0, 1]) {
      const { bits, best } = await page.evaluate(decoding, [scale, signs, ROUNDS]);
      console.log(`decoding at ${bits.toFixed(2)} bits per weight, ${signs ? "contexts of signs" : "raw signs"}: ${best.toFixed(1)} million weights a second`);
    }
  }
} finally {
  await browser.close();
  await server.stop();
}
