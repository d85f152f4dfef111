// How settings are handled: taken back and made again, put into links and recipes; and that what there is can be saved while something runs.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { check, group, launch, root, serve } from "./harness.mjs";
import { changed, download, hook, looks, open, ready, sample, shots, size, text } from "./page.mjs";

/** The command line tool, where it was built beside this test's. */
const tool = path.resolve(path.dirname(process.env.XTASK_EXE), "waterfill");
const hasTool = fs.existsSync(tool);
if (!hasTool) console.log(`\n${tool} is not there: comparisons with the command line are left out`);
const digits = path.join(root, "www/samples/digits-test.npz");
const command = (page) => page.locator(".command .row code").first().textContent();
const said = (page) => page.locator(".said").textContent();
const is = (page, name, ...wanted) =>
  page.waitForFunction(([name, wanted]) => wanted.includes(document.querySelector(`[data-testid="${name}"]`)?.dataset.state), [name, wanted], { timeout: 180000 });
/** Waits until the command line says this. */
const says = (page, words, not = false) =>
  page.waitForFunction(([words, not]) => document.querySelector(".command .row code").textContent.includes(words) !== not, [words, not], { timeout: 60000 });
const label = (page, name) => hook(page, name).getAttribute("aria-label");
/** Longer than changes that follow each other are one. */
const apart = (page) => page.waitForTimeout(600);
const lock = (page, row) => hook(page, "layer-table").locator("tbody tr").nth(row).locator("select");
const exclude = (page, row) => hook(page, "layer-table").locator("tbody tr").nth(row).locator("input");
const layer = (page, row) => hook(page, "layer-table").locator("tbody tr").nth(row).locator("th").textContent();

const browser = await launch();
const server = await serve();
const url = `${server.url}?threads=2`;

