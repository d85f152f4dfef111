// Images in, accuracy out, on both engines: choose, run, compare, find the damage, correct the preprocessing, cancel.

import fs from "node:fs";
import path from "node:path";
import zlib from "node:zlib";
import { check, group, prompt, root, serve, setUp } from "./harness.mjs";
import { cancelled, changed, download, hook, open, rate, ready, sample, shots, size, squares, status, text } from "./page.mjs";

const samples = path.join(root, "www/samples");
const digits = path.join(samples, "digits-test.npz");
/** Top-1 of the samples in percent, as docs/samples.md says. */
const published = Object.fromEntries(
  [...fs.readFileSync(path.join(root, "docs/samples.md"), "utf8").matchAll(/\| `(\w+)-digits\.onnx` \|.*\| ([\d.]+) \|/g)].map(([, name, top1]) => [name, Number(top1)]),
);

const state = (page) => hook(page, "accuracy-readout").getAttribute("data-state");
/** Waits until the readout is in a state. */
const reaches = (page, wanted, timeout = 60000) =>
  page.waitForFunction((wanted) => document.querySelector('[data-testid="accuracy-readout"]').dataset.state === wanted, wanted, { timeout });
/** A cell of the readout as a number: column 0 is full precision, 1 compressed. */
const value = async (page, row, column) => Number(await hook(page, "accuracy-readout").locator(`[data-row="${row}"] td`).nth(column).getAttribute("data-value"));
const shown = (page, row, column) => hook(page, "accuracy-readout").locator(`[data-row="${row}"] td`).nth(column).textContent();
/** Waits until images of this use are shown. */
const recognised = (page, key, words) => hook(page, `${key}-summary`).filter({ hasText: words }).waitFor({ timeout: 30000 });

/** CRC-32, which Node has from version 22 on. */
function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  return ~crc >>> 0;
}
/** A grey PNG of 8×8 pixels. */
function png(pixels) {
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const [length, crc] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    crc.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, crc]);
  };
  const header = Buffer.from([0, 0, 0, 8, 0, 0, 0, 8, 8, 0, 0, 0, 0]);
  const rows = Buffer.concat(Array.from({ length: 8 }, (_, y) => Buffer.concat([Buffer.from([0]), Buffer.from(pixels.subarray(8 * y, 8 * y + 8))])));
  return Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), chunk("IHDR", header), chunk("IDAT", zlib.deflateSync(rows)), chunk("IEND", Buffer.alloc(0))]);
}

const { browser, server, engines, end } = await setUp();

