// The engine's two parts: the way to a smaller model takes the first alone, whatever else is wanted fetches the rest, and where that fails nothing is lost.

import fs from "node:fs";
import path from "node:path";
import { askedFor, brotli, check, group, prompt, root, setUp } from "./harness.mjs";
import { cancelled, changed, chooseFigure, download, figureMade, hook, open, ready, size, text } from "./page.mjs";

const model = path.join(root, "www/samples/resnet-digits.onnx");
const digits = path.join(root, "www/samples/digits-test.npz");
/** What may come over the wire before somebody holds a smaller model, in bytes by brotli. */
const MOST = 1.2e6;

const { browser, engines, end } = await setUp();

const title = (page) => page.locator('[data-testid="figures"] [data-testid="figure-title"]').textContent();
const why = (page) => page.locator('[data-testid="figures"] .live-figure .state-line').textContent();

for (const [name, url, options] of engines) {
  await group(`${name}: the way to a smaller model`, async () => {
    // Without a service worker, which would fetch everything for use offline.
    const page = await open(browser, url, { ...options, serviceWorkers: "block" });
    const rest = () => askedFor(page, url).filter((file) => file.endsWith("engine_rest.wasm"));
    const file = page.locator('input[type="file"]').first();
    for (const [coding, bits] of [["fixed", "2.5"], ["depths", "2.6"], ["entropy", "2.7"]]) {
      await file.setInputFiles(model);
      await hook(page, "size-readout").waitFor({ timeout: 60000 });
      await ready(page);
      await hook(page, "coding").selectOption(coding);
      await page.waitForTimeout(400);
      await ready(page);
      const before = await size(page);
      await hook(page, "budget-number").fill(bits);
      await changed(page, () => size(page), before);
      const { content } = await download(page, "download-tq");
      check(`coding ${coding}: a smaller file`, content.length > 1000 && content.length < fs.statSync(model).size / 4, content.length);
    }
    const files = askedFor(page, url);
    check("takes one module of the engine, the first part", files.filter((f) => f.endsWith(".wasm")).length === 2 && rest().length === 0, files);
    if (name === "threads") check(`and is ${(MOST / 1e6).toFixed(1)} MB over the wire at most`, brotli(files) < MOST, brotli(files));

    // No network: the one sentence, and what was open stays.
    const refuse = (route) => route.abort();
    await page.context().route("**/engine_rest.wasm", refuse);
    const kept = await size(page);
    check("a figure that needs the rest says that it could not be fetched", (await chooseFigure(page, "spectrum")) === "failed" && /could not be fetched.*try again/.test(await why(page)), await why(page));
    await hook(page, "test-input").setInputFiles(digits);
    await page.waitForFunction(() => document.querySelector('[data-testid="test-error"]').textContent, null, { timeout: 30000 });
    check("so do images", /could not be fetched.*check the connection and try again/.test(await text(page, "test-error")), await text(page, "test-error"));
    check("the model is still open", (await size(page)) === kept);
    await page.context().unroute("**/engine_rest.wasm", refuse);
    page.errors.length = 0;

    // A slow one: who waits for the rest holds nobody up, and may stop waiting.
    let come;
    const slow = new Promise((resolve) => (come = resolve));
    await page.context().route("**/engine_rest.wasm", (route) => slow.then(() => route.continue()));
    await hook(page, "figure-histogram").click();
    await hook(page, "budget-number").fill("3");
    check("while the rest is on its way, budgets are spent", (await changed(page, () => size(page), kept)) > kept);
    await hook(page, "download-model").click();
    await page.locator(".doing", { hasText: /^fetching the part of the engine that this needs · \d+ kB$/ }).waitFor({ timeout: 10000 });
    check("a job that needs it says that it waits", (await page.locator(".track").first().getAttribute("aria-valuenow")) === null);
    prompt("its cancelling takes effect", await cancelled(page), 200);
    await ready(page);
    check("the model is as it was", (await size(page)) > kept);
    come();

    // It is there, for all of them.
    check("the figure that waited is made", (await figureMade(page)) === "done" && /histogram/i.test(await title(page)), await title(page));
    await hook(page, "test-input").setInputFiles(digits);
    await page.waitForFunction(() => !document.querySelector('[data-testid="evaluate"]').disabled, null, { timeout: 30000 });
    await hook(page, "evaluate").click();
    await page.waitForFunction(() => document.querySelector('[data-testid="accuracy-readout"]').dataset.state === "done", null, { timeout: 60000 });
    const fetched = page.requests.filter((r) => r.endsWith("engine_rest.wasm")).length;
    check("the rest is there, and came once", rest().length === 1 && fetched === 3, { fetched });
    check("no errors", page.errors.length === 0, page.errors);
    await page.context().close();
  });
}

await end();
