// The whole data-aware job on the page, timed: `node job.mjs MODEL IMAGES [NUMBER OF IMAGES] [DRAWS] [THREADS] [BITS]`, with the environment that
// `cargo xtask test` gives (XTASK_EXE, CHROMIUM), on what `cargo xtask build` made. Seconds for opening, statistics and curves, the check
// (allocations run on the calibration images, the best taken), and the download.

import { launch, root, serve } from "./harness.mjs";
import { download, hook, open, ready, text } from "./page.mjs";

const [model, images, number = "400", draws = "1", threads = "2", bits = ""] = process.argv.slice(2);
if (!images) throw new Error(`usage: node ${root}/tests/browser/job.mjs MODEL IMAGES [NUMBER] [DRAWS] [THREADS] [BITS]`);
const browser = await launch();
const server = await serve();
const page = await open(browser, `${server.url}?threads=${threads}`);
const is = (name, wanted) =>
  page.waitForFunction(([name, wanted]) => document.querySelector(`[data-testid="${name}"]`)?.dataset.state === wanted, [name, wanted], { timeout: 590000, polling: 50 });

let last = performance.now();
const begin = last;
const lap = (what) => {
  const now = performance.now();
  console.log(`${what.padEnd(24)} ${((now - last) / 1000).toFixed(1)} s`);
  last = now;
};
await hook(page, "model-input").setInputFiles(model);
await hook(page, "size-readout").waitFor({ timeout: 300000 });
await ready(page, 300000);
lap("open, and curves");
await hook(page, "calibration-input").setInputFiles(images);
await is("calibration", "ready");
await hook(page, "calibration-images").fill(number);
await hook(page, "calibration-draws").fill(draws);
if (bits) await hook(page, "budget-number").fill(bits);
lap("images");
await hook(page, "calibrate").click();
await is("calibration", "done");
await ready(page, 300000);
lap("statistics, and curves");
await is("check-readout", "done");
lap("allocations, checked");
const file = await download(page, "download-tq");
lap("file");
console.log(`${"together".padEnd(24)} ${((last - begin) / 1000).toFixed(1)} s; ${file.content.length} bytes`);
console.log(await text(page, "check-readout"));
console.log(`errors: ${JSON.stringify(page.errors)}`);
await browser.close();
await server.stop();