await group("undo and redo", async () => {
  const page = await open(browser, url);
  await sample(page);
  const begin = await command(page);
  check("there is nothing to take back", (await hook(page, "undo").isDisabled()) && (await hook(page, "redo").isDisabled()));

  // A drag of the slider is many changes and one step.
  const slider = await hook(page, "budget-slider").boundingBox();
  await page.mouse.move(slider.x + slider.width * 0.8, slider.y + slider.height / 2);
  await page.mouse.down();
  for (let i = 8; i >= 3; i--) {
    await page.mouse.move(slider.x + (slider.width * i) / 10, slider.y + slider.height / 2, { steps: 4 });
    await page.waitForTimeout(60);
  }
  await page.mouse.up();
  await apart(page);
  await ready(page);
  const dragged = await command(page);
  const bits = dragged.match(/--bits ([\d.]+)/)[1];
  check("a drag is taken back as a whole, and said", (await label(page, "undo")) === `Undo: budget to ${bits} bits`, [await label(page, "undo"), bits]);
  await hook(page, "undo").click();
  await says(page, begin);
  check("by one press", (await command(page)) === begin && (await hook(page, "budget-number").inputValue()) === "4", await command(page));
  check("which is said", (await said(page)) === `Undone: budget to ${bits} bits.`, await said(page));
  check("then there is nothing more", (await hook(page, "undo").isDisabled()) && (await label(page, "redo")) === `Redo: budget to ${bits} bits`, await label(page, "redo"));
  const focused = await page.evaluate(() => document.activeElement.dataset.testid);
  check("and the focus is not lost", focused === "redo", focused);
  await hook(page, "redo").click();
  await says(page, dragged);
  check("it is made again", (await command(page)) === dragged && (await hook(page, "redo").isDisabled()));

  // Everything that can be chosen, one after the other, with the command line after each.
  const commands = [begin, dragged];
  const step = async (act, words) => {
    await apart(page);
    const before = await command(page);
    await act();
    await changed(page, () => command(page), before);
    check(`undo names it: ${words}`, (await label(page, "undo")) === `Undo: ${words}`, await label(page, "undo"));
    commands.push(await command(page));
  };
  const name = await layer(page, 1);
  await step(() => hook(page, "transform").selectOption("klt-row"), "transform to klt-row");
  await step(() => hook(page, "blocks").selectOption("4"), "blocks per layer to 4");
  await step(() => hook(page, "coding").selectOption("depths"), "coding to depths");
  await step(() => lock(page, 1).selectOption("3"), `lock ${name} to 3 bits`);
  await step(() => lock(page, 1).selectOption(""), `unlock ${name}`);
  await step(() => exclude(page, 1).click(), `exclude ${name}`);
  await apart(page);
  await hook(page, "budget-unit").selectOption("ratio");
  await step(() => hook(page, "budget-number").fill("9"), "budget to 9 times smaller");
  check("all of it differs", new Set(commands).size === commands.length - 1, commands);

  // A typed number keeps the field's own undo.
  await hook(page, "budget-number").press("Control+z");
  await page.waitForTimeout(300);
  check("keys in a field are the field's", (await label(page, "redo")) === "Redo", await label(page, "redo"));
  await page.locator("#budget-title").click();
  await hook(page, "budget-number").evaluate((e) => e.blur());
  const again = await command(page);
  if (again !== commands.at(-1)) {
    await hook(page, "budget-number").fill("9");
    await says(page, "--ratio 9");
  }
  await page.locator("main").focus();
  const back = async (keys) => {
    const shown = [];
    for (;;) {
      shown.unshift(await command(page));
      const before = await label(page, "undo");
      await page.keyboard.press(keys);
      if (before === "Undo") return shown.filter((c, i) => c !== shown[i - 1]);
      await page.waitForFunction((before) => document.querySelector('[data-testid="undo"]').getAttribute("aria-label") !== before, before);
      await page.waitForTimeout(300);
      await ready(page);
    }
  };
  const shown = await back("Control+z");
  const wanted = commands.filter((c, i) => c !== commands[i - 1]);
  check("keys take all of it back, in order", JSON.stringify(shown.filter((c) => wanted.includes(c))) === JSON.stringify(wanted) && shown[0] === begin, { shown, wanted });
  check("the table too", (await lock(page, 1).inputValue()) === "" && !(await exclude(page, 1).isChecked()));
  for (let i = 0; i < 20 && (await label(page, "redo")) !== "Redo"; i++) {
    await page.keyboard.press(i % 2 ? "Control+Shift+z" : "Control+y");
    await page.waitForTimeout(300);
    await ready(page);
  }
  await says(page, commands.at(-1));
  check("and make it again", (await command(page)) === commands.at(-1) && (await exclude(page, 1).isChecked()) && (await hook(page, "coding").inputValue()) === "depths", await command(page));
  check("with the unit", (await hook(page, "budget-unit").inputValue()) === "ratio" && (await hook(page, "budget-number").inputValue()) === "9", await hook(page, "budget-unit").inputValue());

  await looks(page, { "handling-undo": page.locator(".budget"), "handling-undo-page": page });

  // A computation that is cancelled leaves nothing to take back.
  const before = await label(page, "undo");
  await page.evaluate(() => {
    const blocks = document.querySelector('[data-testid="blocks"]');
    blocks.value = "32";
    blocks.dispatchEvent(new Event("change", { bubbles: true }));
    const look = () => {
      const cancel = document.querySelector('[data-testid="cancel"]');
      cancel ? cancel.click() : setTimeout(look, 1);
    };
    look();
  });
  await page.locator(".said", { hasText: /Cancelled/ }).waitFor({ timeout: 20000 }).catch(() => {});
  await ready(page);
  if (/Cancelled/.test(await said(page))) check("a cancelled choice is no step", (await label(page, "undo")) === before, [before, await label(page, "undo")]);
  await sample(page, "sample-alexnet");
  await page.locator(".model-name", { hasText: "alexnet" }).waitFor();
  await ready(page);
  check("a new model begins a new history", (await hook(page, "undo").isDisabled()) && (await hook(page, "redo").isDisabled()));
  check("no errors", page.errors.length === 0, page.errors);
  await page.context().close();
});

