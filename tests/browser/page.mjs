// What a person does with any part of the page: open it, open a model, wait, read, download, cancel.

import fs from "node:fs";
import path from "node:path";
import { accessibility, check, newPage, root } from "./harness.mjs";

/** Where screenshots and files of the tests go. */
export const shots = path.join(root, "target/e2e");
fs.mkdirSync(shots, { recursive: true });
/** Waits until the page has drawn what an event changed: it does so after the event's handler has returned. A page that is left meanwhile has nothing to draw. */
export const drawn = (page) => page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))).catch(() => {});
/** The element of a name. Clicking and filling it end when the page has drawn what they changed. */
export function hook(page, name) {
  const element = page.locator(`[data-testid="${name}"]`);
  for (const action of ["click", "fill"]) {
    const act = element[action].bind(element);
    element[action] = async (...args) => {
      await act(...args);
      await drawn(page);
    };
  }
  return element;
}
export const text = async (page, name) => (await hook(page, name).textContent()).trim();
export const status = (page) => text(page, "status");
const isError = (s) => s.startsWith("error: ");

/** Waits until the status is `ready`, and fails on `error: …`. */
export async function ready(page, timeout = 60000) {
  await page.waitForFunction(
    () => /^(ready|error: )/.test(document.querySelector('[data-testid="status"]')?.textContent ?? ""),
    null,
    { timeout },
  );
  // Bars and the table follow one in each frame.
  await drawn(page);
  await drawn(page);
  const now = await status(page);
  if (isError(now)) throw new Error(now);
}
/** Waits until something has changed, and the page is ready again. */
export async function changed(page, read, before) {
  for (let tries = 0; tries < 200 && (await read()) === before; tries++) await page.waitForTimeout(25);
  await ready(page);
  return read();
}
export const size = async (page) => Number(await hook(page, "size-readout").getAttribute("data-bytes"));
export const rate = async (page) => Number(await hook(page, "rate-readout").getAttribute("data-rate"));

/** Opens the page, and waits until its engine runs; with a method as if it had been chosen at the visit before. */
export async function open(browser, url, { method, ...options } = {}) {
  const page = await newPage(browser, options);
  if (method) {
    const settings = { budget: { bits: 4 }, unit: "Bits", transform: "auto", blocks: 8, coding: "fixed", method };
    await page.addInitScript(([key, text]) => localStorage.getItem(key) ?? localStorage.setItem(key, text), ["waterfill.settings", JSON.stringify(settings)]);
  }
  await page.goto(url);
  await hook(page, "status").waitFor();
  // The engine is loaded for who moves.
  await page.mouse.move(1, 1);
  await page.mouse.move(2, 2);
  await page.waitForFunction(() => /thread/.test(document.querySelector('[data-testid="engine-info"]')?.textContent ?? ""), null, { timeout: 30000 });
  return page;
}
export async function sample(page, name = "sample-resnet") {
  await hook(page, name).click();
  await hook(page, "size-readout").waitFor({ timeout: 60000 });
  await ready(page);
}
/** Clicks, and returns the name and the content of what is downloaded. */
export async function download(page, name) {
  const [file] = await Promise.all([page.waitForEvent("download", { timeout: 60000 }), hook(page, name).click()]);
  const content = fs.readFileSync(await file.path());
  await ready(page);
  return { name: file.suggestedFilename(), content };
}
/** Waits until the figure that was asked for is there, and gives the state it ended in. */
export async function figureMade(page) {
  await page.waitForFunction(
    () => /done|failed/.test(document.querySelector('[data-testid="figures"] [data-testid="live-figure"]')?.dataset.state ?? ""),
    null,
    { timeout: 60000 },
  );
  return page.locator('[data-testid="figures"] [data-testid="live-figure"]').getAttribute("data-state");
}
/** Chooses a figure, and waits for the state it ends in. */
export async function chooseFigure(page, name) {
  await hook(page, `figure-${name}`).click();
  await page.waitForFunction((n) => document.querySelector(`[data-testid="figure-${n}"]`)?.getAttribute("aria-pressed") === "true", name);
  // One that was there before may still be shown.
  await page.waitForTimeout(400);
  return figureMade(page);
}
/** Cancels, and returns the milliseconds from the click to the page saying that the job is cancelled, measured in the page. */
export const cancelled = (page) =>
  page.evaluate(
    () =>
      new Promise((resolve) => {
        const start = performance.now();
        document.querySelector('[data-testid="cancel"]').click();
        const look = () => (document.querySelector(".said").textContent.startsWith("Cancelled") ? resolve(performance.now() - start) : setTimeout(look, 5));
        look();
      }),
  );

/** Writes a safetensors file of square layers, with rows of different variance. */
export function squares(file, count, width) {
  const length = width * width * 4;
  const header = {};
  for (let i = 0; i < count; i++) header[`block${i}.weight`] = { dtype: "F32", shape: [width, width], data_offsets: [i * length, (i + 1) * length] };
  const json = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.length));
  const values = new Float32Array(count * width * width);
  let seed = 1;
  for (let i = 0; i < values.length; i++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    values[i] = (seed / 2 ** 32 - 0.5) * (1 + (i % width) / 64);
  }
  fs.writeFileSync(file, Buffer.concat([prefix, json, Buffer.from(values.buffer)]));
  return file;
}

/** Lays out rows of the table that are out of sight too: a picture of the whole page shows them, and axe reads them. */
export const allRows = (page) => page.addStyleTag({ content: ".layers tbody tr { content-visibility: visible !important }" });

/**
 * Looks at the page in light and dark, wide and narrow: nothing is cut off, and axe finds nothing. `parts`: elements by the names of their pictures,
 * `NAME-SCHEME-WIDTH.png`; of the page itself, all of it. The page is left wide and light.
 */
export async function looks(page, parts) {
  await allRows(page);
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    for (const width of [1280, 390]) {
      await page.setViewportSize({ width, height: 900 });
      // Plots are drawn again once the window rests.
      await page.waitForTimeout(400);
      for (const [name, part] of Object.entries(parts)) {
        const file = path.join(shots, `${name}-${scheme}-${width}.png`);
        await part.screenshot(part === page ? { path: file, fullPage: true } : { path: file });
      }
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      check(`${Object.keys(parts)}: nothing is cut off at ${width} px, ${scheme}`, wide <= 0, wide);
    }
    const wrong = await accessibility(page);
    check(`${Object.keys(parts)}: axe finds nothing, ${scheme}`, wrong.length === 0, wrong);
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1280, height: 900 });
}
