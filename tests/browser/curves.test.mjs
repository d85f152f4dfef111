// What is measured in the background, on both engines: curves for every transform, and the check of an allocation; both as the command line
// has them.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { check, group, prompt, root, setUp } from "./harness.mjs";
import { changed, download, hook, looks, open, ready, sample, shots, size, status, text } from "./page.mjs";

const samples = path.join(root, "www/samples");
const digits = path.join(samples, "digits-test.npz");
/** The command line tool, where it was built beside this test's. */
const tool = path.resolve(path.dirname(process.env.XTASK_EXE), "waterfill");
const hasTool = fs.existsSync(tool);
if (!hasTool) console.log(`\n${tool} is not there: comparisons with the command line are left out`);
const waterfill = (...args) => execFileSync(tool, args, { cwd: shots, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
const json = (file) => JSON.parse(fs.readFileSync(path.join(shots, file), "utf8"));

const data = (page, name, key) => hook(page, name).evaluate((e, key) => e.dataset[key], key);
/** Waits until an element says that it is in one of these states. */
const is = (page, name, ...wanted) =>
  page.waitForFunction(([name, wanted]) => wanted.includes(document.querySelector(`[data-testid="${name}"]`)?.dataset.state), [name, wanted], { timeout: 180000 });
const points = async (page) => Number((await data(page, "measured-curves", "points")) ?? 0);
/** Waits until more points than these are there. */
const more = (page, than) =>
  page.waitForFunction((than) => Number(document.querySelector('[data-testid="measured-curves"]').dataset.points ?? 0) > than, than, { timeout: 120000 });
const curves = () => ["measured-curves", "measure-curves", "measure-curves-cancel"];
/** Clicks, and returns the milliseconds until an element is in a state. */
const until = (page, clicked, name, state) =>
  page.evaluate(
    ([clicked, name, state]) =>
      new Promise((resolve) => {
        const start = performance.now();
        document.querySelector(`[data-testid="${clicked}"]`).click();
        const look = () => (document.querySelector(`[data-testid="${name}"]`).dataset.state === state ? resolve(performance.now() - start) : setTimeout(look, 5));
        look();
      }),
    [clicked, name, state],
  );

const { browser, server, engines, end } = await setUp();
const [figure, button, stop] = curves();

for (const [engine, url, options] of engines) {
  await group(`${engine}: measured curves`, async () => {
    const page = await open(browser, url, { ...options, method: "transform" });
    check("without a model there are none", (await data(page, figure, "state")) === "no-model" && (await hook(page, button).isDisabled()));
    await sample(page, "sample-alexnet");
    check("nor without images", (await data(page, figure, "state")) === "no-images" && (await hook(page, "measured-json").isDisabled()), await data(page, figure, "state"));
    await hook(page, "test-input").setInputFiles(digits);
    await is(page, figure, "ready");

    await hook(page, button).focus();
    await page.keyboard.press("Enter");
    await more(page, 2);
    check("points come one by one, in the background", (await data(page, figure, "state")) === "running" && (await status(page)) === "ready", await status(page));
    check("in words", /Measuring: \d+ of 32 points/.test(await text(page, figure)), await text(page, figure));
    check("all transforms are drawn first", /rate \(bits per weight\)/.test(await hook(page, "measured-plot-distortion").innerHTML()));
    const early = JSON.parse((await download(page, "measured-json")).content);
    check("what there is can be had", early.points.length > 0 && early.points.length < 32 && early.points.every((p) => p.rate_asked === 2 || early.points.length > 4), early.points.length);

    const before = await size(page);
    await hook(page, "budget-number").fill("3");
    await changed(page, () => size(page), before);
    check("the budget is live meanwhile", (await size(page)) < before && (await data(page, figure, "state")) === "running", await data(page, figure, "state"));
    await hook(page, "evaluate").click();
    await is(page, "accuracy-readout", "done");
    const had = await points(page);
    await more(page, had);
    check("other work goes first, and it goes on", (await points(page)) > had && (await data(page, figure, "state")) === "running");

    const took = await until(page, stop, figure, "stopped");
    prompt("stopping takes effect", took, 200);
    check("it is said", /^Cancelled\. \d+ measured points stay\.$/.test(await page.textContent(".said")), await page.textContent(".said"));
    await page.waitForTimeout(500);
    const stopped = JSON.parse((await download(page, "measured-json")).content).points;
    check("points stay", stopped.length === (await points(page)) && stopped.length > had && stopped.length < 32, stopped.length);
    check("and can be gone on with", /Go on/.test(await text(page, button)) && (await hook(page, stop).count()) === 0, await text(page, button));
    await hook(page, button).click();
    await is(page, figure, "done");
    const saved = JSON.parse((await download(page, "measured-json")).content);
    check("all points are there, those of before first", saved.points.length === 32 && JSON.stringify(saved.points.slice(0, stopped.length)) === JSON.stringify(stopped));
    const csv = String((await download(page, "measured-csv")).content).trim().split("\n");
    check("as CSV, too", csv.length === 33 && csv[0].startsWith("transform,bits_asked"), csv[0]);
    const svg = await download(page, "measured-svg");
    check("and as a picture", svg.name === "alexnet-digits-measured.svg" && /top-1 accuracy/.test(String(svg.content)), svg.name);
    await hook(page, "measured-values").click();
    const rows = await hook(page, figure).locator("tbody tr").count();
    check("and as a table", rows >= 28, rows);
    await hook(page, "measured-values").click();
    if (hasTool) {
      waterfill("curves", path.join(samples, "alexnet-digits.onnx"), "--data", digits, "--json", `${engine}-curves.json`);
      const native = json(`${engine}-curves.json`).points;
      const near = (a, b) => a.transform === b.transform && a.rate_asked === b.rate_asked && Math.abs(a.bytes / b.bytes - 1) < 0.001 && Math.abs(a.db - b.db) < 0.2 && Math.abs(a.top1 - b.top1) < 0.01;
      const off = native.filter((point, i) => !near(point, saved.points[i]));
      check("the command line measures the same", native.length === 32 && off.length === 0, off);
    }
    await looks(page, { measured: hook(page, figure) });
    check("no errors", page.errors.length === 0, page.errors);
    await page.context().close();
  });

  await group(`${engine}: what was predicted, measured`, async () => {
    const page = await open(browser, url, { ...options, method: "transform" });
    await sample(page, "sample-alexnet");
    // Test images that do not fit the network.
    await hook(page, "test-input").setInputFiles(path.join(root, "tests/fixtures/data/cifar10.bin"));
    await is(page, "accuracy-readout", "cannot-run");
    await hook(page, "calibration-input").setInputFiles(digits);
    await is(page, "calibration", "ready");
    check("do not stand in the way of calibrating", !(await hook(page, "calibrate").isDisabled()) && (await data(page, "accuracy-readout", "state")) === "cannot-run");
    check("uncalibrated, nothing is predicted", (await hook(page, "check-readout").count()) === 0);
    await hook(page, "calibration-images").fill("60");
    await hook(page, "calibrate").click();
    await is(page, "calibration", "done");
    await is(page, "check-readout", "done");
    const numbers = async () => ({ predicted: Number(await data(page, "check-readout", "predicted")), measured: Number(await data(page, "check-readout", "measured")) });
    const four = await numbers();
    const words = await text(page, "check-readout");
    check("both numbers are shown", four.predicted < -10 && four.measured < -10 && /Predicted−[\d.]+ dB/.test(words) && /Measured−[\d.]+ dB/.test(words), words);
    check("and the accuracy on labels", /Top-1 there[\d.]+ %, of [\d.]+ %/.test(words) && /on 60 calibration images/.test(words), words);
    check("in the background", (await status(page)) === "ready");
    const before = await size(page);
    await hook(page, "budget-number").fill("2.5");
    await changed(page, () => size(page), before);
    check("another budget is another check", (await data(page, "check-readout", "state")) !== "done", await data(page, "check-readout", "state"));
    await is(page, "check-readout", "done");
    const less = await numbers();
    check("less rate, more error", less.measured > four.measured + 3 && Math.abs(less.measured - less.predicted) < 6, { four, less });
    const report = JSON.parse((await download(page, "download-report")).content);
    const reported = { predicted: report.allocation.db, measured: -report.check.compressed.sqnr_db };
    check("the report has both", Math.abs(reported.predicted - less.predicted) < 1e-9 && Math.abs(reported.measured - less.measured) < 1e-9, { reported, less });
    check("encoding changes nothing", (await data(page, "check-readout", "state")) === "done");
    if (hasTool) {
      const file = `${engine}-check.json`;
      waterfill("compress", path.join(samples, "alexnet-digits.onnx"), "-o", `${engine}-check.tq`, "--bits", "2.5", "--method", "transform", "--calibration", digits, "--calibration-images", "60", "--report", file);
      const native = json(file);
      const tried = (report) => report.alternatives.map((a) => `${a.transform} ${a.steps_together}`).sort().join();
      check("the command line runs as many allocations, or one more or less", report.alternatives.length > 2 && Math.abs(native.alternatives.length - report.alternatives.length) <= 1, [tried(native), tried(report)]);
      // Sums of floats differ in their last bits between the two, which turns a rounding here and there, and so perhaps which of two nearly
      // equal bases, depths or sets of steps is taken: the files are equally long and equally good, not the same.
      const size = (report) => report.allocation.bytes;
      check("its file is as long", Math.abs(size(native) - size(report)) <= 0.002 * size(report), [size(native), size(report)]);
      check(
        "and says nearly the same of it",
        Math.abs(native.allocation.db - less.predicted) < 0.8 && Math.abs(-native.check.compressed.sqnr_db - less.measured) < 0.8,
        { predicted: native.allocation.db, measured: -native.check.compressed.sqnr_db, less },
      );
    }
    // Other work ends a check; the download makes up for it.
    await hook(page, "budget-number").fill("3.5");
    await changed(page, () => size(page), await size(page));
    const at = JSON.parse((await download(page, "download-report")).content);
    check("a report asked for at once has a check of its own", at.check.compressed.images === 60 && at.check.compressed.what.startsWith("3.5"), at.check.compressed.what);
    await is(page, "check-readout", "done");
    check("which is the one shown", Math.abs((await numbers()).measured + at.check.compressed.sqnr_db) < 1e-9, await numbers());

    // Draws, seed and form.
    const command = () => page.locator(".command code").first().textContent();
    const forms = await hook(page, "distortion-model").locator("option").evaluateAll((all) => all.map((o) => o.value));
    check("the forms of the distortion are those of the command line", ["model", "diagonal"].every((form) => forms.includes(form)), forms);
    await hook(page, "calibration-draws").fill("0");
    check("no draws are no calibration", (await data(page, "calibration", "state")) === "wrong-number" && /draws per image is a whole number/.test(await text(page, "calibration-state")), await text(page, "calibration-state"));
    await hook(page, "calibration-draws").fill("3");
    await hook(page, "calibration-seed").fill("7");
    await hook(page, "distortion-model").selectOption("diagonal");
    await is(page, "calibration", "outdated");
    await hook(page, "calibrate").click();
    await is(page, "calibration", "done");
    await ready(page);
    check("settings are in the command", (await command()).endsWith("--calibration digits-test.npz --calibration-images 60 --draws 3 --seed 7 --distortion diagonal"), await command());
    check("and sampled", /Samples180/.test(await text(page, "calibration-readout")), await text(page, "calibration-readout"));
    await is(page, "check-readout", "done");
    if (engine === "threads") {
      await looks(page, { check: page.locator(".result"), calibration: hook(page, "calibration") });
    }
    check("no errors", page.errors.length === 0, page.errors);
    await page.context().close();
  });
}

await group("a command for images in several files", async () => {
  const page = await open(browser, `${server.url}?threads=2`, { method: "transform" });
  await sample(page, "sample-alexnet");
  const folder = path.join(shots, "loose");
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(folder, { recursive: true });
  // A picture of 8 × 8 pixels, twice.
  const files = ["a.png", "b.png"].map((name) => path.join(folder, name));
  const drawn = await page.evaluate(() => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [8, 8];
    const context = canvas.getContext("2d");
    for (let i = 0; i < 64; i++) (context.fillStyle = `rgb(${4 * i},${4 * i},${4 * i})`), context.fillRect(i % 8, i >> 3, 1, 1);
    return canvas.toDataURL("image/png").split(",")[1];
  });
  files.forEach((file) => fs.writeFileSync(file, Buffer.from(drawn, "base64")));
  await hook(page, "calibration-input").setInputFiles(files);
  await hook(page, "calibration-summary").filter({ hasText: "2 images" }).waitFor({ timeout: 30000 });
  await ready(page);
  await hook(page, "preprocessing-edit").click();
  await hook(page, "preprocessing-channels").selectOption("grey");
  await hook(page, "preprocessing-mean").fill("0.3");
  await hook(page, "preprocessing-std").fill("0.4");
  await is(page, "calibration", "ready");
  await hook(page, "calibrate").click();
  await is(page, "calibration", "done");
  await ready(page);
  const command = await page.locator(".command .row code").textContent();
  check("names a folder to be put in", / --calibration DIR /.test(command), command);
  check("and the order of axes", command.includes("--channels grey --channels-last=false"), command);
  check("and says what that is", /DIR stands for a folder/.test(await text(page, "command-folder")), await text(page, "command-folder"));
  if (hasTool) {
    const words = command.split(" ").slice(2).map((word) => (word === "DIR" ? folder : word));
    words[0] = path.join(samples, "alexnet-digits.onnx");
    const out = waterfill("compress", ...words);
    check("with the folder it runs", /predicted/.test(out), out);
  }
  check("no errors", page.errors.length === 0, page.errors);
  await page.context().close();
});

await end();
