// "Lose at most x points" as the budget: what is missing, the search, its rate as the budget, the file, cancelling.

import path from "node:path";
import { check, group, root, setUp } from "./harness.mjs";
import { cancelled, changed, download, hook, looks, open, rate, ready, sample, size, status, text } from "./page.mjs";

const digits = path.join(root, "www/samples/digits-test.npz");
const state = (page) => hook(page, "lose").getAttribute("data-state");
const reaches = (page, ...wanted) =>
  page.waitForFunction((wanted) => wanted.includes(document.querySelector('[data-testid="lose"]')?.dataset.state), wanted, { timeout: 240000 });
const tries = (page) => hook(page, "lose-tries").locator("tbody tr").evaluateAll((rows) => rows.map((r) => ({ ...r.dataset, best: r.classList.contains("best"), text: r.textContent })));

const { browser, engines, end } = await setUp();

for (const [engine, url, options] of engines) {
  await group(`${engine}: a promise as the budget`, async () => {
    const page = await open(browser, url, { ...options, method: "transform" });
    await sample(page);
    await hook(page, "budget-unit").selectOption("lose");
    check("without images it says what is missing", (await state(page)) === "no-images" && /Choose test images first/.test(await text(page, "lose")), await text(page, "lose"));
    check("and looks for nothing", (await hook(page, "lose-find").isDisabled()) && (await hook(page, "budget-number").isHidden()));
    await hook(page, "test-input").setInputFiles(digits);
    await reaches(page, "ready");
    check("it says what is measured", /Top-1 accuracy by the labels/.test(await text(page, "lose")), await text(page, "lose"));
    await hook(page, "lose-number").fill("-1");
    check("a number that means nothing is refused", (await state(page)) === "mistake" && (await hook(page, "lose-find").isDisabled()));
    await hook(page, "lose-number").fill("2");

    // Cancelled in the middle, then from the start.
    await hook(page, "lose-find").click();
    await hook(page, "lose-tries").waitFor({ timeout: 120000 });
    check("tries are shown as they come", (await tries(page)).length >= 1 && /Trying rates: \d of at most 8/.test(await text(page, "lose")), await text(page, "lose"));
    const before = await rate(page);
    await cancelled(page);
    await ready(page);
    check("cancelled, the budget stays", (await rate(page)) === before && (await hook(page, "lose-find").isEnabled()));

    const predicted = await size(page);
    await reaches(page, "ready", "cancelled");
    check("what was tried is not taken for the answer", (await state(page)) === "ready" || /Cancelled after trying \d/.test(await text(page, "lose")), await text(page, "lose"));
    await hook(page, "lose-find").click();
    await reaches(page, "running");
    await reaches(page, "done", "failed");
    await ready(page);
    check("it is found", (await state(page)) === "done", await text(page, "lose"));
    check("chance is told in numbers", /Kept at .*top-1 on 600 images.*Chance alone is ± \d\.\d\d points.*others may lose more/.test(await text(page, "lose")), await text(page, "lose"));
    const all = await tries(page);
    const best = all.find((t) => t.best);
    check("all tries are told, the best is the smallest that keeps it", all.length >= 2 && all.length <= 8 && best?.keeps === "true" && all.every((t) => t.keeps !== "true" || Number(t.asked) >= Number(best.asked)), all);
    await changed(page, () => size(page), predicted);
    check("its rate is the budget", Math.abs((await rate(page)) - Number(best.asked)) < 0.02, [await rate(page), best]);
    const command = await page.locator(".command .row code").textContent();
    check("and in the command", command.endsWith(`--bits ${best.asked}`), command);
    const file = await download(page, "download-tq");
    check("what is downloaded is what was found", file.content.length === (await size(page)), [file.content.length, await size(page)]);
    await hook(page, "evaluate").click();
    await page.waitForFunction(() => document.querySelector('[data-testid="accuracy-readout"]').dataset.state === "done", null, { timeout: 120000 });
    const top1 = async (column) => Number(await hook(page, "accuracy-readout").locator('[data-row="top1"] td').nth(column).getAttribute("data-value"));
    check("its own evaluation keeps the promise", (await top1(0)) - (await top1(1)) <= 0.02 + 1e-9, [await top1(0), await top1(1)]);

    if (engine === "threads") {
      await looks(page, { lose: page.locator(".budget") });
    }

    // A change of what it was found with.
    await hook(page, "transform").selectOption("none");
    await hook(page, "lose-number").fill("3");
    check("another number is out of date", (await state(page)) === "outdated", await text(page, "lose"));
    await hook(page, "budget-unit").selectOption("bits");
    check("bits are there as before", (await hook(page, "budget-number").isVisible()) && (await hook(page, "lose-find").count()) === 0);
    check("the page is ready", (await status(page)) === "ready", await status(page));
    check("no errors", page.errors.length === 0, page.errors);
    await page.context().close();
  });
}

await end();