await group("links", async () => {
  const page = await open(browser, `${url}#hide=layers&main`, { permissions: ["clipboard-read", "clipboard-write"] });
  check("a link without settings changes nothing", (await page.evaluate(() => location.hash)) === "#hide=layers&main");
  await sample(page);
  const length = await page.evaluate(() => history.length);
  const names = [await layer(page, 0), await layer(page, 3)];
  await hook(page, "budget-number").fill("2.75");
  await hook(page, "transform").selectOption("klt-col");
  await hook(page, "blocks").selectOption("2");
  await hook(page, "coding").selectOption("entropy");
  await hook(page, "method").selectOption("transform");
  await lock(page, 0).selectOption("9");
  await exclude(page, 3).click();
  await says(page, "--exclude");
  await says(page, "--coding entropy");
  await ready(page);
  const wanted = await command(page);
  await page.waitForFunction(() => location.hash.includes("exclude="));
  const hash = await page.evaluate(() => location.hash);
  const expected = `#hide=layers&main&bits=2.75&unit=bits&transform=klt-col&blocks=2&coding=entropy&method=transform&lock=${names[0]}=9&exclude=${names[1]}&sample=resnet-digits`;
  check("the address says what was chosen, in the command line's words", hash === expected, [hash, expected]);
  check("and its query stays", (await page.evaluate(() => location.search)) === "?threads=2");
  check("going back leaves the page as before", (await page.evaluate(() => history.length)) === length);
  await hook(page, "copy-link").click();
  await page.locator(".elsewhere .hint", { hasText: "on the clipboard" }).waitFor();
  const link = await page.evaluate(() => navigator.clipboard.readText());
  check("the link is copied", link === (await page.evaluate(() => location.href)) && link.endsWith(hash), link);

  // Another machine: nothing is remembered there, or something else.
  const there = await open(browser, link, { method: "feedback" });
  await there.locator(".model-name", { hasText: "resnet-digits" }).waitFor({ timeout: 60000 });
  await says(there, "--lock");
  await ready(there);
  check("elsewhere it opens the sample, and comes to the same", (await command(there)) === wanted && (await size(there)) === (await size(page)), [await command(there), wanted]);
  check("the table shows what is locked and excluded", (await lock(there, 0).inputValue()) === "9" && (await exclude(there, 3).isChecked()));
  check("so do the settings", (await hook(there, "blocks").inputValue()) === "2" && (await hook(there, "budget-number").inputValue()) === "2.75");
  check("that is no step", await hook(there, "undo").isDisabled());
  await looks(there, { "handling-link": there.locator(".downloads"), "handling-link-page": there });
  await there.reload();
  await there.locator(".model-name", { hasText: "resnet-digits" }).waitFor({ timeout: 60000 });
  await says(there, "--lock");
  check("and again, when it is loaded again", (await command(there)) === wanted, await command(there));

  // Figures and what is set there.
  await page.evaluate(() => document.querySelector('[data-testid="figure-spectrum"]').scrollIntoView());
  await hook(page, "figure-spectrum").click();
  await hook(page, "geometry-correlation").fill("-0.25");
  await page.waitForFunction(() => location.hash.includes("geometry=-0.25,4,-70"));
  check("the address says which figure is shown, and the geometry", /&figure=spectrum&geometry=-0\.25,4,-70&sample=/.test(await page.evaluate(() => location.hash)), await page.evaluate(() => location.hash));
  const pressed = (page) => page.locator(".figure-choice [aria-pressed=true]").getAttribute("data-testid");
  const plain = await open(browser, `${url}#figure=rows&geometry=0.5,9,30`);
  check("a link is followed to them without a model", (await hook(plain, "geometry-sensitivity").inputValue()) === "9" && (await hook(plain, "geometry-angle").inputValue()) === "30");
  await hook(plain, "geometry-angle").fill("31");
  await plain.waitForFunction(() => location.hash === "#figure=rows&geometry=0.5,9,31");
  for (const [name, usual] of [["correlation", "0.8"], ["sensitivity", "4"], ["angle", "-70"]]) await hook(plain, `geometry-${name}`).fill(usual);
  const left = await plain.waitForFunction(() => location.hash === "#figure=rows", null, { timeout: 10000 }).catch(() => null);
  check("what is as usual leaves the address, also without a model", left !== null, await plain.evaluate(() => location.hash));
  await sample(plain);
  check("and once there is one", (await pressed(plain)) === "figure-rows", await pressed(plain));
  check("no errors there", plain.errors.length === 0, plain.errors);
  await plain.context().close();

  // Another link in the same tab.
  await ready(there);
  await there.evaluate((name) => (location.hash = `#ratio=9&blocks=3&exclude=${name}&layer=${name}&sample=resnet-digits`), names[0]);
  await says(there, "--ratio 9");
  await says(there, `--exclude ${names[0]}`);
  await says(there, "--blocks 3");
  await ready(there);
  check("another link is followed at once", /--ratio 9 .*--blocks 3/.test(await command(there)) && !(await command(there)).includes("--lock"), await command(there));
  check("also to a number of blocks that is not in the list", (await hook(there, "blocks").inputValue()) === "3" && (await hook(there, "budget-unit").inputValue()) === "ratio", await hook(there, "blocks").inputValue());
  check("and picks out its layer", (await there.locator("tr.selected th").textContent()) === names[0]);
  check("it can be taken back", (await label(there, "undo")) === "Undo: settings from a recipe or a link", await label(there, "undo"));
  await hook(there, "undo").click();
  await says(there, "--lock");
  await says(there, "--blocks 2");
  await ready(there);
  check("as a whole", (await command(there)) === wanted, [await command(there), wanted]);
  check("no errors there", there.errors.length === 0, there.errors);
  await there.context().close();
  check("no errors", page.errors.length === 0, page.errors);
  await page.context().close();
});

