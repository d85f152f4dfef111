// Figures of the paper on the open model: every one is drawn, told as a table, saved, the same as the command line's, and follows layer and budget.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { accessibility, check, group, launch, root, serve } from "./harness.mjs";
import { chooseFigure, download, figureMade, hook, open, ready, sample, shots, text } from "./page.mjs";

/** The command line tool, where it was built beside this test's: one of another profile may be of another day. */
const tool = [path.resolve(path.dirname(process.env.XTASK_EXE), "waterfill")].find((file) => fs.existsSync(file));
const model = path.join(root, "www/samples/resnet-digits.onnx");
const digits = path.join(root, "www/samples/digits-test.npz");

const server = await serve();
const browser = await launch();

/** Lines of two tables that differ in words, or in numbers by more than the last digits of libraries' sums, which processors and Wasm need not share. */
function different(one, other) {
  const lines = [one, other].map((table) => table.trim().split("\n"));
  const near = (a, b) => a === b || Math.abs(Number(a) - Number(b)) <= 2e-3 * Math.max(1, Math.abs(Number(a)));
  const alike = (a, b) => {
    const cells = [a, b].map((line) => (line ?? "").split(","));
    return cells[0].length === cells[1].length && cells[0].every((cell, i) => near(cell, cells[1][i]));
  };
  const longer = lines[0].length >= lines[1].length ? lines[0] : lines[1];
  return longer.map((_, i) => [lines[0][i], lines[1][i]]).filter(([a, b]) => !alike(a, b));
}
/** Waits until the title holds these words: the figure before is shown until the next has come. */
const titled = async (page, words) => {
  await page.waitForFunction((w) => document.querySelector('[data-testid="figure-title"]')?.textContent.includes(w), words, { timeout: 60000 });
  return figureMade(page);
};

/** Lines of the figure that is shown that differ from those which the command line prints of a file with these options: how many it prints, and the pairs. */
async function againstCommandLine(page, name, file, options = []) {
  const { name: saved, content } = await download(page, "figure-save-csv");
  const layer = (await page.locator('[data-testid="figure-layer"] option:checked').textContent()).split(" · ")[1];
  const printed = tool ? execFileSync(tool, ["figure", name, file, "--layer", layer, ...options], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }) : "";
  return { saved, lines: printed.trim().split("\n").length, off: tool ? different(printed, content.toString("utf8")) : [] };
}

/** Names of figures, as the page offers them. */
const offered = (page) => page.locator(".figure-choice button").evaluateAll((all) => all.map((b) => b.dataset.testid.replace("figure-", "")));

await group("every figure, wide and light", async () => {
  const page = await open(browser, server.url);
  await sample(page);
  const panel = hook(page, "figures");
  const names = await offered(page);
  check("several figures are offered", names.length >= 2, names);
  for (const name of names) {
    const state = await chooseFigure(page, name);
    check(`${name}: is made, or says why not`, state === "done" || (await panel.locator(".live-figure .state-line").textContent()).trim().endsWith("."), state);
    if (state !== "done") continue;
    await panel.locator(".figure-panel svg").first().waitFor();
    const drawn = await panel.locator(".figure-panel svg").count();
    check(`${name}: its panels are drawn`, drawn > 0 && drawn === (await panel.locator(".figure-panel").count()), drawn);
    if (!(await panel.locator(".live-figure details[open]").count())) await panel.locator('[data-testid="figure-numbers"]').click();
    await panel.locator(".live-figure table").first().waitFor();
    check(`${name}: its numbers are a table`, (await panel.locator(".live-figure table tbody tr").count()) > 1);
    const align = (tables) => tables.map((table) => [...new Set([...table.rows].map((tr) => [...tr.cells].map((c) => getComputedStyle(c).textAlign).join()))]);
    const aligned = await panel.locator(".live-figure table").evaluateAll(align);
    check(`${name}: they stand below their heads`, aligned.every((ways) => ways.length === 1), aligned);
    await page.locator('[data-testid="figures"]').screenshot({ path: path.join(shots, `figure-${name}-1280-light.png`) });
    const { saved, off } = await againstCommandLine(page, name, model);
    check(`${name}: is saved under a name of its own`, saved === `resnet-digits-${name}.csv`, saved);
    if (tool) check(`${name}: the command line prints the same numbers`, off.length === 0, off.slice(0, 5));
  }
  if (!tool) console.log("     (the command line tool is not built: its numbers were not compared)");
  const svg = (await download(page, "figure-save-svg")).content.toString();
  check("a figure is saved as SVG", svg.startsWith("<svg "), svg.slice(0, 40));
  const png = (await download(page, "figure-save-png")).content;
  check("and as PNG", png.subarray(1, 4).toString() === "PNG");
  const wrong = await accessibility(page, ["minor", "moderate", "serious", "critical"]);
  check("axe: no violation", wrong.length === 0, wrong);
  check("no errors on the page", page.errors.length === 0, page.errors);
  await page.context().close();
});

