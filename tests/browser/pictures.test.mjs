// A network from images to images: PSNR, pictures with a divider, and those of A and B.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { check, group, launch, root, serve } from "./harness.mjs";
import { changed, download, hook, looks, open, ready, sample, shots, size, status, text } from "./page.mjs";

const folder = path.join(root, "tests/pictures");
const [model, images] = [path.join(folder, "denoiser.onnx"), path.join(folder, "noisy-digits.npz")];
/** The command line tool, where it was built beside this test's. */
const tool = path.resolve(path.dirname(process.env.XTASK_EXE), "waterfill");
const hasTool = fs.existsSync(tool);
if (!hasTool) console.log(`\n${tool} is not there: comparisons with the command line are left out`);

const evaluated = async (page) => {
  await hook(page, "evaluate").click();
  await page.waitForFunction(() => document.querySelector('[data-testid="accuracy-readout"]').dataset.state === "done", null, { timeout: 120000 });
  await ready(page);
};
const row = (page, key) => hook(page, "ab-table").locator(`[data-row="${key}"]`).evaluate((tr) => [...tr.cells].map((c) => c.textContent.trim()));
/** PSNR as the page has it: the number, and its words. */
const psnr = (page) => hook(page, "accuracy-readout").locator('[data-row="psnr"] td').last().evaluate((td) => [Number(td.dataset.value), td.textContent]);
/** Pictures side by side: key, PSNR, words, and size and shades of the canvas. */
const layers = (page, id) =>
  hook(page, id).locator(".thumbs li").evaluateAll((items) =>
    items.map((li) => {
      const canvas = li.querySelector("canvas");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      const name = canvas.getAttribute("aria-label");
      return { key: li.dataset.layer, psnr: Number(li.dataset.psnr ?? "nan"), role: canvas.getAttribute("role"), name, size: [canvas.width, canvas.height], shades: [...data].filter((_, i) => i % 4 === 0) };
    }),
  );
const differ = (a, b) => a.shades.some((v, i) => v !== b.shades[i]);
/** Colour of a point of what is seen on the stage, at these parts of its width and height. */
const seen = (page, id, x, y) => hook(page, `${id}-stage`).evaluate((stage, [x, y]) => {
  const at = parseFloat(getComputedStyle(stage).getPropertyValue("--at")) / 100;
  const canvas = stage.querySelectorAll("canvas")[x < at ? 1 : 0];
  return canvas.getContext("2d").getImageData(Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1).data[0];
}, [x, y]);

const browser = await launch();
const server = await serve();