for (const [engine, url, options] of engines) {
  await group(`${engine}: accuracy, end to end`, async () => {
    const page = await open(browser, url, { ...options, method: "transform" });
    check("without a model the panel says what it needs", (await state(page)) === "no-model" && /Open a model/.test(await text(page, "accuracy-state")));
    check("and runs nothing", await hook(page, "evaluate").isDisabled());
    await hook(page, "test-input").setInputFiles(digits);
    await recognised(page, "test", "600 images");
    check("images are recognised without a model", /600 images, 8 × 8, grey, labelled/.test(await text(page, "test-summary")), await text(page, "test-summary"));
    check("the page stays idle", (await status(page)) === "idle", await status(page));
    await hook(page, "test-remove").click();
    await hook(page, "test-remove").waitFor({ state: "detached" });
    check("images are removed", !/600/.test(await text(page, "test-summary")));

    await sample(page);
    check("without images it says so", (await state(page)) === "no-images");
    await hook(page, "sample-test").click();
    await recognised(page, "test", "600 images");
    check("the test set is offered once", (await hook(page, "sample-test").count()) === 0);
    await hook(page, "preprocessing").waitFor();
    check("preprocessing is in words", /grey · × 1\/255 · − 0\.306 · ÷ 0\.3762/.test(await text(page, "preprocessing")), await text(page, "preprocessing"));

    await hook(page, "evaluate").click();
    await reaches(page, "done");
    await ready(page);
    const top1 = await value(page, "top1", 0);
    check("full precision is as published", Math.abs(100 * top1 - published.resnet) < 0.005, { top1, published: published.resnet });
    check("and shown in percent", (await shown(page, "top1", 0)) === `${published.resnet.toFixed(2)} %`, await shown(page, "top1", 0));
    const compressed = await value(page, "top1", 1);
    check("4 bits per weight cost little", compressed > 0.97 && compressed <= 1, compressed);
    check("the decisions are nearly the same", (await value(page, "agreement", 1)) > 0.97, await value(page, "agreement", 1));
    check("the output's error is measured", (await value(page, "distortion", 1)) > 0 && (await value(page, "sqnr", 1)) > 10, await value(page, "sqnr", 1));
    check("rows that do not exist are not shown", (await hook(page, "accuracy-readout").locator('[data-row="psnr"]').count()) === 0);
    check("on all images", (await value(page, "images", 0)) === 600 && (await value(page, "images", 1)) === 600);

    // Out of date, and up to date again.
    const before = await size(page);
    const [was, error] = [await hook(page, "budget-number").inputValue(), await value(page, "distortion", 1)];
    await hook(page, "budget-number").fill("2");
    const smaller = await changed(page, () => size(page), before);
    check("another budget makes it out of date", (await state(page)) === "outdated" && /allocation has changed/.test(await text(page, "accuracy-state")), await text(page, "accuracy-state"));
    await hook(page, "budget-number").fill(was);
    await changed(page, () => size(page), smaller);
    check("the old budget makes it hold again", (await state(page)) === "done", await state(page));
    await hook(page, "budget-number").fill("2");
    await changed(page, () => size(page), before);
    await hook(page, "evaluate").click();
    await reaches(page, "done");
    await ready(page);
    check("fewer bits, more error", (await value(page, "distortion", 1)) > 2 * error, { error, now: await value(page, "distortion", 1) });

    // The damage; meanwhile the budget is moved.
    await hook(page, "find-damage").click();
    await hook(page, "budget-number").fill("5");
    await changed(page, () => size(page), smaller);
    await hook(page, "damage-list").waitFor({ timeout: 60000 });
    await ready(page);
    check("what was found is of the budget before", (await state(page)) === "outdated", await state(page));
    const layers = await hook(page, "layer-table").locator("tbody tr").count();
    const row = hook(page, "damage-list").locator("tbody tr");
    check("the damage has a row for each layer", (await row.count()) === layers, { rows: await row.count(), layers });
    const shares = (await row.locator(".share").allTextContents()).map(Number.parseFloat);
    check("greatest first, all in all", shares.join() === [...shares].sort((a, b) => b - a).join() && Math.abs(shares.reduce((a, b) => a + b) - 100) < 0.1, shares);
    await row.first().locator("button").click();
    const name = (await row.first().locator("button").textContent()).split(" · ")[1];
    const picked = hook(page, "layer-table").locator("tr.selected th");
    check("a layer is picked out in the table", (await picked.textContent()) === name, name);
    const saved = await download(page, "download-evaluation");
    const report = JSON.parse(saved.content);
    check("the evaluation is saved", saved.name.endsWith(".json") && report.reference.top1 === top1 && report.damage.length === layers && report.data.images === 600);

    // Preprocessing.
    await hook(page, "evaluate").click();
    await reaches(page, "done");
    await page.locator(".preprocessing summary").click();
    await hook(page, "preprocessing-mean").fill("0.5");
    check("other inputs make it out of date", (await state(page)) === "outdated" && /preprocessing has changed/.test(await text(page, "accuracy-state")), await text(page, "accuracy-state"));
    await hook(page, "preprocessing-std").fill("0");
    check("nonsense is said", /deviation/.test(await page.locator("#preprocessing-wrong").textContent()), await page.locator("#preprocessing-wrong").textContent());
    check("and not run", await hook(page, "evaluate").isDisabled());
    await hook(page, "preprocessing-std").fill("0.3762");
    await hook(page, "evaluate").click();
    await reaches(page, "done");
    check("inputs do matter", (await value(page, "top1", 0)) !== top1 || (await value(page, "distortion", 1)) > 0);
    check("what was edited says so", /edited/.test(await text(page, "preprocessing")), await text(page, "preprocessing"));
    await hook(page, "preprocessing-reset").click();
    check("the guess is back", /0\.306/.test(await text(page, "preprocessing")) && (await state(page)) === "outdated");

    // Files that are no images.
    const wrong = path.join(shots, "notes.txt");
    fs.writeFileSync(wrong, "not images");
    await hook(page, "test-input").setInputFiles(wrong);
    await page.waitForFunction(() => document.querySelector('[data-testid="test-error"]').textContent !== "");
    const sentence = await text(page, "test-error");
    check("a wrong file is one sentence", /notes\.txt/.test(sentence) && sentence.endsWith("."), sentence);
    check("the status says it, too", (await status(page)) === `error: ${sentence}`, await status(page));
    check("the images stay", /600 images/.test(await text(page, "test-summary")));

    // Images where models are dropped.
    await hook(page, "test-remove").click();
    await hook(page, "test-remove").waitFor({ state: "detached" });
    await hook(page, "model-input").setInputFiles(digits);
    await recognised(page, "test", "600 images");
    await ready(page);
    check("images dropped as a model are images", /resnet-digits/.test(await page.textContent(".model-name")));

    // The compressed file alone.
    const tq = path.join(shots, `${engine}-accuracy.tq`);
    await hook(page, "budget-number").fill("4");
    await ready(page);
    fs.writeFileSync(tq, (await download(page, "download-tq")).content);
    await hook(page, "model-input").setInputFiles(tq);
    await page.waitForFunction(() => /There is no curve/.test(document.querySelector('[data-testid="rd-curve"]').textContent), null, { timeout: 30000 });
    await ready(page);
    check("another model has no result yet", (await state(page)) === "ready" && (await hook(page, "damage-list").count()) === 0, await state(page));
    await hook(page, "evaluate").click();
    await reaches(page, "done");
    check("a .tq is measured alone", (await value(page, "top1", 0)) > 0.97 && (await hook(page, "accuracy-readout").locator("thead th").count()) === 1);
    check("no errors", page.errors.length === 0, page.errors);
    await page.context().close();
  });

  await group(`${engine}: images in folders, networks that do not run, cancelling`, async () => {
    const page = await open(browser, url, { ...options, method: "transform" });
    // Two classes in a folder: what is in the digits' own classes does not matter here.
    const folder = path.join(shots, "folder");
    fs.rmSync(folder, { recursive: true, force: true });
    for (const [name, ink] of [["dark", 250], ["light", 20]]) {
      fs.mkdirSync(path.join(folder, name), { recursive: true });
      for (let i = 0; i < 3; i++) fs.writeFileSync(path.join(folder, name, `${i}.png`), png(Uint8Array.from({ length: 64 }, (_, p) => (p % 8 > i ? ink : 0))));
    }
    await hook(page, "calibration-folder").setInputFiles(folder);
    await recognised(page, "calibration", "6 images");
    check("folders name the classes", /6 images, 8 × 8, .*labelled, 2 classes/.test(await text(page, "calibration-summary")), await text(page, "calibration-summary"));
    const weights = squares(path.join(shots, "weights.safetensors"), 3, 32);
    await hook(page, "test-input").setInputFiles(digits);
    await recognised(page, "test", "600 images");
    await hook(page, "model-input").setInputFiles(weights);
    await hook(page, "size-readout").waitFor({ timeout: 60000 });
    await ready(page);
    await reaches(page, "cannot-run");
    check("weights alone cannot be run, and why", /weights\.safetensors/.test(await text(page, "accuracy-state")), await text(page, "accuracy-state"));
    check("and are not", await hook(page, "evaluate").isDisabled());

    // A new model keeps the images. Calibration images serve for the damage.
    await sample(page, "sample-densenet");
    await reaches(page, "ready");
    await hook(page, "find-damage").click();
    await hook(page, "damage-list").waitFor({ timeout: 120000 });
    await ready(page);
    const rows = hook(page, "damage-list").locator("tbody tr");
    check("densenet is as published", Math.abs(100 * (await value(page, "top1", 0)) - published.densenet) < 0.005, await value(page, "top1", 0));
    check("all its layers are listed", (await rows.count()) === 28, await rows.count());
    await hook(page, "calibration-remove").click();
    await hook(page, "calibration-remove").waitFor({ state: "detached" });
    check("without its images the damage is out of date", /Out of date/.test(await page.locator(".damage .wrong").textContent()), await page.locator(".damage .wrong").textContent());
    check("the accuracy is not", (await state(page)) === "done", await state(page));

    // Cancelling, with an engine that answers or is replaced: either way everything is there again.
    const kept = await value(page, "distortion", 1);
    await hook(page, "find-damage").click();
    await page.locator(".evaluation .doing", { hasText: /[1-9]\d* of/ }).waitFor({ timeout: 60000 });
    const took = await cancelled(page);
    prompt("cancel takes effect", took, 200);
    await page.waitForFunction(() => /is (still )?open/.test(document.querySelector(".said").textContent), null, { timeout: 60000 });
    await ready(page);
    check("what was measured is still shown", (await state(page)) === "done" && (await value(page, "distortion", 1)) === kept);
    await hook(page, "budget-number").fill("3");
    await reaches(page, "outdated");
    await ready(page);
    await hook(page, "evaluate").click();
    await reaches(page, "done");
    check("and can be measured again", (await value(page, "distortion", 1)) > kept);
    check("no errors", page.errors.length === 0, page.errors);
    await page.context().close();
  });

  await group(`${engine}: calibration, end to end`, async () => {
    const page = await open(browser, url, { ...options, method: "transform" });
    const calibration = () => hook(page, "calibration").getAttribute("data-state");
    const calibrates = (wanted) =>
      page.waitForFunction((wanted) => document.querySelector('[data-testid="calibration"]')?.dataset.state === wanted, wanted, { timeout: 120000 });
    const command = () => page.locator(".command code").textContent();
    const drawn = () => hook(page, "rd-curve").locator(".drawing").innerHTML();
    const transforms = () => hook(page, "transform").locator("option").allTextContents();
    const db = async () => Number(await hook(page, "distortion-readout").getAttribute("data-db"));
    const measure = () => hook(page, "distortion-readout").getAttribute("data-measure");

    await hook(page, "calibration-input").setInputFiles(digits);
    await recognised(page, "calibration", "600 images");
    check("without a model calibration says what it needs", (await calibration()) === "no-model" && (await hook(page, "calibrate").isDisabled()), await calibration());
    await sample(page);
    await calibrates("ready");
    const [weights, kept] = [await db(), await rate(page)];
    check("uncalibrated, errors are those of weights", (await measure()) === "distortion" && /weight error/.test(await page.textContent(".result")), await measure());
    check("there is no ELT yet", !(await drawn()).includes("ELT") && !(await transforms()).some((t) => t.includes("elt")), await transforms());
    check("nor in the command", !(await command()).includes("calibration"), await command());

    await hook(page, "calibration-images").fill("0");
    check("a number that means nothing is said", (await calibration()) === "wrong-number" && (await hook(page, "calibrate").isDisabled()), await calibration());
    await hook(page, "calibration-images").fill("400");
    await hook(page, "calibrate").click();
    await calibrates("done");
    await ready(page);
    const found = await text(page, "calibration-readout");
    check("what was found is shown", /Images400 of 600/.test(found) && /Samples400/.test(found) && /Sampling error[\d.]+ %/.test(found), found);
    check("errors are those of the output", (await measure()) === "output distortion" && (await db()) !== weights, { measure: await measure(), db: await db(), weights });
    check("in words, too", /network's output over its power/.test(await page.textContent(".result")) && /output over its power/.test(await page.locator("section", { has: hook(page, "layer-table") }).textContent()));
    check("the ELT has a line", (await drawn()).includes("ELT") && (await drawn()).includes("output distortion (dB)"));
    check("which is told", /one with the ELT/.test(await hook(page, "rd-curve").locator(".drawing").getAttribute("aria-label")));
    check("the rate is kept", Math.abs((await rate(page)) - kept) < 0.05, { kept, now: await rate(page) });
    check("the command calibrates", (await command()).endsWith("--bits 4 --method transform --calibration digits-test.npz"), await command());
    await hook(page, "transform").selectOption("elt-row");
    await changed(page, command, await command());
    const kinds = await hook(page, "layer-table").locator("tbody tr > :nth-child(5)").allTextContents();
    check("the ELT can be chosen", kinds.includes("elt-row") && !kinds.includes("klt-row") && Math.abs((await rate(page)) - kept) < 0.05, kinds);
    check("the command chooses it", /--transform elt-row --calibration/.test(await command()), await command());
    const colour = await hook(page, "layer-table").locator('.transform[data-kind="elt-row"]').first().evaluate((e) => getComputedStyle(e, "::before").backgroundColor);
    check("it has a colour of its own", colour === "rgb(126, 63, 178)", colour);

    await hook(page, "test-input").setInputFiles(digits);
    await recognised(page, "test", "600 images");
    await hook(page, "evaluate").click();
    await reaches(page, "done");
    await ready(page);
    check("networks agree", (await value(page, "agreement", 1)) > 0.97, await value(page, "agreement", 1));
    const report = JSON.parse((await download(page, "download-report")).content);
    check("the report knows the calibration", report.calibration.samples === 400 && report.allocation.measure === "output" && report.curves.lines.length === 4);
    await hook(page, "blocks").selectOption("4");
    await page.locator(".said", { hasText: "again." }).waitFor();
    await ready(page);
    check("other curves stay calibrated", (await calibration()) === "done" && /--blocks 4 --calibration digits/.test(await command()), await command());
    await hook(page, "blocks").selectOption("8");
    await changed(page, command, await command());

    await hook(page, "calibrate-forget").click();
    await calibrates("ready");
    await ready(page);
    check("forgetting restores", Math.abs((await db()) - weights) < 1e-9 && (await measure()) === "distortion", { weights, now: await db() });
    check("there is no ELT any more", !(await drawn()).includes("ELT") && !(await transforms()).some((t) => t.includes("elt")) && !(await command()).includes("calibration"));
    check("the transform is auto, and why", (await hook(page, "transform").inputValue()) === "auto" && /elt-row/.test(await page.textContent(".said")), await page.textContent(".said"));

    await hook(page, "calibration-images").fill("50");
    await hook(page, "distortion-model").selectOption("diagonal");
    await hook(page, "calibrate").click();
    await calibrates("done");
    await ready(page);
    check("settings are in the command", (await command()).endsWith("--calibration digits-test.npz --calibration-images 50 --distortion diagonal"), await command());

    // Cancelling keeps what was there, and the page works on.
    const before = await db();
    await hook(page, "calibration-images").fill("600");
    check("other settings make it out of date", (await calibration()) === "outdated" && /settings have changed/.test(await text(page, "calibration-state")), await text(page, "calibration-state"));
    await hook(page, "calibrate").click();
    await page.locator(".evaluation .doing", { hasText: /[1-9]\d* of/ }).waitFor({ timeout: 60000 });
    const took = await cancelled(page);
    prompt("cancel takes effect", took, 200);
    await calibrates("outdated");
    await ready(page);
    check("what was calibrated before is still there", (await db()) === before && (await command()).includes("--calibration-images 50"), { before, now: await db() });
    await hook(page, "budget-number").fill("3");
    await changed(page, command, await command());
    await hook(page, "calibrate").click();
    await calibrates("done");
    await ready(page);
    check("and can be calibrated again", /Samples600/.test(await text(page, "calibration-readout")) && (await rate(page)) < 3.05, await text(page, "calibration-readout"));

    await hook(page, "calibration-remove").click();
    await hook(page, "calibration").waitFor({ state: "detached" });
    await ready(page);
    check("without its images it is forgotten", (await measure()) === "distortion" && !(await command()).includes("calibration"), await command());
    check("no errors", page.errors.length === 0, page.errors);
    await page.context().close();
  });
}

await group("accuracy by keyboard alone", async () => {
  const page = await open(browser, `${server.url}?threads=2`, { method: "transform" });
  const unseen = [];
  const tabTo = async (wanted) => {
    for (let i = 0; i < 120; i++) {
      await page.keyboard.press("Tab");
      const { hook, seen } = await page.evaluate(() => {
        const e = document.activeElement;
        const visible = (e) => e && getComputedStyle(e).outlineStyle !== "none";
        return { hook: e.dataset.testid ?? e.className?.baseVal ?? e.className, seen: visible(e) || visible(e.nextElementSibling) || !!e.querySelector?.(".ring") };
      });
      if (!seen) unseen.push(hook);
      if (hook === wanted) return true;
    }
    return false;
  };
  await tabTo("sample-alexnet");
  await page.keyboard.press("Enter");
  await hook(page, "size-readout").waitFor({ timeout: 60000 });
  await ready(page);
  check("the test images' input is reached", await tabTo("test-input"));
  check("the sample's test set is reached", await tabTo("sample-test"));
  await page.keyboard.press("Enter");
  await recognised(page, "test", "600 images");
  await hook(page, "calibration-input").setInputFiles(digits);
  await recognised(page, "calibration", "600 images");
  await hook(page, "calibration").and(page.locator('[data-state="ready"]')).waitFor();
  check("the calibration's settings are reached", (await tabTo("calibration-images")) && (await tabTo("distortion-model")));
  check("and its button", await tabTo("calibrate"));
  await page.keyboard.press("Enter");
  await hook(page, "calibration-readout").waitFor({ timeout: 60000 });
  await ready(page);
  check("forgetting it is reached", await tabTo("calibrate-forget"));
  await page.keyboard.press("Enter");
  await hook(page, "calibration-readout").waitFor({ state: "detached", timeout: 60000 });
  await ready(page);
  await hook(page, "preprocessing").waitFor();
  check("the form is reached", await tabTo("preprocessing-edit"));
  await page.keyboard.press("Enter");
  check("its fields are reached", await tabTo("preprocessing-mean"));
  check("the damage is reached", await tabTo("find-damage"));
  await page.keyboard.press("Enter");
  await hook(page, "damage-list").waitFor({ timeout: 60000 });
  await ready(page);
  await hook(page, "download-evaluation").focus();
  // Terms on the way are explained, and so can have the focus.
  const onLayer = () => page.evaluate(() => document.activeElement.matches(".damage button[aria-pressed]"));
  for (let i = 0; i < 8 && !(await onLayer()); i++) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  check("a layer is picked", (await page.locator('.damage button[aria-pressed="true"]').count()) === 1);
  check("the focus was always seen", unseen.length === 0, unseen);
  check("no errors", page.errors.length === 0, page.errors);
  await page.context().close();
});

await group("a lost engine is given its calibration again", async () => {
  const page = await open(browser, `${server.url}?threads=2`, { method: "transform" });
  const command = () => page.locator(".command code").textContent();
  await sample(page);
  await hook(page, "calibration-input").setInputFiles(digits);
  await recognised(page, "calibration", "600 images");
  await hook(page, "calibrate").click();
  await hook(page, "calibration-readout").waitFor({ timeout: 60000 });
  await ready(page);
  await hook(page, "transform").selectOption("elt-col");
  const before = await changed(page, command, await command());
  const size0 = await size(page);
  // An engine that does not hear of the cancel is replaced.
  await page.evaluate(() => {
    const post = Worker.prototype.postMessage;
    Worker.prototype.postMessage = function (message, ...rest) {
      if (!message.Cancel) post.call(this, message, ...rest);
    };
  });
  await hook(page, "calibration-images").fill("600");
  await hook(page, "calibrate").click();
  await page.locator(".evaluation .doing", { hasText: /[1-9]\d* of/ }).waitFor({ timeout: 60000 });
  const took = await cancelled(page);
  prompt("cancel takes effect", took, 200);
  await page.locator(".said", { hasText: "Calibrated on 400 images" }).waitFor({ timeout: 60000 });
  await changed(page, async () => (await command()) === before, false);
  check("transform and calibration are as they were", (await command()) === before && (await size(page)) === size0, { before, now: await command() });
  check("the settings that were cancelled are still asked for", (await hook(page, "calibration").getAttribute("data-state")) === "outdated");
  await hook(page, "calibrate").click();
  await page.locator(".said", { hasText: "Calibrated on 600 images" }).waitFor({ timeout: 60000 });
  await ready(page);
  check("and calibrate", (await command()).includes("--calibration-images 600"), await command());
  check("no errors", page.errors.length === 0, page.errors);
  await page.context().close();
});

await group("images dropped on their field", async () => {
  const page = await open(browser, `${server.url}?threads=2`, { method: "transform" });
  const content = fs.readFileSync(digits).toString("base64");
  await page.evaluate((content) => {
    const data = new DataTransfer();
    data.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], "digits-test.npz"));
    const field = document.querySelector('[data-use="calibration"]');
    for (const type of ["dragenter", "dragover", "drop"]) field.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
  }, content);
  await recognised(page, "calibration", "600 images");
  check("they are what the field is for", !/600/.test(await text(page, "test-summary")));
  check("no errors", page.errors.length === 0, page.errors);
  await page.context().close();
});

