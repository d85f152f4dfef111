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

/** In the page: one network. Milliseconds are of the fastest run, rates in GFLOP/s. */
async function measure([which, images, gradient]) {
  const best = async (count, once) => {
    let least = Infinity;
    for (let i = 0; i < count; i++) least = Math.min(least, await once());
    return least;
  };
  const rate = async (call, count) => {
    const { value } = await self.call(0, call, count);
    return (2e-6 * value) / (await best(15, async () => (await self.call(0, call, count)).time));
  };
  const [tile, product] = [await rate("tiles", 4000), await rate("products", 4)];
  const multiplications = (await self.call(0, "build", which, images)).value;
  await self.call(0, "run", gradient);
  await self.call(0, "peak");
  const one = await best(4, async () => (await self.call(0, "run", gradient)).time);
  const peak = (await self.call(0, "peak")).value;
  for (const i of [0, 1]) await self.call(i, "build", which, images / 2);
  const both = () => Promise.all([0, 1].map((i) => self.call(i, "run", gradient)));
  await both();
  const two = await best(4, async () => Math.max(...(await both()).map(({ time }) => time)));
  return { tile, product, one, two, peak, flops: 2 * multiplications * (gradient ? 3 : 1) };
}

const columns = ["", "images", "", "ms", "GFLOP/s", "of tile", "tile", "product", "peak MB", "2 threads"];
const line = (cells) => console.log(cells.map((cell, i) => (i % 2 || i > 2 ? String(cell).padStart(10) : String(cell).padEnd(17))).join(""));
line(columns);
try {
  for (const [which, name, images] of [[0, "ResNet-18", 4], [1, "ResNet-20", 32], [2, "MobileNet-v2", 4]]) {
    for (const gradient of [false, true]) {
      const { tile, product, one, two, peak, flops } = await page.evaluate(measure, [which, images, gradient]);
      const rate = flops / one / 1e6;
      const share = `${((100 * rate) / tile).toFixed(0)}%`;
      const cells = [one.toFixed(0), rate.toFixed(1), share, tile.toFixed(1), product.toFixed(1), (peak / 1e6).toFixed(0)];
      line([name, images, gradient ? "forward and back" : "forward", ...cells, `${(one / two).toFixed(2)}x`]);
    }
  }
} finally {
  await browser.close();
  await server.stop();
}