await group("links that do not fit", async () => {
  let page = await open(browser, `${url}#bits=2&blocks=1000&learn=2&sample=resnet-digits&lock=%ff&coding=zip`);
  await page.locator(".model-name", { hasText: "resnet-digits" }).waitFor({ timeout: 60000 });
  await ready(page);
  check("what is understood is used", (await command(page)).includes("--bits 2") && !(await command(page)).includes("--blocks"), await command(page));
  check("the rest is said in a sentence", (await said(page)).endsWith("`blocks=1000` in the link and 2 more of its parts are not understood; it is used without them."), await said(page));
  await page.locator(".status").screenshot({ path: path.join(shots, "handling-link-wrong.png") });
  await page.waitForFunction(() => !location.hash.includes("1000"));
  check("what others put there stays", (await page.evaluate(() => location.hash)).startsWith("#learn=2&bits=2&"), await page.evaluate(() => location.hash));
  check("no errors", page.errors.length === 0, page.errors);
  await page.context().close();

  page = await open(browser, `${url}#size=40000&lock=conv9.weight=3&exclude=head&transform=elt-row`);
  check("a transform that needs calibration waits for it", (await said(page)).startsWith("The transform elt-row waits for a calibration; until then it is auto."), await said(page));
  await sample(page, "sample-alexnet");
  await page.locator(".said", { hasText: "wait for a model" }).waitFor();
  check("layers of another model are said", (await said(page)).endsWith("The link is for another model: alexnet-digits.onnx has no conv9.weight, head. Its layers wait for a model that has them."), await said(page));
  check("and the budget in bytes waits with them", (await command(page)).includes("--bits 4"), await command(page));
  await page.context().close();

  page = await open(browser, `${url}#size=40000`);
  await sample(page, "sample-alexnet");
  await says(page, "--size 40000");
  await ready(page);
  check("a budget in bytes is that of the next model", (await size(page)) <= 40000 && (await hook(page, "budget-unit").inputValue()) === "size", await size(page));
  await page.locator(".skip").focus();
  await page.keyboard.press("Enter");
  const [focused, hash] = await page.evaluate(() => [document.activeElement.id, location.hash]);
  check("skipping the head leaves the address alone", focused === "main" && hash.includes("size=40000"), [focused, hash]);
  await page.evaluate(() => Object.defineProperty(navigator, "clipboard", { value: { writeText: () => Promise.reject(new Error("denied")) } }));
  await hook(page, "copy-link").click();
  await page.locator(".elsewhere code").waitFor();
  const selected = await page.evaluate(() => [String(getSelection()), location.href]);
  check("where the clipboard is denied, the link is shown and selected", selected[0] === selected[1], selected);
  await looks(page, { "handling-denied": page.locator(".downloads"), "handling-denied-page": page });
  check("no errors", page.errors.length === 0, page.errors);
  await page.context().close();
});

/** Drops a file on the page. */
const drop = (page, name, content) =>
  page.evaluate(([name, content]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([content], name, { type: "application/json" }));
    for (const type of ["dragenter", "dragover", "drop"]) document.body.dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: transfer }));
  }, [name, content]);

