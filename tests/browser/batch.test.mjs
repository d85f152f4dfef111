// Several models with the same settings: told apart, compressed one after the other, one that fails among them, stopped and gone on, one archive.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { check, group, root, setUp } from "./harness.mjs";
import { download, hook, looks, open, ready, sample, shots, size, squares, status, text } from "./page.mjs";

const samples = path.join(root, "www/samples");
const fixtures = path.join(root, "tests/fixtures");
const names = ["resnet", "alexnet", "densenet"].map((name) => `${name}-digits.onnx`);
const models = names.map((name) => path.join(samples, name));
const broken = path.join(shots, "broken.onnx");
fs.writeFileSync(broken, fs.readFileSync(models[0]).subarray(0, 5000));

const rows = (page) => hook(page, "batch").locator("li").evaluateAll((all) => all.map((li) => ({ name: li.dataset.name, state: li.dataset.state, text: li.textContent })));
const is = (page, state, timeout = 120000) =>
  page.waitForFunction((state) => document.querySelector('[data-testid="batch"]')?.dataset.state === state, state, { timeout });
const drop = (page, files) => hook(page, "model-input").setInputFiles(files);

/** Members of a zip archive whose members are stored: by its directory. */
function unzip(bytes) {
  const end = bytes.lastIndexOf(Buffer.from("PK\x05\x06", "latin1"));
  const found = {};
  for (let at = bytes.readUInt32LE(end + 16), left = bytes.readUInt16LE(end + 10); left > 0; left--) {
    const [method, length, name, extra, comment, local] = [
      bytes.readUInt16LE(at + 10), bytes.readUInt32LE(at + 24), bytes.readUInt16LE(at + 28), bytes.readUInt16LE(at + 30), bytes.readUInt16LE(at + 32), bytes.readUInt32LE(at + 42),
    ];
    const start = local + 30 + bytes.readUInt16LE(local + 26) + bytes.readUInt16LE(local + 28);
    found[bytes.toString("utf8", at + 46, at + 46 + name)] = { method, content: bytes.subarray(start, start + length) };
    at += 46 + name + extra + comment;
  }
  return found;
}

/** The command line tool, where it was built beside this test's. */
const tool = process.env.WATERFILL_EXE ?? path.resolve(path.dirname(process.env.XTASK_EXE), "waterfill");
const hasTool = fs.existsSync(tool);
if (!hasTool) console.log(`\n${tool} is not there: comparisons with the command line are left out`);
/** Whether the decoder in Python decodes a file: it needs NumPy. */
let python = true;
try {
  execFileSync("python3", ["-c", "import numpy"], { stdio: "ignore" });
} catch {
  python = false;
  console.log("\nPython has no NumPy: docs/tq.py is left out");
}

const { browser, server, engines, end } = await setUp();