if (process.env.WATERFILL_DATA) {
  await group("a network on CIFAR-10", async () => {
    for (const [engine, url, options] of engines) {
      const page = await open(browser, url, { ...options, method: "transform" });
      await hook(page, "model-input").setInputFiles(path.join(process.env.WATERFILL_DATA, "resnet20.onnx"));
      await hook(page, "size-readout").waitFor({ timeout: 120000 });
      await ready(page, 120000);
      await hook(page, "test-input").setInputFiles(path.join(process.env.WATERFILL_DATA, "cifar10-test2000.npz"));
      await recognised(page, "test", "2,000 images, 32 × 32, RGB");
      await hook(page, "evaluate").click();
      await reaches(page, "done", 300000);
      await ready(page);
      check(`${engine}: 88.65 %`, (await shown(page, "top1", 0)) === "88.65 %", await shown(page, "top1", 0));
      console.log(`     ${engine}: ${await shown(page, "seconds", 0)} and ${await shown(page, "seconds", 1)} for 2000 images; compressed ${await shown(page, "top1", 1)}`);
      await hook(page, "calibration-input").setInputFiles(path.join(process.env.WATERFILL_DATA, "cifar10-calib1000.npz"));
      await recognised(page, "calibration", "1,000 images, 32 × 32, RGB");
      await hook(page, "calibrate").click();
      await page.waitForFunction(() => document.querySelector('[data-testid="calibration"]').dataset.state === "done", null, { timeout: 300000 });
      await ready(page);
      const words = await page.textContent(".said");
      check(`${engine}: calibrated on 400 images`, /^Calibrated on 400 images in /.test(words), words);
      console.log(`     ${engine}: ${words} ${await text(page, "calibration-readout")}`);
      check(`${engine}: no errors`, page.errors.length === 0, page.errors);
      await page.context().close();
    }
  });
} else {
  console.log("\nWATERFILL_DATA is not set: a network on CIFAR-10 was left out");
}

await end();