await group("recipes", async () => {
  const page = await open(browser, url);
  await sample(page);
  const begin = await command(page);
  const names = [await layer(page, 0), await layer(page, 3)];
  await hook(page, "budget-number").fill("2.5");
  await hook(page, "blocks").selectOption("4");
  await hook(page, "coding").selectOption("depths");
  await lock(page, 0).selectOption("6");
  await exclude(page, 3).click();
  await says(page, "--coding depths");
  await says(page, "--exclude");
  await ready(page);
  const wanted = await command(page);
  const { name, content } = await download(page, "recipe-save");
  const recipe = JSON.parse(content);
  const expected = { format: "waterfill-recipe", version: 1, budget: { bits: 2.5 }, transform: "auto", blocks: 4, method: "feedback", coding: "depths", locks: { [names[0]]: 6 }, excludes: [names[1]] };
  check("it holds what was chosen, layers by name", name === "resnet-digits.recipe.json" && JSON.stringify(recipe) === JSON.stringify(expected), recipe);
  const file = path.join(shots, name);
  fs.writeFileSync(file, content);

  if (hasTool) {
    const run = (...args) => execFileSync(tool, args, { cwd: shots, stdio: ["ignore", "pipe", "ignore"] });
    fs.copyFileSync(path.join(root, "www/samples/resnet-digits.onnx"), path.join(shots, "resnet-digits.onnx"));
    run("compress", "resnet-digits.onnx", "--recipe", name, "-o", "by-recipe.tq");
    run(...wanted.replace("-o resnet-digits.tq", "-o by-command.tq").split(" ").slice(1));
    const [a, b] = ["by-recipe.tq", "by-command.tq"].map((f) => fs.readFileSync(path.join(shots, f)));
    check("on the command line it comes to the same file as the command that is shown", a.equals(b), [a.length, b.length]);
  }

  const fresh = await open(browser, url);
  await sample(fresh);
  await hook(fresh, "recipe-load").setInputFiles(file);
  await says(fresh, "--coding depths");
  await says(fresh, "--exclude");
  await ready(fresh);
  check("loaded elsewhere it comes to the same", (await command(fresh)) === wanted && (await size(fresh)) === (await size(page)), [await command(fresh), wanted]);
  check("which is said, and stays", (await text(fresh, "taken-over")) === "resnet-digits.recipe.json is loaded.", await text(fresh, "taken-over"));
  await hook(fresh, "undo").click();
  await says(fresh, "--exclude", true);
  await says(fresh, "--coding", true);
  await ready(fresh);
  check("it is one step", (await command(fresh)) === begin, await command(fresh));
  await drop(fresh, "r.json", JSON.stringify({ ...recipe, blocks: 3, budget: { size: 50000 }, locks: { [names[0]]: 10, nowhere: 3 }, colour: "red" }));
  await says(fresh, "--blocks 3");
  await ready(fresh);
  check("it can be dropped", (await command(fresh)).includes(`--size 50000 --blocks 3 --coding depths --lock ${names[0]}=10`), await command(fresh));
  const note = await text(fresh, "taken-over");
  check("what is not known, and what the model has not, is said", /`colour` is not known/.test(note) && /also names nowhere, which resnet-digits.onnx does not have/.test(note), note);
  check("the budget shows its unit", (await hook(fresh, "budget-unit").inputValue()) === "size");
  await looks(fresh, { "handling-recipe": fresh.locator(".downloads"), "handling-recipe-page": fresh });
  const before = await command(fresh);
  for (const [wrong, words] of [["{", "nor any JSON"], ['{"program": "waterfill"}', "JSON, but no recipe"], ['{"format": "waterfill-recipe", "version": 9}', "of a later version; use a newer Waterfill"]]) {
    await drop(fresh, "w.json", wrong);
    await fresh.waitForFunction((words) => document.querySelector('[data-testid="status"]').textContent.includes(words), words);
    check(`a file that is none is said: ${words}`, (await text(fresh, "status")).startsWith("error: w.json: ") && (await command(fresh)) === before);
  }
  await fresh.locator(".status").screenshot({ path: path.join(shots, "handling-recipe-wrong.png") });
  check("no errors there", fresh.errors.length === 0, fresh.errors);
  await fresh.context().close();

  // A calibration is prepared, and made by the user; a transform that needs it waits.
  const other = await open(browser, url);
  const calibrated = { format: "waterfill-recipe", version: 1, budget: { bits: 3 }, transform: "elt-row", method: "transform", coding: "fixed", calibration: { images: 24, draws: 2, seed: 5, distortion: "diagonal" } };
  await drop(other, "c.json", JSON.stringify(calibrated));
  await other.locator(".said", { hasText: "c.json is loaded" }).waitFor();
  await sample(other);
  check("before there is a model it waits for one", (await command(other)).includes("--bits 3"), await command(other));
  check("and says what is to be done", /choose images, and calibrate\. The transform elt-row waits/.test(await text(other, "taken-over")), await text(other, "taken-over"));
  await hook(other, "calibration-input").setInputFiles(digits);
  await is(other, "calibration", "ready");
  const form = await Promise.all(["calibration-images", "calibration-draws", "calibration-seed", "distortion-model"].map((n) => hook(other, n).inputValue()));
  check("the form is as the recipe has it", form.join() === "24,2,5,diagonal", form);
  await hook(other, "calibrate").click();
  await is(other, "calibration", "done");
  await says(other, "--transform elt-row");
  await ready(other);
  check("calibrated, the command says all of it", /--transform elt-row --calibration \S+ --calibration-images 24 --draws 2 --seed 5 --distortion diagonal/.test(await command(other)), await command(other));
  const again = JSON.parse((await download(other, "recipe-save")).content);
  const { images, draws, seed, distortion } = again.calibration;
  check("and so does its recipe", again.transform === "elt-row" && [images, draws, seed, distortion].join() === "24,2,5,diagonal", again);
  check("no errors in the end", other.errors.length === 0, other.errors);
  await other.context().close();
  check("no errors", page.errors.length === 0, page.errors);
  await page.context().close();
});

