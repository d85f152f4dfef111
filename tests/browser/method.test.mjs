// What layers are compressed by, on both engines: error feedback from calibration on, against transforms at the same budget, and as the command line reads it.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { check, group, prompt, root, setUp } from "./harness.mjs";
import { cancelled, changed, download, hook, looks, open, rate, ready, sample, shots, size, text } from "./page.mjs";

const digits = path.join(root, "www/samples/digits-test.npz");
/** The command line tool, where it was built beside this test's. */
const tool = path.resolve(path.dirname(process.env.XTASK_EXE), "waterfill");
const hasTool = fs.existsSync(tool);
if (!hasTool) console.log(`\n${tool} is not there: comparisons with the command line are left out`);

const command = (page) => page.locator(".command .row code").textContent();
/** Waits until an element is in one of these states; if it does not come to be, says in which it is, and what the page says. */
async function is(page, name, ...wanted) {
  const there = ([name, wanted]) => wanted.includes(document.querySelector(`[data-testid="${name}"]`)?.dataset.state);
  try {
    await page.waitForFunction(there, [name, wanted], { timeout: 180000 });
  } catch (error) {
    const [state, line] = [await hook(page, name).getAttribute("data-state"), await page.locator(".status").textContent()];
    throw new Error(`${name} is ${state}, not ${wanted}; the page says: ${line}; errors: ${page.errors.join("; ") || "none"}; ${error}`);
  }
}
/** Chooses, and waits for what comes of it. */
async function choose(page, name, option) {
  const before = await command(page);
  await hook(page, name).selectOption(option);
  await changed(page, () => command(page), before);
}
async function budget(page, bits) {
  const before = await command(page);
  await hook(page, "budget-number").fill(String(bits));
  await changed(page, () => command(page), before);
}
/** The output's error in dB, of the network that a download holds. */
async function measured(page) {
  await is(page, "check-readout", "done");
  return Number(await hook(page, "check-readout").getAttribute("data-measured"));
}
const hint = (page, name) => page.textContent(`#${name}-hint`);
const feedback = (page) => hook(page, "method").locator('option[value="feedback"]');
const kinds = (page) => hook(page, "layer-table").locator("tbody tr > :nth-child(5)").allTextContents();
const seconds = (since) => ((performance.now() - since) / 1000).toFixed(1);

async function calibrated(page, images) {
  await hook(page, "calibration-input").setInputFiles(digits);
  await is(page, "calibration", "ready");
  await hook(page, "calibration-images").fill(String(images));
  await hook(page, "calibrate").click();
  await is(page, "calibration", "done");
  await ready(page);
}

const { browser, server, engines, end } = await setUp();