for (const [engine, url, options] of engines) {
  await group(`${engine}: several models`, async () => {
    const page = await open(browser, url, { ...options, method: "transform" });
    await sample(page, "sample-alexnet");
    const before = await size(page);
    await drop(page, [models[0], broken, models[1], models[2]]);
    await hook(page, "batch").waitFor({ timeout: 30000 });
    await is(page, "done");
    await ready(page);
    const all = await rows(page);
    check("each is listed, in order", all.map((r) => r.name).join() === [names[0], "broken.onnx", names[1], names[2]].join(), all.map((r) => r.name));
    check("one fails, the others do not", all.map((r) => r.state).join() === "done,failed,done,done", all);
    check("what failed says why", /broken\.onnx.*;.*\./.test(all[1].text), all[1].text);
    check("what is done says before and after", /bytes → [\d,]+ bytes: [\d.]+ times smaller/.test(all[0].text), all[0].text);
    check("in sum", /3 of 4 models compressed, 1 failed\./.test(await text(page, "batch")), await text(page, "batch"));
    check("the model that was open is open", (await size(page)) === before && (await page.locator(".model-name").textContent()) === names[1]);

    const alone = await download(page, "download-tq");
    const zip = await download(page, "batch-zip");
    const files = unzip(zip.content);
    check("one archive of all results and the report", zip.name === "waterfill.zip" && Object.keys(files).sort().join() === "alexnet-digits.tq,densenet-digits.tq,resnet-digits.tq,waterfill.csv", Object.keys(files));
    check("stored, not deflated", Object.values(files).every((f) => f.method === 0));
    check("a file of it is what the page writes for the model alone", files["alexnet-digits.tq"].content.equals(alone.content), [files["alexnet-digits.tq"].content.length, alone.content.length]);
    if (hasTool) {
      execFileSync(tool, ["compress", ...models, "-o", path.join(shots, "batch"), "--bits", "4"], { stdio: ["ignore", "ignore", "pipe"] });
      for (const name of ["resnet", "alexnet", "densenet"]) {
        const same = fs.readFileSync(path.join(shots, "batch", `${name}-digits.tq`)).equals(files[`${name}-digits.tq`].content);
        check(`${name}: the command line writes the same file`, same);
      }
    }
    const csv = (await download(page, "batch-csv")).content.toString();
    check("the report has a line a model", csv === files["waterfill.csv"].content.toString() && csv.trim().split("\n").length === 5 && /broken\.onnx,failed/.test(csv) && csv.includes(`,${files["resnet-digits.tq"].content.length},`), csv);
    const one = await hook(page, "batch-save").first().evaluate((b) => b.getAttribute("aria-label"));
    check("each can be had by itself", one === `Save ${names[0]}, compressed`, one);
    if (python && engine === "threads") {
      for (const name of ["resnet", "densenet"]) {
        const tq = path.join(shots, `${name}-batch.tq`);
        fs.writeFileSync(tq, files[`${name}-digits.tq`].content);
        const out = execFileSync("python3", [path.join(root, "docs/tq.py"), tq], { encoding: "utf8" });
        check(`${name}: the decoder in Python decodes it`, out.trim().length > 0, out);
      }
    }
    if (engine === "threads") {
      await looks(page, { batch: hook(page, "batch") });
    }

    // Other settings, all again.
    await hook(page, "budget-number").fill("2");
    await ready(page);
    await hook(page, "batch-again").click();
    await page.waitForFunction(() => document.querySelector('[data-testid="batch"]').dataset.state === "running");
    await is(page, "done");
    await ready(page);
    const smaller = unzip((await download(page, "batch-zip")).content);
    check("other settings, other files", smaller["resnet-digits.tq"].content.length < 0.7 * files["resnet-digits.tq"].content.length);
    await hook(page, "batch-close").click();
    check("put away", (await hook(page, "batch").count()) === 0);
    check("no errors", page.errors.length === 0, page.errors);
    await page.context().close();
  });
}

await group("files that belong together, and a stop between and within models", async () => {
  const page = await open(browser, `${server.url}?threads=2`, { method: "transform" });
  await drop(page, [path.join(fixtures, "external.data"), path.join(fixtures, "external.onnx")]);
  await hook(page, "size-readout").waitFor({ timeout: 30000 });
  await ready(page);
  check("a model with its external data is one model", (await page.locator(".model-name").textContent()) === "external.onnx" && (await hook(page, "batch").count()) === 0);

  const large = squares(path.join(shots, "large.safetensors"), 6, 700);
  await drop(page, [models[0], large, models[1]]);
  await hook(page, "batch").waitFor({ timeout: 30000 });
  await page.waitForFunction(() => document.querySelector('[data-name="large.safetensors"]')?.dataset.state === "working", null, { timeout: 60000 });
  check("the open model's budget is live meanwhile", await hook(page, "budget-number").isEnabled());
  await hook(page, "batch-cancel").click();
  await is(page, "waiting");
  await ready(page);
  const stopped = await rows(page);
  check("stopped: what is done stays, the rest waits", stopped.map((r) => r.state).join() === "done,waiting,waiting", stopped.map((r) => r.state));
  check("the open model is still open", (await page.locator(".model-name").textContent()) === "external.onnx" && /2 to go/.test(await text(page, "batch")), await text(page, "batch"));
  await hook(page, "batch-go-on").click();
  await is(page, "done");
  await ready(page);
  check("and it goes on", (await rows(page)).every((r) => r.state === "done"), await rows(page));
  check("the page is ready", (await status(page)) === "ready", await status(page));
  check("no errors", page.errors.length === 0, page.errors);
  await page.context().close();
});

await end();