await group("a download while something runs", async () => {
  for (const query of ["?threads=2", "?engine=st"]) {
    const page = await open(browser, server.url + query, { method: "transform" });
    await sample(page);
    const before = await download(page, "download-tq");
    await hook(page, "calibration-input").setInputFiles(digits);
    await is(page, "calibration", "ready");
    await hook(page, "calibration-draws").fill("500");
    await hook(page, "calibrate").click();
    // What is counted is what is still to be done: all in all it is 500 times 400 samples.
    const sampled = async (least) => {
      const read = (least) => {
        const [, done, of] = document.querySelector(".doing")?.textContent.match(/sample (\d+) of (\d+)/) ?? [];
        const taken = 500 * 400 - Number(of) + Number(done);
        return taken >= least && taken;
      };
      return (await page.waitForFunction(read, least, { timeout: 60000 })).jsonValue();
    };
    await sampled(40);
    const busy = await hook(page, "download-tq").isDisabled();
    const holds = await text(page, "download-holds");
    check(`${query}: during a calibration the file can be saved, and it is said which`, !busy && /without the calibration that runs/.test(holds), holds);
    if (query === "?threads=2") await looks(page, { "handling-during": page.locator(".downloads"), "handling-during-page": page });
    const running = await is(page, "calibration", "running").then(() => true);
    const last = await sampled(1);
    const [file] = await Promise.all([page.waitForEvent("download", { timeout: 60000 }), hook(page, "download-tq").click()]);
    const content = fs.readFileSync(await file.path());
    check(`${query}: it is the file of what is shown`, running && content.equals(before.content), [content.length, before.content.length]);
    await page.locator(".said", { hasText: "The calibration goes on." }).waitFor({ timeout: 10000 });
    check(`${query}: which is said`, /^Saved resnet-digits\.tq, [\d,]+ bytes\. The calibration goes on\.$/.test(await said(page)), await said(page));
    const next = await sampled(1);
    check(`${query}: the calibration goes on from its samples`, next >= last, [last, next]);
    // A second time, and then cancelled: nothing goes on.
    await is(page, "calibration", "running");
    await hook(page, "cancel").click();
    await page.locator(".said", { hasText: "Cancelled" }).waitFor();
    await ready(page);
    await is(page, "calibration", "ready");
    await hook(page, "calibration-draws").fill("1");
    await hook(page, "calibration-images").fill("100");
    await hook(page, "calibrate").click();
    await is(page, "calibration", "running");
    await Promise.all([page.waitForEvent("download", { timeout: 60000 }), hook(page, "download-model").click()]);
    await is(page, "calibration", "done");
    await ready(page);
    check(`${query}: it comes to its end`, (await hook(page, "calibration-readout").getAttribute("data-samples")) === "100", await hook(page, "calibration-readout").getAttribute("data-samples"));

    await hook(page, "test-input").setInputFiles(digits);
    await is(page, "accuracy-readout", "ready");
    await hook(page, "find-damage").click();
    await is(page, "accuracy-readout", "running");
    const [saved] = await Promise.all([page.waitForEvent("download", { timeout: 60000 }), hook(page, "download-tq").click()]);
    const evaluated = fs.readFileSync(await saved.path());
    await is(page, "accuracy-readout", "done");
    await ready(page);
    check(`${query}: an evaluation gives way, and comes to its end`, evaluated.length === (await size(page)), [evaluated.length, await size(page)]);
    check(`${query}: no errors`, page.errors.length === 0, page.errors);
    await page.context().close();
  }
});

await browser.close();
await server.stop();
