// What the page explains: terms on hover and focus, the glossary, parts hidden by address, and the guided walk by keyboard.

import path from "node:path";
import { accessibility, check, group, launch, serve } from "./harness.mjs";
import { changed, hook, open, rate, ready, sample, shots, text } from "./page.mjs";

const browser = await launch();
const server = await serve();
const url = `${server.url}?threads=2`;
const all = ["minor", "moderate", "serious", "critical"];

const tip = (page) => hook(page, "explanation");
const shown = (page) => tip(page).isVisible();
const gone = async (page) => {
  await page.waitForTimeout(350);
  return !(await shown(page));
};
const wide = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
const focused = (page) => page.evaluate(() => document.activeElement?.getAttribute("data-testid") ?? document.activeElement?.id ?? "");
const step = (page) => hook(page, "walk").getAttribute("data-step");
const parameter = (page, name) => page.evaluate((name) => new URL(location.href).searchParams.get(name), name);
/** Both colour schemes, two widths. */
async function pictures(page, name, element) {
  for (const width of [1280, 390]) {
    await page.setViewportSize({ width, height: 900 });
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await page.waitForTimeout(150);
      const file = path.join(shots, `learn-${name}-${width}-${colorScheme}.png`);
      await (element ? element.screenshot({ path: file }) : page.screenshot({ path: file }));
    }
  }
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.emulateMedia({ colorScheme: "light" });
}

await group("terms are explained on focus and on hover", async () => {
  const page = await open(browser, url);
  await sample(page);
  const term = page.locator('[data-part="budget"] .term').first();
  await term.focus();
  await tip(page).waitFor({ state: "visible" });
  check("focus shows the explanation", /Budget/.test(await tip(page).textContent()) && /Algorithm 1/.test(await tip(page).textContent()), await tip(page).textContent());
  const described = await page.evaluate((id) => document.getElementById(id)?.textContent, await term.getAttribute("aria-describedby"));
  check("what screen readers say is the same", (await tip(page).textContent()).replaceAll(/\s/g, "").endsWith(described.replaceAll(/\s/g, "")), described);
  await page.keyboard.press("Escape");
  check("Escape takes it away, and leaves the focus", (await gone(page)) && (await term.evaluate((e) => e === document.activeElement)));
  // By keyboard alone: the tab key goes from term to term.
  await page.evaluate(() => document.activeElement.blur());
  const seen = new Set();
  for (let i = 0; i < 60 && seen.size < 6; i++) {
    await page.keyboard.press("Tab");
    const key = await page.evaluate(() => document.activeElement?.dataset?.term);
    // It is placed in the frame after the one that has its words.
    if (key && (await tip(page).waitFor({ state: "visible", timeout: 5000 }).then(() => true, () => false))) seen.add(key);
  }
  check("the tab key shows them one after the other", seen.size >= 6, [...seen]);
  await page.evaluate(() => document.activeElement.blur());
  check("without focus it goes", await gone(page));

  await term.scrollIntoViewIfNeeded();
  await term.hover();
  await tip(page).waitFor({ state: "visible" });
  const box = await tip(page).boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2, { steps: 4 });
  check("it can be pointed at", !(await gone(page)));
  await page.mouse.move(5, 5, { steps: 4 });
  check("and goes when the pointer goes", await gone(page));
  await term.hover();
  await tip(page).waitFor({ state: "visible" });
  await page.keyboard.press("Escape");
  check("Escape takes it away from under the pointer, too", await gone(page));
  await pictures(page, "page");

  // Every term, in both widths: within the window, and off its term.
  for (const width of [1280, 390]) {
    await page.setViewportSize({ width, height: 800 });
    const terms = page.locator(".term:visible");
    const outside = [];
    const keys = new Set();
    for (let i = 0; i < (await terms.count()); i++) {
      const one = terms.nth(i);
      await one.focus();
      await tip(page).waitFor({ state: "visible" });
      await page.waitForTimeout(60);
      const [b, t] = [await tip(page).boundingBox(), await one.boundingBox()];
      const inside = b.x >= 0 && b.x + b.width <= width && b.y >= 0 && b.y + b.height <= 800;
      const covers = b.y < t.y + t.height && b.y + b.height > t.y;
      keys.add(await one.getAttribute("data-term"));
      if (!inside || covers) outside.push([await one.textContent(), b, t]);
    }
    check(`at ${width} px all explanations are in the window, beside their terms`, outside.length === 0 && keys.size >= 14, { outside, keys: [...keys] });
    check(`at ${width} px nothing scrolls sideways`, (await wide(page)) <= 0, await wide(page));
    await page.evaluate(() => document.activeElement.blur());
  }
  const list = hook(page, "glossary");
  check("the glossary is closed at first", !(await list.evaluate((e) => e.open)));
  await list.locator("summary").click();
  const entries = await list.locator("dt").allTextContents();
  const lower = entries.map((e) => e.toLowerCase());
  check("it lists all terms in order", entries.length > 45 && lower.join() === [...lower].sort().join() && entries.includes("Water level λ"), entries);
  await pictures(page, "glossary", page.locator(".glossary"));
  // Once colours have changed to what they are.
  await page.waitForTimeout(400);
  const wrong = await accessibility(page, all);
  check("the page has nothing that axe finds", wrong.length === 0, wrong);
  check("no request went elsewhere, and no error", page.errors.length === 0 && page.requests.every((r) => r.startsWith(server.url) || r.startsWith("blob:")), page.errors);
  await page.context().close();
});

