// The page's first load, and its frames: bytes over the wire, the time until it can be used on a slow processor, and what a frame takes while the budget is dragged with a network
// of ResNet-50's size open, and until all parts of the page have followed. `cargo xtask bench` runs it; the file is made by `cargo bench --bench open_to_curve`.

import fs from "node:fs";
import path from "node:path";
import zlib from "node:zlib";
import { askedFor, brotli, dist, launch, newPage, root, serve } from "./harness.mjs";
import { hook, open, ready } from "./page.mjs";

const file = process.argv[2] ?? `${root}/target/bench/resnet50-sized.safetensors`;
const server = await serve();
const browser = await launch();
const median = (all) => [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)];
const kilobytes = (n) => `${(n / 1000).toFixed(0)} kB`;

/** Bytes of files of the page, as they are, by gzip and by brotli. */
function wire(files) {
  const sum = (of) => files.map((name) => of(fs.readFileSync(path.join(dist, name)))).reduce((a, b) => a + b, 0);
  return `${kilobytes(sum((d) => d.length))}, gzip ${kilobytes(sum((d) => zlib.gzipSync(d, { level: 9 }).length))}, brotli ${kilobytes(brotli(files))}`;
}

/** Milliseconds from the navigation until the page can be used, and until its engine runs, at 1/4 of the processor's speed. */
async function load() {
  const page = await newPage(browser);
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Emulation.setCPUThrottlingRate", { rate: 4 });
  await page.addInitScript(() => {
    const look = () => {
      if (!self.usable && document.querySelector('[data-testid="sample-resnet"]')) requestAnimationFrame(() => (self.usable ??= performance.now()));
      if (!self.engine && /thread/.test(document.querySelector('[data-testid="engine-info"]')?.textContent ?? "")) self.engine = performance.now();
      if (!self.usable || !self.engine) setTimeout(look, 5);
    };
    look();
  });
  await page.goto(server.url);
  await page.waitForFunction(() => self.usable, null, { timeout: 60000 });
  // The engine is loaded at the first sign of somebody who begins.
  const begun = await page.evaluate(() => performance.now());
  await page.mouse.move(1, 1);
  await page.mouse.move(2, 2);
  await page.waitForFunction(() => self.engine, null, { timeout: 60000 });
  const times = await page.evaluate((begun) => [self.usable, self.engine - begun], begun);
  const files = askedFor(page, server.url);
  await page.context().close();
  return { times, files };
}

/** What a task has within when it is the page's or its frame's, and not the collector's alone, which tidies up between frames. */
const WORK = ["FireAnimationFrame", "EventDispatch", "HandlePostMessage", "TimerFire", "FunctionCall", "ParseHTML", "HitTest", "UpdateLayoutTree", "Layout", "PrePaint", "Paint", "Layerize", "Commit"];

/** Of a trace: the processor's time that the page's thread took from each frame's start to the next; and of that, what was not the collector's alone. */
function ownTimes(trace) {
  const events = JSON.parse(trace).traceEvents;
  const { pid, tid } = events.find((e) => e.name === "FireAnimationFrame");
  const of = (...names) => events.filter((e) => names.includes(e.name) && e.pid === pid && e.tid === tid).sort((a, b) => a.ts - b.ts);
  const [calls, works] = [of("FireAnimationFrame"), of(...WORK)].map((all) => all.map((e) => e.ts));
  const [all, work] = [[], []];
  let end = 0;
  for (const task of of("RunTask").filter((e) => e.tdur !== undefined)) {
    // A task within a task is counted with it.
    if (task.ts < end) continue;
    end = task.ts + task.dur;
    const within = (times) => times.some((ts) => task.ts <= ts && ts < end);
    if (within(calls)) [all, work].forEach((times) => times.push(0));
    if (!all.length) continue;
    all[all.length - 1] += task.tdur / 1000;
    if (within(works)) work[work.length - 1] += task.tdur / 1000;
  }
  return { all, work };
}

/** What a page's main thread takes from the start of each frame until it is free again is kept in `spent` from now on, tasks that are too long for two frames in `tasks`. */
const watch = (page) =>
  page.evaluate(() => {
    self.tasks = [];
    new PerformanceObserver((list) => self.tasks.push(...list.getEntries().map((e) => e.duration))).observe({ type: "long-animation-frame" });
    self.spent = [];
    // One channel for all frames: each that is left to the browser's collector has to be closed by it, which would make it late itself.
    const channel = new MessageChannel();
    channel.port1.onmessage = ({ data: begun }) => self.spent.push(performance.now() - begun);
    const turn = (begun) => {
      channel.port2.postMessage(begun);
      requestAnimationFrame(turn);
    };
    requestAnimationFrame(turn);
  });

