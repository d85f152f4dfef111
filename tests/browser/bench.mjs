// From opening a file to its rate–distortion curve, in Wasm: with one thread, with the threaded build on one thread, and on two.
// `cargo xtask bench` builds what is needed and runs it; the file is made by `cargo bench --bench open_to_curve`.

import fs from "node:fs";
import { launch, newPage, root, serve } from "./harness.mjs";

const file = process.argv[2] ?? `${root}/target/bench/resnet50-sized.safetensors`;
const server = await serve();
const browser = await launch();
console.log(`${file}: ${fs.statSync(file).size} bytes; Chromium ${browser.version()}`);

/** Opens the file in an engine of its own, without the page's components, and times what the page would wait for. */
async function measure(name, query) {
  const page = await newPage(browser);
  await page.goto(server.url);
  await page.evaluate(() => {
    const input = document.createElement("input");
    input.type = "file";
    input.id = "bench-input";
    document.body.append(input);
  });
  await page.setInputFiles("#bench-input", file);
  const times = await page.evaluate(async (query) => {
    const files = [...document.querySelector("#bench-input").files];
    const worker = new Worker(document.querySelector("meta[name=engine]").content + query, { type: "module" });
    const answers = [];
    let wake = () => {};
    worker.onmessage = ({ data }) => {
      answers.push([performance.now(), data]);
      wake();
    };
    async function until(kind, job) {
      for (;;) {
        const found = answers.find(([, data]) => data[kind] && (job === undefined || data[kind].job === job));
        if (found) return found[0];
        const failed = answers.find(([, data]) => data.Failed);
        if (failed) throw new Error(failed[1].Failed.error);
        await new Promise((resolve) => (wake = resolve));
      }
    }
    await until("Ready");
    const allocation = { budget: { bits: 4 }, transform: "auto", locks: [], excludes: [] };
    const start = performance.now();
    worker.postMessage({ Open: { job: 1, files, curves: { blocks: 8 }, allocation } });
    const curve = (await until("Curves", 1)) - start;
    await until("Allocated", 1);
    const budgets = performance.now();
    const count = 50;
    for (let i = 0; i < count; i++) {
      const job = 2 + i;
      worker.postMessage({ Allocate: { job, allocation: { ...allocation, budget: { bits: 1 + 0.14 * i } } } });
      await until("Allocated", job);
    }
    const budget = (performance.now() - budgets) / count;
    const encoding = performance.now();
    worker.postMessage({ Encode: { job: 1000 } });
    const encode = (await until("Encoded", 1000)) - encoding;
    worker.terminate();
    return { curve, budget, encode };
  }, query);
  const seconds = (ms) => `${(ms / 1000).toFixed(2)} s`;
  console.log(`${name}: open to curve ${seconds(times.curve)}, a new budget ${times.budget.toFixed(2)} ms (with the message there and back), encode ${seconds(times.encode)}`);
  await page.context().close();
}

try {
  await measure("wasm, one thread", "?engine=st");
  await measure("wasm, threaded build, 1 thread", "?threads=1");
  await measure("wasm, threaded build, 2 threads", "?threads=2");
} finally {
  await browser.close();
  await server.stop();
}