await group("parts are hidden by the address", async () => {
  const page = await open(browser, `${url}&hide=table,downloads,words&x=1#budget`);
  await sample(page);
  const visible = (part) => page.locator(`[data-part="${part}"]`).first().isVisible();
  check("what it names is hidden, the rest is not", !(await visible("table")) && !(await visible("downloads")) && !(await visible("words")) && (await visible("curve")) && (await visible("footer")));
  check("it says nothing", (await text(page, "parts-wrong")) === "");
  const menu = hook(page, "parts");
  await menu.locator("summary").click();
  const box = (name) => menu.locator(`[data-part-name="${name}"]`);
  check("the menu knows", !(await box("table").isChecked()) && (await box("curve").isChecked()));
  await box("table").check();
  await box("curve").uncheck();
  check("the menu shows and hides", (await visible("table")) && !(await visible("curve")));
  check("the address follows", (await parameter(page, "hide")) === "words,curve,downloads", page.url());
  check("and leaves all else as it was", (await parameter(page, "threads")) === "2" && (await parameter(page, "x")) === "1" && new URL(page.url()).hash.startsWith("#budget"), page.url());
  check("the link is the address", (await text(page, "parts-link")) === page.url(), await text(page, "parts-link"));
  for (const name of ["budget", "summary"]) await box(name).uncheck();
  check("the row of the curve is gone when nothing is in it", !(await page.locator(".work").isVisible()));
  await box("curve").check();
  const [curve, main] = [await page.locator(".curve-card").boundingBox(), await page.locator("main").boundingBox()];
  check("the curve takes the room of what is hidden beside it", curve.width > main.width - 80, { curve, main });
  check("and is drawn", (await hook(page, "rd-curve").locator("svg polyline, svg path").count()) > 1);
  for (const name of ["drop", "bars", "accuracy", "table", "learn", "footer"]) await box(name).uncheck();
  for (const part of ["drop", "bars", "accuracy", "calibration", "table", "learn", "footer"]) check(`${part} can be hidden`, !(await visible(part)));
  await pictures(page, "hidden");
  await page.reload();
  await hook(page, "status").waitFor();
  check("a reload shows the same", (await parameter(page, "hide")).split(",").length === 10 && !(await page.locator("footer").isVisible()), page.url());
  await hook(page, "parts").locator("summary").click();
  await hook(page, "parts-all").click();
  check("all can be shown again", (await parameter(page, "hide")) === null && (await page.locator("footer").isVisible()) && (await page.locator(".private").isVisible()), page.url());
  check("the menu has nothing that axe finds", (await accessibility(page, all)).length === 0, await accessibility(page, all));
  check("no errors", page.errors.length === 0, page.errors);
  await page.context().close();

  const wrong = await open(browser, `${server.url}?hide=tables,curve`);
  const sentence = await text(wrong, "parts-wrong");
  check("a name that is none is one sentence", /no part “tables” to hide/.test(sentence) && sentence.endsWith(".") && (await hook(wrong, "parts-wrong").isVisible()), sentence);
  check("and the others hold", (await wrong.evaluate(() => document.body.dataset.hide)) === "curve");
  await wrong.context().close();
});

