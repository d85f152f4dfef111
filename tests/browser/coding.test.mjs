// How indices are coded, on both engines: what the page shows after encoding is what the file holds, as the command line reads it.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { check, group, root, setUp } from "./harness.mjs";
import { cancelled, changed, download, hook, looks, open, rate, ready, sample, shots, size, text } from "./page.mjs";

const samples = path.join(root, "www/samples");
const digits = path.join(samples, "digits-test.npz");
/** The command line tool, where it was built beside this test's. */
const tool = path.resolve(path.dirname(process.env.XTASK_EXE), "waterfill");
const hasTool = fs.existsSync(tool);
if (!hasTool) console.log(`\n${tool} is not there: comparisons with the command line are left out`);
const waterfill = (...args) => execFileSync(tool, args, { cwd: shots, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

const command = (page) => page.locator(".command .row code").textContent();
/** Bytes of every layer, as the table has them. */
const layers = async (page) => (await hook(page, "layer-table").locator("tbody tr > :nth-child(7)").allTextContents()).map((bytes) => Number(bytes.replace(/\D/g, "")));
const is = (page, name, ...wanted) =>
  page.waitForFunction(([name, wanted]) => wanted.includes(document.querySelector(`[data-testid="${name}"]`)?.dataset.state), [name, wanted], { timeout: 180000 });
/** Chooses a coding, and waits for its curves. */
async function choose(page, coding) {
  const before = await command(page);
  await hook(page, "coding").selectOption(coding);
  await changed(page, () => command(page), before);
}
/** What is said of the file before it is there. */
const promise = (page) => page.locator(".downloads .buttons p").first().textContent();
/** Saves the `.tq`, and checks that size and table are the file's. */
async function saved(page, name) {
  const { content } = await download(page, "download-tq");
  check(`${name}: the size that is shown is the file's`, content.length === (await size(page)), { file: content.length, shown: await size(page) });
  check(`${name}: which is said`, /Exactly/.test(await promise(page)), await promise(page));
  if (hasTool) {
    const file = path.join(shots, `${name}.tq`.replaceAll(" ", "-"));
    fs.writeFileSync(file, content);
    const { allocation } = JSON.parse(waterfill("inspect", "--json", file));
    check(`${name}: the command line reads as many bytes`, allocation.bytes === (await size(page)), [allocation.bytes, await size(page)]);
    const rows = allocation.layers.map((layer) => layer.bytes);
    check(`${name}: in every layer`, JSON.stringify(rows) === JSON.stringify(await layers(page)), { rows, shown: await layers(page) });
  }
  return content.length;
}

const { browser, server, engines, end } = await setUp();

for (const [engine, url, options] of engines) {
  await group(`${engine}: codings`, async () => {
    const page = await open(browser, url, { ...options, method: "transform" });
    await sample(page, "sample-alexnet");
    check("lengths are fixed unless something else is chosen", (await hook(page, "coding").inputValue()) === "fixed" && !(await command(page)).includes("--coding"));
    await hook(page, "budget-number").fill("3");
    await changed(page, () => size(page), await size(page));
    const predicted = await size(page);
    const fixed = await saved(page, `${engine} fixed`);
    check("of fixed lengths the size is known before", fixed === predicted, { fixed, predicted });

    await choose(page, "depths");
    check("depths are in the command", (await command(page)).includes("--coding depths"), await command(page));
    check("and the file will be smaller", (await size(page)) === fixed && /Smaller than shown/.test(await promise(page)), [await size(page), await promise(page)]);
    await hook(page, "test-input").setInputFiles(digits);
    await is(page, "accuracy-readout", "ready");
    await hook(page, "evaluate").click();
    await is(page, "accuracy-readout", "done");
    await ready(page);
    const evaluated = await size(page);
    const depths = await saved(page, `${engine} depths`);
    check("entropy-coded, the same indices take less", depths < fixed, { fixed, depths });
    check("an evaluation shows the size that a download has", evaluated === depths, { evaluated, depths });
    check("and holds after it", (await hook(page, "accuracy-readout").getAttribute("data-state")) === "done", await text(page, "accuracy-state"));

    await choose(page, "entropy");
    check("entropy is in the command", (await command(page)).includes("--coding entropy"), await command(page));
    check("another coding is another network", /the coding has changed/.test(await text(page, "accuracy-state")), await text(page, "accuracy-state"));
    check("the file will be within the budget", /Within the budget/.test(await promise(page)), await promise(page));
    await saved(page, `${engine} entropy`);
    const used = await rate(page);
    check("at most the budget, at least 99.5 % of it", used <= 3 && used >= 0.995 * 3, used);
    await hook(page, "budget-unit").selectOption("size");
    const budget = Math.round(fixed * 0.8);
    await hook(page, "budget-number").fill(String(budget));
    await changed(page, () => command(page), await command(page));
    const entropy = await saved(page, `${engine} size`);
    check("and so in bytes", entropy <= budget && entropy >= 0.995 * budget, { entropy, budget });
    check("the number stays what was asked for", (await hook(page, "budget-number").inputValue()) === String(budget), await hook(page, "budget-number").inputValue());
    await hook(page, "budget-number").fill(String(budget + 5000));
    const other = await changed(page, () => size(page), entropy);
    await hook(page, "budget-number").fill(String(budget));
    check("back at the budget, the size is the file's again", (await changed(page, () => size(page), other)) === entropy, { entropy, now: await size(page) });
    if (hasTool) {
      const line = (await command(page)).split(" ").slice(2);
      check("the command names the budget", line.includes("--size") && line.includes(String(budget)), line);
      const words = line.map((word, i) => (i === 0 ? path.join(samples, word) : word));
      waterfill("compress", ...words);
      const native = fs.statSync(path.join(shots, "alexnet-digits.tq")).size;
      check("the command gives a file as long", Math.abs(native / entropy - 1) < 0.005, { native, entropy });
    }
    await hook(page, "copy-command").click();
    await page.locator(".command .hint", { hasText: /Copied|selected/ }).waitFor();

    const decoded = await download(page, "download-model");
    check("it decodes to its own format", decoded.name === "alexnet-digits.onnx" && decoded.content.length > 300000, decoded.name);
    await page.reload();
    await hook(page, "status").waitFor();
    await sample(page, "sample-alexnet");
    check("the coding is remembered", (await hook(page, "coding").inputValue()) === "entropy" && (await command(page)).includes("--coding entropy"), await command(page));
    check("no errors", page.errors.length === 0, page.errors);
    await page.context().close();
  });
}

await group("with calibration", async () => {
  const page = await open(browser, `${server.url}?threads=2`, { method: "transform" });
  const entropy = () => hook(page, "coding").locator('option[value="entropy"]');
  await sample(page, "sample-alexnet");
  await hook(page, "calibration-input").setInputFiles(digits);
  await is(page, "calibration", "ready");
  await hook(page, "calibration-images").fill("60");
  await choose(page, "entropy");
  await hook(page, "distortion-model").selectOption("measured");
  await is(page, "calibration", "not-measured");
  check("entropy is not calibrated with measured distortions", (await hook(page, "calibrate").isDisabled()) && /fixed depths/.test(await text(page, "calibration-state")), await text(page, "calibration-state"));
  await choose(page, "fixed");
  await is(page, "calibration", "ready");
  await hook(page, "calibrate").click();
  await is(page, "calibration", "running");
  check("nor measured distortions with entropy", (await entropy().isDisabled()) && /fixed depths/.test(await page.textContent("#coding-hint")), await page.textContent("#coding-hint"));
  await cancelled(page);
  await ready(page);
  check("which ends with the calibration", !(await entropy().isDisabled()) && !/fixed depths/.test(await page.textContent("#coding-hint")), await page.textContent("#coding-hint"));

  await hook(page, "distortion-model").selectOption("model");
  await hook(page, "calibrate").click();
  await is(page, "calibration", "done");
  await is(page, "check-readout", "done");
  await choose(page, "entropy");
  check("the curves stay calibrated", (await command(page)).includes("--coding entropy --calibration digits"), await command(page));
  await is(page, "check-readout", "done");
  const checked = await size(page);
  const used = await rate(page);
  check("a check shows the size that a download has, within the budget", used <= 4 && used >= 0.995 * 4, used);
  const bytes = await saved(page, "calibrated entropy");
  check("which has it", bytes === checked, { bytes, checked });
  check("and the check still holds", (await hook(page, "check-readout").getAttribute("data-state")) === "done");

  await looks(page, { budget: page.locator(".budget") });
  check("no errors", page.errors.length === 0, page.errors);
  await page.context().close();
});

await end();