await group("pictures of an evaluation, and of A and B", async () => {
  const page = await open(browser, `${server.url}?threads=2`, { method: "transform" });
  await hook(page, "model-input").setInputFiles(model);
  await hook(page, "size-readout").waitFor({ timeout: 60000 });
  await ready(page);
  await hook(page, "test-input").setInputFiles(images);
  await hook(page, "test-summary").filter({ hasText: "12 images" }).waitFor({ timeout: 30000 });
  await ready(page);
  check("no pictures before an evaluation", (await hook(page, "pictures").count()) === 0);
  await evaluated(page);
  await hook(page, "pictures").waitFor();

  const readout = hook(page, "accuracy-readout");
  const [db, words] = await psnr(page);
  check("PSNR in decibels", words === `${db.toFixed(2)} dB` && db > 10 && db < 60, words);
  check("no agreement and no top-1", (await readout.locator('[data-row="agreement"], [data-row="top1"]').count()) === 0);
  check("the peak is said", /PSNR is for a peak of 1\./.test(await readout.textContent()), await readout.textContent());
  const shown = await layers(page, "pictures");
  check("both networks and the input", shown.map((l) => l.key).join() === "full,compressed,input" && shown.every((l) => l.size.join() === "32,32" && l.role === "img"), shown.map((l) => [l.key, l.size, l.role]));
  check("with their names and PSNR", /^image 1: Compressed, PSNR \d+\.\d\d dB$/.test(shown[1].name) && shown[0].name === "image 1: Full precision", shown.map((l) => l.name));
  check("which are not one picture", differ(shown[0], shown[1]) && differ(shown[0], shown[2]));
  const error = shown[0].shades.reduce((sum, v, i) => sum + (v - shown[1].shades[i]) ** 2, 0) / 1024;
  check("PSNR is that of what is seen, but for rounding and clamping", Math.abs(10 * Math.log10(255 ** 2 / error) - shown[1].psnr) < 2, [10 * Math.log10(255 ** 2 / error), shown[1].psnr]);

  if (hasTool) {
    const json = path.join(shots, "pictures.json");
    execFileSync(tool, ["compress", model, "-o", path.join(shots, "pictures.tq"), "--bits", "4", "--transform", "auto", "--test", images, "--report", json], { stdio: ["ignore", "ignore", "pipe"] });
    const told = JSON.parse(fs.readFileSync(json, "utf8")).evaluation.compressed;
    check("PSNR is the command line's", Math.abs(told.psnr_db - db) < 1e-3 && told.pictures.peak === 1, [told.psnr_db, db]);
  }
  const saved = JSON.parse((await download(page, "download-evaluation")).content);
  check("and that of the saved evaluation", saved.compressed.psnr_db === db && saved.compressed.pictures.size.join() === "32,32,1", saved.compressed);

  // Another picture; the divider by keyboard and by pointer.
  await hook(page, "pictures-which").selectOption("2");
  const third = await layers(page, "pictures");
  check("another picture", differ(third[2], shown[2]) && /^image 7:/.test(third[0].name), third[0].name);
  const divider = hook(page, "pictures-divider");
  const at = () => hook(page, "pictures-stage").evaluate((e) => getComputedStyle(e).getPropertyValue("--at").trim());
  await divider.focus();
  for (let i = 0; i < 10; i++) await page.keyboard.press("ArrowRight");
  await page.waitForTimeout(50);
  check("the divider moves by keyboard", (await at()) === "60%" && /60 % of the width shows Full precision/.test(await divider.getAttribute("aria-valuetext")), [await at(), await divider.getAttribute("aria-valuetext")]);
  await page.keyboard.press("Home");
  await page.waitForTimeout(50);
  check("to the end: all is the compressed picture", (await at()) === "0%");
  const box = await hook(page, "pictures-stage").boundingBox();
  check("small pictures are enlarged", box.width >= 300 && Math.abs(box.width - box.height) < 2, box);
  await page.mouse.move(box.x + 20, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.75, box.y + box.height / 2, { steps: 4 });
  await page.mouse.up();
  await page.waitForTimeout(50);
  check("by pointer", (await at()) === "75%" && (await divider.inputValue()) === "75", await at());
  await page.mouse.move(box.x + 20, box.y + 20);
  check("and no further once it is let go", (await at()) === "75%");
  const pixel = 16 * 32 + 8;
  check("left of it is the full-precision picture", (await seen(page, "pictures", 8.5 / 32, 16.5 / 32)) === third[0].shades[pixel], [await seen(page, "pictures", 8.5 / 32, 16.5 / 32), third[0].shades[pixel]]);
  check("the stage says what is where", /left of the divider Full precision; right of it Compressed, PSNR/.test(await hook(page, "pictures-stage").getAttribute("aria-label")));
  await hook(page, "pictures-difference").check();
  await page.waitForTimeout(50);
  check("the difference, enlarged", /difference of Full precision and Compressed/.test(await hook(page, "pictures-stage").getAttribute("aria-label")) && (await divider.isDisabled()));
  await hook(page, "pictures").screenshot({ path: path.join(shots, "pictures-difference.png") });
  await hook(page, "pictures-difference").uncheck();
  const png = await download(page, "pictures-save");
  check("saved as PNG", png.name === "image 7.png" && png.content.subarray(1, 4).toString() === "PNG" && png.content.readUInt32BE(16) === 3 * 256 + 16 && png.content.readUInt32BE(20) === 256, png.name);

  // A and B.
  const a = await size(page);
  await hook(page, "ab-keep").click();
  await hook(page, "ab-pictures").waitFor();
  await hook(page, "budget-number").fill("2.5");
  await changed(page, () => size(page), a);
  check("B has changed: it says what to do", /^Evaluate B/.test(await text(page, "ab-pictures-why")) && (await hook(page, "ab-pictures").count()) === 0);
  await evaluated(page);
  await hook(page, "ab-pictures").waitFor();
  const both = await layers(page, "ab-pictures");
  check("pictures of A and of B", both.map((l) => l.key).join() === "a,b,full,input" && differ(both[0], both[1]) && both[0].shades.join() === shown[1].shades.join(), both.map((l) => l.key));
  check("with a PSNR of each", both[0].psnr > both[1].psnr && both[0].psnr === shown[1].psnr && /^image 1: B, now, PSNR/.test(both[1].name), both.map((l) => [l.key, l.psnr]));
  const numbers = await row(page, "test-psnr");
  check("and in the table", numbers[1] === words && /^\d+\.\d\d dB$/.test(numbers[2]) && numbers[3].startsWith("−"), numbers);
  check("no agreement of pictures", (await hook(page, "ab-table").locator('[data-row="test-agreement"], [data-row="test-top1"]').count()) === 0);
  await hook(page, "ab-pictures-divider").focus();
  await page.keyboard.press("ArrowLeft");
  await page.waitForTimeout(50);
  check("its divider moves by keyboard", /49 % of the width shows A$/.test(await hook(page, "ab-pictures-divider").getAttribute("aria-valuetext")));

  await looks(page, { "pictures-ab": hook(page, "ab"), pictures: hook(page, "eval-panel") });

  // Measured curves: PSNR below the distortion.
  await hook(page, "measure-curves").click();
  await page.waitForFunction(() => document.querySelector('[data-testid="measured-curves"]').dataset.state === "done", null, { timeout: 180000 });
  await ready(page);
  const plot = hook(page, "measured-plot-accuracy");
  check("curves of PSNR", /PSNR \(dB\)/.test(await plot.innerHTML()) && /^PSNR \(dB\) over rate/.test(await plot.locator(".drawing").getAttribute("aria-label")), await plot.locator(".drawing").getAttribute("aria-label"));
  await hook(page, "measured-values").click();
  const heads = await hook(page, "measured-curves").locator("thead th").allTextContents();
  const cells = await hook(page, "measured-curves").locator("tbody tr").first().locator("td").allTextContents();
  check("and in their table", heads.includes("PSNR (dB)") && !heads.some((h) => /agreement|top-1/.test(h)) && /^\d+\.\d\d dB$/.test(cells[heads.indexOf("PSNR (dB)") - 1]), [heads, cells]);
  await looks(page, { "pictures-curves": hook(page, "measured-curves") });

  // A promise about accuracy means nothing here.
  await hook(page, "budget-unit").selectOption("lose");
  await hook(page, "lose-find").click();
  await page.waitForFunction(() => document.querySelector('[data-testid="lose"]').dataset.state === "failed", null, { timeout: 60000 });
  check("a promise needs a classifier", /needs a classifier/.test(await text(page, "lose")), await text(page, "lose"));
  await hook(page, "budget-unit").selectOption("bits");

  await sample(page, "sample-alexnet");
  check("another model has no pictures", (await hook(page, "pictures").count()) === 0 && (await hook(page, "ab-pictures").count()) === 0);
  check("the page is ready", (await status(page)) === "ready", await status(page));
  check("no errors", page.errors.length === 0, page.errors);
  await page.context().close();
});

await browser.close();
await server.stop();