/** Calibrates on so many images of a file. */
async function calibrate(page, images, count) {
  const is = (state) => page.waitForFunction((s) => document.querySelector('[data-testid="calibration"]')?.dataset.state === s, state, { timeout: 120000 });
  await hook(page, "calibration-input").setInputFiles(images);
  await is("ready");
  await hook(page, "calibration-images").fill(count);
  await hook(page, "calibrate").click();
  await is("done");
}
/** Waits until what the allocation costs has been measured. */
async function checked(page) {
  await page.waitForFunction(() => document.querySelector('[data-testid="check-readout"]')?.dataset.state === "done", null, { timeout: 240000 });
  await ready(page);
}

await group("calibrated, with another budget and layer", async () => {
  const page = await open(browser, `${server.url}?threads=2`);
  await sample(page);
  await calibrate(page, digits, "24");
  await hook(page, "budget-number").fill("3");
  await page.locator('[data-testid="figure-layer"]').selectOption("5");
  await checked(page);
  for (const name of tool ? await offered(page) : []) {
    if ((await chooseFigure(page, name)) !== "done") {
      check(`${name}: is made`, false, await hook(page, "figures").textContent());
      continue;
    }
    const options = ["--bits", "3", "--calibration", digits, "--calibration-images", "24", "--draws", await hook(page, "calibration-draws").inputValue()];
    const { lines, off } = await againstCommandLine(page, name, model, options);
    check(`${name}: the command line prints the same ${lines} lines`, off.length === 0, off.slice(0, 5));
  }
  check("no errors on the page", page.errors.length === 0, page.errors);
  await page.context().close();
});

// Eigenvalues of the sample's few channels lie far apart; those of a real network do not, and what hangs on their last digits, or on those of gradients, shows here.
await group("a real network's figures", async () => {
  const data = process.env.WATERFILL_DATA;
  if (!data || !tool) return console.log("     (left out: WATERFILL_DATA is not set, or the command line tool is not built)");
  const [real, images] = ["resnet20.onnx", "cifar10-calib1000.npz"].map((file) => path.join(data, file));
  const page = await open(browser, `${server.url}?threads=2`);
  await page.locator('input[type="file"]').first().setInputFiles(real);
  await hook(page, "size-readout").waitFor({ timeout: 60000 });
  await ready(page);
  const compare = async (what, names, options) => {
    let compared = 0;
    for (const name of names) {
      if ((await chooseFigure(page, name)) !== "done") continue;
      const { lines, off } = await againstCommandLine(page, name, real, options);
      check(`${name} of ResNet-20, ${what}: the command line prints the same ${lines} lines`, off.length === 0, off.slice(0, 5));
      compared++;
    }
    return compared;
  };
  const names = await offered(page);
  const before = await compare("not calibrated", names, []);
  check("all figures but that of the limit, which follows from calibration, were compared", before === names.length - 1, before);
  await calibrate(page, images, "16");
  await checked(page);
  const draws = await hook(page, "calibration-draws").inputValue();
  const which = ["slopes", "gains", "spectrum", "histogram", "limits"];
  const after = await compare("calibrated", which, ["--calibration", images, "--calibration-images", "16", "--draws", draws]);
  check("these figures were compared once more", after === which.length, after);
  check("no errors on the page", page.errors.length === 0, page.errors);
  await page.context().close();
});

