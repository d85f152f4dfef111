// Two settings side by side: kept, compared with signs, swapped, forgotten.

import path from "node:path";
import { check, group, launch, root, serve } from "./harness.mjs";
import { changed, download, hook, looks, open, ready, sample, size, status, text } from "./page.mjs";

const digits = path.join(root, "www/samples/digits-test.npz");
const row = (page, key) => hook(page, "ab-table").locator(`[data-row="${key}"]`).evaluate((tr) => [...tr.cells].map((c) => c.textContent.trim()));
const evaluated = async (page) => {
  await hook(page, "evaluate").click();
  await page.waitForFunction(() => document.querySelector('[data-testid="accuracy-readout"]').dataset.state === "done", null, { timeout: 120000 });
  await ready(page);
};

const browser = await launch();
const server = await serve();

await group("A and B", async () => {
  const page = await open(browser, `${server.url}?threads=2`, { method: "transform" });
  await sample(page);
  check("nothing is kept at first", (await hook(page, "ab").getAttribute("data-kept")) === "false" && (await hook(page, "ab-table").count()) === 0);
  await hook(page, "test-input").setInputFiles(digits);
  await hook(page, "test-summary").filter({ hasText: "600 images" }).waitFor({ timeout: 30000 });
  await ready(page);
  await evaluated(page);
  const a = await size(page);
  await hook(page, "ab-keep").focus();
  await page.keyboard.press("Enter");
  await hook(page, "ab-table").waitFor();
  const room = await hook(page, "ab-table").evaluate((table) => [...table.rows].map((tr) => [...tr.cells].map((c) => `${getComputedStyle(c).paddingLeft} ${getComputedStyle(c).paddingRight}`).join()));
  check("rows have the room at the sides that their head has", room.length > 5 && room.every((cells) => cells === room[0]) && !/\b0px/.test(room[0]), room);
  check("kept, A and B are alike", (await row(page, "bytes"))[3] === "±0 bytes (±0.0 %)" && (await row(page, "test-top1"))[3] === "±0.00 points", await row(page, "bytes"));

  await hook(page, "budget-number").fill("1.5");
  await changed(page, () => size(page), a);
  const b = await size(page);
  const bytes = await row(page, "bytes");
  const grouped = (n) => n.toLocaleString("en-US");
  check("sizes of both, and the difference with its sign", bytes[1] === `${grouped(a)} bytes` && bytes[2] === `${grouped(b)} bytes` && bytes[3].startsWith(`−${grouped(a - b)} bytes (−`), bytes);
  check("less rate, more ratio", (await row(page, "rate"))[3].startsWith("−2.") && (await row(page, "ratio"))[3].startsWith("+"), [await row(page, "rate"), await row(page, "ratio")]);
  const top1 = await row(page, "test-top1");
  check("what was measured of A alone has no difference", /%$/.test(top1[1]) && top1[2] === "–" && top1[3] === "", top1);
  await evaluated(page);
  const both = await row(page, "test-top1");
  const part = (words) => Number(words.replace(" %", ""));
  const sign = part(both[2]) < part(both[1]) ? "−" : part(both[2]) > part(both[1]) ? "+" : "±";
  const told = Number(both[3].replace("−", "-").replace(/[±+]| points/g, ""));
  check("measured of both, it has one in points", both[3].startsWith(sign) && both[3].endsWith(" points") && Math.abs(told - (part(both[2]) - part(both[1]))) < 0.011, both);
  check("settings in words", /^4 bits per weight, transform auto/.test(await text(page, "ab-a")) && /^1\.5 bits per weight/.test(await text(page, "ab-b")), await text(page, "ab-b"));
  const panel = hook(page, "ab");
  check("bars of both", /A, B/.test(await panel.locator(".drawing").getAttribute("aria-label")), await panel.locator(".drawing").getAttribute("aria-label"));

  await looks(page, { compare: panel });

  // Saved from the panel it is called what it is.
  const [saved] = await Promise.all([page.waitForEvent("download"), panel.locator('[data-testid="figure-save-csv"]').click()]);
  check("saved under its own name", saved.suggestedFilename() === "resnet-digits-comparison.csv", saved.suggestedFilename());

  // Swapped, with other curves as well.
  const before = await size(page);
  await hook(page, "blocks").selectOption("1");
  await changed(page, () => size(page), before);
  await page.waitForTimeout(300);
  await ready(page);
  const one = await size(page);
  await hook(page, "ab-swap").click();
  await changed(page, () => size(page), one);
  await page.waitForTimeout(400);
  await ready(page);
  check("A's settings are those of the page again", (await size(page)) === a && (await hook(page, "blocks").inputValue()) === "8" && (await hook(page, "budget-number").inputValue()) === "4", [await size(page), a]);
  check("and what the page showed is A", (await row(page, "bytes"))[1] === `${grouped(one)} bytes` && /^1\.5 bits per weight.*1 block a layer/.test(await text(page, "ab-a")), await text(page, "ab-a"));
  const file = await download(page, "download-tq");
  check("a download is of A's settings", file.content.length === a, file.content.length);
  await hook(page, "ab-forget").click();
  check("forgotten", (await hook(page, "ab").getAttribute("data-kept")) === "false" && (await hook(page, "ab-table").count()) === 0);

  await hook(page, "ab-keep").click();
  await sample(page, "sample-alexnet");
  check("another model has nothing kept", (await hook(page, "ab").getAttribute("data-kept")) === "false");
  check("the page is ready", (await status(page)) === "ready", await status(page));
  check("no errors", page.errors.length === 0, page.errors);
  await page.context().close();
});

await browser.close();
await server.stop();