await group("the walk, by keyboard alone", async () => {
  const page = await open(browser, url, { reducedMotion: "reduce" });
  await hook(page, "learn").focus();
  await page.keyboard.press("Enter");
  await hook(page, "walk").waitFor();
  await page.waitForFunction(() => document.activeElement?.id === "walk-title");
  check("it begins at its title", (await step(page)) === "1" && (await parameter(page, "learn")) === "1" && /Step 1 of 10/.test(await text(page, "walk-progress")), page.url());
  await hook(page, "size-readout").waitFor({ timeout: 60000 });
  await ready(page);
  check("it opens the sample network by itself", /resnet-digits/.test(await page.textContent("main")));
  const titles = new Set();
  for (let i = 1; i <= 10; i++) {
    check(`step ${i} says where it is`, (await step(page)) === String(i) && new RegExp(`^Step ${i} of 10`).test(await text(page, "walk-progress")) && (await parameter(page, "learn")) === String(i));
    titles.add(await page.locator("#walk-title").textContent());
    const words = page.locator(".walk-words");
    check(`step ${i} has terms and a link to the paper`, (await words.locator(".term").count()) >= 1 && (await words.locator('a[href="https://arxiv.org/abs/2009.01174"]').count()) === 1);
    if (await hook(page, "exhibit").locator('[data-testid="live-figure"]').count()) await hook(page, "exhibit").locator('[data-state="done"] .drawing svg').first().waitFor();
    check(`step ${i} shows something`, (await hook(page, "exhibit").locator(".drawing svg, .plane svg, table, li, button").count()) > 0);
    // Answer, by keyboard.
    const choices = hook(page, "walk-question").locator("button");
    const words0 = [];
    for (let c = 0; c < 3; c++) {
      await choices.nth(c).focus();
      await page.keyboard.press("Enter");
      words0.push(await text(page, "walk-feedback"));
    }
    check(`step ${i} says why of every answer`, words0.filter((w) => w.startsWith("Right. ")).length === 1 && new Set(words0).size === 3 && words0.every((w) => w.endsWith(".")), words0);
    for (const width of [1280, 390]) {
      await page.setViewportSize({ width, height: 900 });
      await page.waitForTimeout(100);
      const found = await accessibility(page, all);
      check(`step ${i} at ${width} px has nothing that axe finds`, found.length === 0, found);
      check(`step ${i} at ${width} px does not scroll sideways`, (await wide(page)) <= 0, await wide(page));
    }
    await pictures(page, `step-${i}`, hook(page, "walk"));
    if (i < 10) await page.keyboard.press("ArrowRight");
  }
  check("ten titles", titles.size === 10, [...titles]);
  await page.keyboard.press("ArrowRight");
  check("after the last there is none", (await step(page)) === "10");
  await page.keyboard.press("ArrowLeft");
  check("arrows go back", (await step(page)) === "9");
  await page.locator(".walk .term").first().focus();
  await tip(page).waitFor({ state: "visible" });
  await page.keyboard.press("Escape");
  check("Escape takes first the explanation away", !(await shown(page)) && (await hook(page, "walk").isVisible()));
  await page.keyboard.press("Escape");
  await hook(page, "walk").waitFor({ state: "detached" });
  check("then the walk, and the focus is back", (await focused(page)) === "learn" && (await parameter(page, "learn")) === null, await focused(page));
  check("no request went elsewhere, and no error", page.errors.length === 0 && page.requests.every((r) => r.startsWith(server.url) || r.startsWith("blob:")), page.errors);
  await page.context().close();
});