/** A page with the file open. */
async function opened() {
  const page = await open(browser, server.url);
  await page.locator('input[type="file"]').first().setInputFiles(file);
  await hook(page, "size-readout").waitFor({ timeout: 180000 });
  await ready(page, 180000);
  await page.locator('[data-testid="budget-slider"]').scrollIntoViewIfNeeded();
  await watch(page);
  return page;
}

/** A page with nothing but a slider, whose frames compute for 5 ms: what is late there is late by the machine. */
async function bare() {
  const page = await newPage(browser);
  await page.setContent('<input data-testid="budget-slider" type="range" max="1000" style="width: 300px; margin: 300px">');
  await page.evaluate(() => {
    let asked = false;
    const compute = () => {
      asked = false;
      const until = performance.now() + 5;
      while (performance.now() < until);
    };
    document.querySelector("input").addEventListener("input", () => (asked ||= !!requestAnimationFrame(compute)));
  });
  await watch(page);
  return page;
}

/** The figure of an open file has followed, and what rested goes on. */
async function followed(page) {
  await page.waitForTimeout(1000);
  await hook(page, "live-figure").and(page.locator('[data-state="done"]')).waitFor();
  await page.waitForFunction(() => !document.querySelector("main > .rests"), null, { timeout: 10000 });
  await page.waitForTimeout(250);
}

/** The slider is dragged, and the page follows. What its frames took. */
async function drag(page, follow = followed) {
  await page.evaluate(() => (self.spent.length = self.tasks.length = 0));
  const box = await page.locator('[data-testid="budget-slider"]').boundingBox();
  await page.mouse.move(box.x + box.width * 0.3, box.y + box.height / 2);
  // A hand comes to a slider before it presses.
  await page.waitForTimeout(100);
  await page.mouse.down();
  for (let i = 0; i <= 120; i++) {
    await page.mouse.move(box.x + box.width * (0.3 + 0.004 * i), box.y + box.height / 2);
    await page.waitForTimeout(16);
  }
  await page.mouse.up();
  await follow(page);
  const found = await page.evaluate(() => ({ spent: [...self.spent], tasks: [...self.tasks] }));
  // And it leaves.
  await page.mouse.move(box.x, box.y - 200);
  await page.waitForTimeout(500);
  return found;
}

/** Of a drag in a page of its own: the processor's time that its frames took, by a trace, which takes some itself. */
async function traced() {
  const page = await opened();
  await browser.startTracing(page, { categories: ["devtools.timeline", "disabled-by-default-devtools.timeline"] });
  await drag(page);
  const own = ownTimes(await browser.stopTracing());
  await page.context().close();
  return own;
}

try {
  const loads = [];
  for (let i = 0; i < 5; i++) loads.push(await load());
  const { files } = loads[0];
  // What is kept for use offline is fetched later, both engines and the samples among it.
  const pageFiles = files.filter((name) => !/^(engine|samples)/.test(name));
  console.log(`first load, until the page can be used: ${wire(pageFiles)}`);
  console.log(`first load, its engine with it: ${wire([...pageFiles, ...files.filter((name) => /engine-mt|worker/.test(name))])}`);
  const [usable, running] = [0, 1].map((i) => median(loads.map((l) => l.times[i])));
  console.log(`at a quarter of the processor's speed, median of 5: usable after ${Math.round(usable)} ms, its engine runs ${Math.round(running)} ms after the first move`);
  const words = (all) => `${all.length} frames, median ${median(all).toFixed(1)} ms, most ${Math.max(...all).toFixed(1)} ms, ${all.filter((ms) => ms > 16).length} above 16 ms`;
  const page = await opened();
  // In the first the compiler of the browser makes what has become hot faster, beside all else.
  for (const which of ["first", "second", "third"]) {
    const { spent, tasks } = await drag(page);
    console.log(`${path.basename(file)}, the budget dragged for the ${which} time: ${words(spent)}; ${tasks.length} above 50 ms`);
  }
  await page.context().close();
  const slider = await bare();
  const alone = [];
  for (let i = 0; i < 3; i++) alone.push(...(await drag(slider, () => slider.waitForTimeout(3500))).spent);
  console.log(`a page with nothing but a slider, dragged three times: ${words(alone)}`);
  await slider.context().close();
  const own = await traced();
  console.log(`for the first time in another page, traced, the page's own time of the processor: ${words(own.all)}`);
  console.log(`without tasks of the collector alone: ${words(own.work)}`);
} finally {
  await browser.close();
  await server.stop();
}