for (const [engine, url, options] of engines) {
  await group(`${engine}: error feedback`, async () => {
    const page = await open(browser, url, options);
    await sample(page);
    check("errors are fed back unless something else is chosen, once there is a calibration", (await hook(page, "method").inputValue()) === "feedback" && /begins with a calibration/.test(await hint(page, "method")), await hint(page, "method"));
    await hook(page, "method").selectOption("transform");
    check("until then it cannot be chosen again, and says so", (await feedback(page).isDisabled()) && /needs a calibration/.test(await hint(page, "method")), await hint(page, "method"));
    await calibrated(page, 100);
    check("calibrated, it can be chosen", !(await feedback(page).isDisabled()) && !/needs a calibration/.test(await hint(page, "method")), await hint(page, "method"));
    check("the command asks for transforms", (await command(page)).includes("--method transform"), await command(page));
    await budget(page, 2);
    await choose(page, "coding", "entropy");
    const transform = await measured(page);

    // Cancelled, the curves are still those of transforms.
    await hook(page, "method").selectOption("feedback");
    await hook(page, "cancel").waitFor();
    prompt("cancel takes effect", await cancelled(page), 200);
    await ready(page);
    check("a cancelled method is not taken", (await hook(page, "method").inputValue()) === "transform" && (await command(page)).includes("--method transform"), await command(page));
    check("and the coding can be chosen", !(await hook(page, "coding").isDisabled()));

    await choose(page, "coding", "depths");
    let start = performance.now();
    await choose(page, "method", "feedback");
    console.log(`     curves after ${seconds(start)} s`);
    check("the command has it, which says all", / --bits 2 --method feedback --calibration digits/.test(await command(page)), await command(page));
    check("it is entropy-coded, and says so", (await hook(page, "coding").isDisabled()) && (await hook(page, "coding").inputValue()) === "entropy" && /always entropy-coded/.test(await hint(page, "coding")), await hint(page, "coding"));
    start = performance.now();
    const fed = await measured(page);
    console.log(`     encoded, matched and run after ${seconds(start)} s: ${fed.toFixed(2)} dB, by transforms ${transform.toFixed(2)} dB`);
    check("at the same budget the output is closer than by transforms", fed < transform - 1, { fed, transform });
    const used = await rate(page);
    check("within the budget, and nearly all of it", used <= 2 && used >= 0.97 * 2, used);
    check("layers say so", (await kinds(page)).includes("feedback"), await kinds(page));
    const colour = await hook(page, "layer-table").locator('.transform[data-kind="feedback"]').first().evaluate((e) => getComputedStyle(e, "::before").backgroundColor);
    check("in a colour of their own", colour === "rgb(170, 50, 30)", colour);

    const shown = await size(page);
    const { content } = await download(page, "download-tq");
    check("the size that is shown is the file's", content.length === shown && content.length === (await size(page)), { file: content.length, shown, now: await size(page) });
    check("and the check still holds", (await hook(page, "check-readout").getAttribute("data-state")) === "done");
    const file = path.join(shots, `${engine}-feedback.tq`);
    fs.writeFileSync(file, content);
    if (hasTool) {
      const { allocation } = JSON.parse(execFileSync(tool, ["inspect", "--json", file], { encoding: "utf8" }));
      const bytes = (await hook(page, "layer-table").locator("tbody tr > :nth-child(7)").allTextContents()).map((bytes) => Number(bytes.replace(/\D/g, "")));
      check("the command line reads as many bytes", allocation.bytes === shown && allocation.rate === used, [allocation.bytes, shown, allocation.rate, used]);
      check("in every layer", JSON.stringify(allocation.layers.map((layer) => layer.bytes)) === JSON.stringify(bytes), bytes);
      const read = allocation.layers.map((layer) => (layer.feedback ? "feedback" : layer.transform));
      check("and what it is compressed by", JSON.stringify(read) === JSON.stringify(await kinds(page)), { read, shown: await kinds(page) });
    }
    const report = JSON.parse((await download(page, "download-report")).content);
    const { method, coding, matching } = report.curve_settings;
    check("the report knows the method", method === "feedback" && coding === "entropy" && matching && report.allocation.layers.some((layer) => layer.feedback), report.curve_settings);
    check("and what was measured", Math.abs(-report.check.compressed.sqnr_db - fed) < 1e-9, { fed, check: report.check.compressed.sqnr_db });

    await hook(page, "test-input").setInputFiles(digits);
    await is(page, "accuracy-readout", "ready");
    await hook(page, "evaluate").click();
    await is(page, "accuracy-readout", "done");
    await ready(page);
    const evaluated = JSON.parse((await download(page, "download-evaluation")).content).compressed;
    check("images that it was not calibrated on come out close, too", -evaluated.sqnr_db < transform - 1, { fed, transform, evaluated: -evaluated.sqnr_db });
    if (hasTool) {
      const args = ["eval", file, "--reference", path.join(root, "www/samples/resnet-digits.onnx"), "--data", digits, "--json"];
      const { compressed } = JSON.parse(execFileSync(tool, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
      check("as the command line runs the file", Math.abs(compressed.sqnr_db - evaluated.sqnr_db) < 0.01 && compressed.top1 === evaluated.top1, { native: compressed.sqnr_db, page: evaluated.sqnr_db });
    }

    await budget(page, 1.5);
    await hook(page, "download-tq").click();
    await hook(page, "cancel").waitFor();
    prompt("cancelling to encode takes effect", await cancelled(page), 200);
    await ready(page);
    check("the method stays", (await hook(page, "method").inputValue()) === "feedback" && (await command(page)).includes("--bits 1.5 --method feedback"), await command(page));
    const { content: smaller } = await download(page, "download-tq");
    check("and goes on to a smaller file", smaller.length < content.length && smaller.length === (await size(page)) && (await rate(page)) <= 1.5, [smaller.length, await size(page), await rate(page)]);

    await hook(page, "copy-command").click();
    await page.locator(".command .hint", { hasText: /Copied|selected/ }).waitFor();

    // The choice outlives the calibration.
    await hook(page, "calibrate-forget").click();
    await is(page, "calibration", "ready");
    await ready(page);
    check("without calibration the coding that was chosen is back", (await hook(page, "coding").inputValue()) === "depths" && !(await hook(page, "coding").isDisabled()) && (await command(page)).endsWith("--coding depths"), await command(page));
    check("and the method waits", (await hook(page, "method").inputValue()) === "feedback" && /begins with a calibration/.test(await hint(page, "method")) && !(await kinds(page)).includes("feedback"), await hint(page, "method"));
    await page.reload();
    await hook(page, "status").waitFor();
    await sample(page);
    check("also at the next visit", (await hook(page, "method").inputValue()) === "feedback" && !(await command(page)).includes("--method"), await command(page));
    start = performance.now();
    await calibrated(page, 100);
    console.log(`     calibrated, curves and all, after ${seconds(start)} s`);
    check("until it is calibrated", (await command(page)).includes("--method feedback --calibration") && (await kinds(page)).includes("feedback"), await command(page));
    check("no errors", page.errors.length === 0, page.errors);
    await page.context().close();
  });
}

await group("what stands against it", async () => {
  const page = await open(browser, `${server.url}?threads=2`);
  await sample(page, "sample-alexnet");
  await calibrated(page, 60);
  check("calibrated, errors are fed back", (await command(page)).includes("--method feedback"), await command(page));
  await hook(page, "distortion-model").selectOption("measured");
  await is(page, "calibration", "not-measured");
  check("error feedback is not calibrated with measured distortions", (await hook(page, "calibrate").isDisabled()) && /no error feedback/.test(await text(page, "calibration-state")), await text(page, "calibration-state"));
  await choose(page, "method", "transform");
  await is(page, "calibration", "outdated");
  await hook(page, "calibrate").click();
  await is(page, "calibration", "running");
  check("nor measured distortions with error feedback", (await feedback(page).isDisabled()) && /fixed depths/.test(await hint(page, "method")), await hint(page, "method"));
  await cancelled(page);
  await ready(page);
  check("which ends with the calibration", !(await feedback(page).isDisabled()) && !/fixed depths/.test(await hint(page, "method")), await hint(page, "method"));
  await hook(page, "distortion-model").selectOption("model");
  await is(page, "calibration", "done");
  await choose(page, "method", "feedback");
  await measured(page);

  await looks(page, { method: page.locator(".budget"), "method-page": page });

  const { content } = await download(page, "download-tq");
  const file = path.join(shots, "alexnet-feedback.tq");
  fs.writeFileSync(file, content);
  await hook(page, "model-input").setInputFiles(file);
  await page.locator(".said", { hasText: "compressed model" }).waitFor();
  await ready(page);
  check("an opened file says what it is compressed by", (await kinds(page)).includes("feedback") && (await hook(page, "method").isDisabled()), await kinds(page));
  check("no errors", page.errors.length === 0, page.errors);
  await page.context().close();
});

await end();