await group("a layer chosen anywhere is chosen in the figure, and a figure follows the budget", async () => {
  const page = await open(browser, server.url);
  await sample(page);
  const panel = hook(page, "figures");
  await hook(page, "figure-spectrum").click();
  const layers = await page.locator('[data-testid="figure-layer"] option').allTextContents();
  await page.locator('[data-testid="figure-layer"]').selectOption("2");
  await titled(page, layers[2].split(" · ")[1]);
  check("the table picks out the same layer", await page.locator("tr.selected td").first().textContent() === "3");
  await page.locator('[data-testid="layer-table"] tbody tr').nth(4).locator("td").nth(2).click();
  await titled(page, layers[4].split(" · ")[1]);
  check("a row that is chosen is the figure's layer", (await page.locator('[data-testid="figure-layer"]').inputValue()) === "4");
  const bars = page.locator('[data-testid="allocation-chart"]');
  await bars.scrollIntoViewIfNeeded();
  const room = await bars.boundingBox();
  await page.mouse.click(room.x + 42, room.y + room.height / 2);
  await titled(page, layers[0].split(" · ")[1]);
  check("and so is a bar", (await page.locator("tr.selected td").first().textContent()) === "1");
  await page.locator('[data-testid="figure-layer"]').selectOption("2");
  await titled(page, layers[2].split(" · ")[1]);
  const before = await panel.locator(".figure-panel svg").first().evaluate((e) => e.outerHTML);
  await hook(page, "budget-number").fill("2");
  await page.waitForFunction((b) => document.querySelector('[data-testid="figures"] .figure-panel svg')?.outerHTML !== b, before, { timeout: 30000 });
  await ready(page);
  check("the water level moves with the budget", true);
  // Pointing at a dot tells its numbers; choosing it chooses its layer.
  await hook(page, "figure-slopes").click();
  await titled(page, "Slopes");
  const plot = panel.locator(".figure-panel .plot").first();
  await plot.scrollIntoViewIfNeeded();
  const box = await plot.boundingBox();
  let told = "";
  for (let x = 60; x < box.width && !told.includes("bits of each layer"); x += 6) {
    for (let y = 60; y < box.height - 40 && !told.includes("bits of each layer"); y += 12) {
      await page.mouse.move(box.x + x, box.y + y);
      told = await panel.locator(".figure-panel .told").first().textContent();
    }
  }
  check("pointing at a point tells its numbers with units", /bits of each layer: rate of the layer [\d.]+ bits per weight, .* dB$/.test(told), told);
  await page.mouse.down();
  await page.mouse.up();
  check("choosing it chooses a layer", (await page.locator("tr.selected").count()) === 1);
  check("no errors on the page", page.errors.length === 0, page.errors);
  await page.context().close();
});

await group("narrow and dark", async () => {
  const page = await open(browser, server.url, { viewport: { width: 390, height: 844 }, colorScheme: "dark" });
  await sample(page);
  const panel = hook(page, "figures");
  for (const name of await offered(page)) {
    await hook(page, `figure-${name}`).click();
    await page.waitForTimeout(300);
    await figureMade(page);
    await page.locator('[data-testid="figures"]').screenshot({ path: path.join(shots, `figure-${name}-390-dark.png`) });
    const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    check(`${name}: nothing stands out at 390 px`, over <= 0, over);
  }
  const wrong = await accessibility(page);
  check("axe: nothing serious", wrong.length === 0, wrong);
  await page.context().close();
});

await group("the geometry of cells, without a model", async () => {
  const page = await open(browser, server.url);
  const gains = () => text(page, "geometry-gains");
  const before = await gains();
  await hook(page, "geometry-correlation").focus();
  await page.keyboard.press("ArrowRight");
  await page.waitForFunction((b) => document.querySelector('[data-testid="geometry-gains"]').textContent.trim() !== b, before);
  check("a slider changes the gains, with the keyboard", /dB/.test(await gains()), await gains());
  const handle = page.locator('[data-testid^="geometry-handle-"]').first();
  await handle.scrollIntoViewIfNeeded();
  const box = await handle.boundingBox();
  const middle = { x: box.x + box.width / 2, y: box.y + box.height / 2 };
  const then = await gains();
  await page.mouse.move(middle.x, middle.y);
  await page.mouse.down();
  await page.mouse.move(middle.x + 12, middle.y + 16, { steps: 4 });
  await page.mouse.up();
  check("and so does a handle", (await gains()) !== then, { then, now: await gains() });
  await page.mouse.move(0, 0);
  await hook(page, "geometry").screenshot({ path: path.join(shots, "geometry-1280-light.png") });
  await page.setViewportSize({ width: 390, height: 844 });
  await page.emulateMedia({ colorScheme: "dark" });
  await page.waitForTimeout(300);
  await hook(page, "geometry").screenshot({ path: path.join(shots, "geometry-390-dark.png") });
  const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  check("nothing stands out at 390 px", over <= 0, over);
  const wrong = await accessibility(page, ["minor", "moderate", "serious", "critical"]);
  check("axe: no violation", wrong.length === 0, wrong);
  check("no errors on the page", page.errors.length === 0, page.errors);
  await page.context().close();
});

await browser.close();
await server.stop();