await group("figures of the walk are alive", async () => {
  const page = await open(browser, `${url}&learn=2`);
  await hook(page, "walk").waitFor();
  check("an address opens its step", (await step(page)) === "2" && (await focused(page)) !== "walk-title");
  await hook(page, "size-readout").waitFor({ timeout: 60000 });
  await ready(page);
  // Turn by hand.
  const gain = async () => Number(await hook(page, "plane-gain").getAttribute("data-db"));
  check("unturned axes gain nothing", Math.abs(await gain()) < 1e-9, await gain());
  await hook(page, "plane-angle").focus();
  for (let i = 0; i < 10; i++) await page.keyboard.press("ArrowRight");
  const some = await gain();
  check("arrow keys turn them, and not the step", some > 0.05 && (await step(page)) === "2", some);
  await hook(page, "plane-klt").click();
  const best = await gain();
  check("the best angle gains what the formula says", Math.abs(best - -5 * Math.log10(1 - 0.64)) < 1e-9 && best > some, { best, some });
  const svg = await page.locator(".plane svg").boundingBox();
  const knob = await page.locator(".plane .knob").boundingBox();
  await page.mouse.move(knob.x + knob.width / 2, knob.y + knob.height / 2);
  await page.mouse.down();
  await page.mouse.move(svg.x + svg.width * 0.9, svg.y + svg.height / 2, { steps: 5 });
  await page.mouse.up();
  check("the handle turns them", Math.abs(await gain()) < 0.02 && Number(await hook(page, "plane-angle").inputValue()) === 0, await gain());
  await hook(page, "plane-rho").fill("0");
  await hook(page, "plane-angle").fill("30");
  check("without correlation there is nothing to gain", Math.abs(await gain()) < 1e-9, await gain());

  await hook(page, "plane-real").click();
  await hook(page, "plane-angle").fill("0");
  check("the cloud can be that of true weights", Math.abs(await gain()) < 1e-9 && (await hook(page, "plane-rho").isDisabled()), await gain());
  await hook(page, "plane-klt").click();
  check("which are correlated", (await gain()) > 0.3, await gain());
  await pictures(page, "plane-real", hook(page, "walk"));
  await page.locator(`.walk nav button`).nth(0).click();
  await page.locator('.walk [data-state="done"] .drawing svg').waitFor();
  check("the pairs of step 1 are of the largest layer", /^Input channels \d+ and \d+ of layer3/.test(await page.locator('.walk [data-testid="figure-title"]').textContent()));

  const shows = async (wanted) => {
    await page.waitForFunction((n) => document.querySelectorAll('.walk [data-state="done"] .drawing svg').length >= n, wanted.length, { timeout: 60000 });
    const titles = await page.locator('.walk [data-testid="figure-title"]').allTextContents();
    check(`the figures of the step are there: ${wanted}`, titles.length === wanted.length && wanted.every((w, i) => titles[i].startsWith(w)), titles);
  };
  // The budget is the page's.
  for (const [n, name, read] of [
    [4, "next-bit", "data-db"],
    [5, "walk-lambda", "data-lambda"],
    [6, "zero-blocks", "data-zero"],
  ]) {
    await page.locator(`.walk nav button`).nth(n - 1).click();
    const value = () => hook(page, name).getAttribute(read);
    await hook(page, "walk-bits").fill("4");
    await changed(page, () => rate(page), 0);
    await page.waitForFunction(() => Math.abs(Number(document.querySelector('[data-testid="rate-readout"]').dataset.rate) - 4) < 0.2);
    const before = Number(await value());
    await hook(page, "walk-bits").fill("1");
    await page.waitForFunction(() => Number(document.querySelector('[data-testid="rate-readout"]').dataset.rate) < 1.3);
    const after = Number(await value());
    if (n === 4) check("the next bit is about 6 dB at 4 bits", Math.abs(before - 6.02) < 0.8, { before, after });
    if (n === 5) check("less water, a higher level", after > before, { before, after });
    if (n === 6) check("fewer bits, more zero rows", after > before, { before, after });
    if (n === 5) await shows(["Slopes"]);
    if (n === 6) await shows(["Spectrum", "Rows"]);
  }
  // Codings, calibration, methods, accuracy.
  await page.locator(`.walk nav button`).nth(6).click();
  await shows(["Histogram"]);
  await hook(page, "walk-coding").locator("button", { hasText: "entropy" }).click();
  const cells = () => hook(page, "compare").locator("tbody td").allTextContents();
  await page.waitForFunction(() => [...document.querySelectorAll('[data-testid="compare"] tbody td')].every((td) => td.textContent !== "–"), null, { timeout: 60000 });
  const [, , fixed, , , entropy] = (await cells()).map((c) => Number(c.replace("−", "-").replace(/[^-\d.]/g, "")));
  check("entropy coding errs less at the same budget", entropy < fixed - 0.5, { fixed, entropy });
  await page.locator(`.walk nav button`).nth(7).click();
  await hook(page, "walk-calibrate").click();
  await hook(page, "walk-forget").waitFor({ timeout: 120000 });
  await ready(page);
  await hook(page, "walk-method").locator("button", { hasText: "transform" }).click();
  await page.waitForFunction(() => [...document.querySelectorAll('[data-testid="compare"] tbody td')].every((td) => td.textContent !== "–"), null, { timeout: 120000 });
  await ready(page);
  const [, , transform, , , feedback] = (await cells()).map((c) => Number(c.replace("−", "-").replace(/[^-\d.]/g, "")));
  check("both methods are there to compare", Number.isFinite(transform) && Number.isFinite(feedback) && feedback !== transform, { transform, feedback });
  await page.locator(`.walk nav button`).nth(8).click();
  await hook(page, "walk-tests").click();
  await page.waitForFunction(() => !document.querySelector('[data-testid="walk-evaluate"]').disabled, null, { timeout: 30000 });
  await hook(page, "walk-evaluate").click();
  await hook(page, "walk-accuracy").waitFor({ timeout: 60000 });
  check("accuracy of both networks is there", (await hook(page, "walk-accuracy").locator("tbody td", { hasText: "%" }).count()) === 3, await hook(page, "walk-accuracy").textContent());
  await pictures(page, "measured", hook(page, "walk"));
  await page.locator(`.walk nav button`).nth(9).click();
  const measured = hook(page, "walk-measured");
  check("curves can be measured", (await measured.getAttribute("data-state")) === "ready" && /^Not measured yet/.test(await measured.locator(".state-line").textContent()), await measured.textContent());
  await hook(page, "walk-curves").click();
  const marks = () => measured.locator(".measured-plot svg").locator("circle, polygon").count();
  await page.waitForFunction(() => document.querySelectorAll('[data-testid="walk-measured"] .measured-plot svg :is(circle, polygon)').length >= 12, null, { timeout: 180000 });
  check("accuracy over rate is drawn as it is measured", /top-1 accuracy \(%\)/.test(await measured.locator(".measured-plot").innerHTML()) && (await marks()) >= 12, await marks());
  if (await hook(page, "walk-curves-cancel").isVisible()) await hook(page, "walk-curves-cancel").click();
  await page.waitForFunction(() => /stopped|done/.test(document.querySelector('[data-testid="walk-measured"]').dataset.state), null, { timeout: 30000 });
  const wrong = await accessibility(page, all);
  check("with nothing that axe finds", wrong.length === 0, wrong);
  await pictures(page, "curves", hook(page, "walk"));
  await hook(page, "to-glossary").click();
  check("the walk ends at the glossary", await hook(page, "glossary").evaluate((e) => e.open && document.activeElement === e.querySelector("summary")));
  await hook(page, "walk-next").click();
  check("Finish closes it", (await hook(page, "walk").count()) === 0);
  check("no errors", page.errors.length === 0, page.errors);
  await page.context().close();
});

await browser.close();
await server.stop();
