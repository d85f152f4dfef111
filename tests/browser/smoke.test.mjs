// The page loads, the right engine starts, and the service worker does its two jobs. What the page does is in other files.

import { createHash } from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { check, dist, group, launch, newPage, root, serve } from "./harness.mjs";

/** Starts an engine of our own and waits for its first message. */
function engine(page, query = "") {
  return page.evaluate(
    (query) =>
      new Promise((resolve, reject) => {
        const worker = new Worker(document.querySelector("meta[name=engine]").content + query, { type: "module" });
        const end = (message) => {
          worker.terminate();
          resolve(message);
        };
        setTimeout(reject, 30000, new Error("no message from the engine"));
        worker.onerror = (event) => reject(new Error(`the worker failed: ${event.message}`));
        worker.onmessage = (event) => end(event.data);
      }),
    query,
  );
}

/** Waits until the page is up, and begins: its engine is loaded then. */
async function mounted(page) {
  await page.waitForFunction(() => document.readyState === "complete" && !document.getElementById("loading"), null, { timeout: 30000 });
  await page.mouse.move(1, 1);
  await page.mouse.move(2, 2);
}
const isolated = (page) => page.evaluate(() => self.crossOriginIsolated);
/** Versions of the complete offline copies of the page's folder. */
const versions = (page) =>
  page.evaluate(async () => {
    const prefix = `waterfill ${new URL("./", location.href).pathname} `;
    const complete = [];
    for (const name of await caches.keys()) {
      if (name.startsWith(prefix) && (await (await caches.open(name)).match("files.json"))) complete.push(name.slice(prefix.length));
    }
    return complete.join();
  });
/** Waits until the offline copy of this version is the only complete one. */
async function kept(page, version) {
  for (let tries = 0; tries < 150 && (await versions(page)) !== version; tries++) await page.waitForTimeout(100);
  check(`the offline copy is of version ${version}`, (await versions(page)) === version, await versions(page));
}
/** Counts how often the page is loaded from here on. */
function loads(page) {
  const counter = { count: 0 };
  page.on("framenavigated", (frame) => frame === page.mainFrame() && counter.count++);
  return counter;
}

const browser = await launch();
console.log(`Chromium ${browser.version()}`);

await group("with isolation headers", async () => {
  const server = await serve();
  const page = await newPage(browser);
  const loaded = loads(page);
  await page.goto(server.url);
  await mounted(page);
  check("the page is isolated", await isolated(page));
  const { Ready } = await engine(page, "?threads=2");
  check("the engine with threads runs", Ready?.shared === true && Ready.threads === 2 && Ready.simd === true, Ready);
  const all = (await engine(page)).Ready;
  const cores = await page.evaluate(() => navigator.hardwareConcurrency);
  check("it uses as many threads as there are processors, up to 16", all?.threads === Math.min(cores, 16), all);
  const forced = (await engine(page, "?engine=st")).Ready;
  check("?engine=st takes the other one", forced?.shared === false && forced.threads === 1 && forced.simd === true, forced);
  check("the page was loaded once", loaded.count === 1, loaded);
  check("nothing but this server was asked", page.requests.every((url) => url.startsWith(server.url) || url.startsWith("blob:")), page.requests);
  check("no errors", page.errors.length === 0, page.errors);

  const missing = await fetch(`${server.url}..%2fCargo.toml`);
  check("the server stays in its folder", missing.status === 404, missing.status);
  const type = async (file) => (await fetch(server.url + file)).headers.get("content-type");
  check("Wasm has its type", (await type("app_bg.wasm")) === "application/wasm");
  check("the manifest has its type", (await type("manifest.webmanifest")) === "application/manifest+json");

  // The three places of the policy agree, and it holds.
  const html = fs.readFileSync(path.join(root, "index.html"), "utf8").match(/Content-Security-Policy" content="([^"]+)"/)?.[1];
  const script = fs.readFileSync(path.join(root, "www/sw.js"), "utf8").match(/POLICY = "([^"]+)"/)?.[1];
  const header = (await fetch(server.url)).headers.get("content-security-policy");
  check("page, service worker and server have one policy", html && html === script && html === header, { html, script, header });
  const other = await serve();
  const reach = (url) => fetch(url, { mode: "no-cors" }).then(() => "reached", () => "refused");
  check("the page reaches no other address", (await page.evaluate(reach, other.url)) === "refused");
  const fromWorker = await page.evaluate(async (url) => {
    // A blob's worker has the policy of who made it, as the engine's threads have.
    const source = `fetch(${JSON.stringify(url)}, { mode: "no-cors" }).then(() => "reached", () => "refused").then(postMessage)`;
    const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    return new Promise((resolve) => (worker.onmessage = (event) => resolve(event.data)));
  }, other.url);
  check("nor does a worker", fromWorker === "refused");
  await other.stop();
  await page.context().close();
  await server.stop();
});

/** Opens connections to a server, asks on each, and leaves them open, as browsers do; and how many had no answer within five seconds. */
async function connections(port, count) {
  const sockets = Array.from({ length: count }, () => net.connect(port, "127.0.0.1"));
  const answered = sockets.map(
    (socket) =>
      new Promise((resolve) => {
        socket.once("data", () => resolve(true)).once("error", () => resolve(false));
        setTimeout(resolve, 5000, false).unref();
        socket.write("GET /icon.svg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
      }),
  );
  const unanswered = (await Promise.all(answered)).filter((answer) => !answer).length;
  return { sockets, unanswered };
}

await group("connections that stay open keep nobody waiting", async () => {
  const server = await serve();
  let [asked, unanswered] = [0, 0];
  for (let round = 0; round < 25; round++) {
    const first = await connections(server.port, 24);
    // What those who leave have used must not be given to two.
    for (const socket of first.sockets.slice(0, 16)) socket.destroy();
    await new Promise((resolve) => setTimeout(resolve, 50));
    const second = await connections(server.port, 24);
    for (const socket of [...first.sockets, ...second.sockets]) socket.destroy();
    asked += 48;
    unanswered += first.unanswered + second.unanswered;
  }
  check(`all ${asked} are answered`, unanswered === 0, `${unanswered} are not`);
  await server.stop();
});

await group("who only looks fetches the page alone", async () => {
  const server = await serve();
  const page = await newPage(browser);
  const engines = () => page.requests.filter((url) => url.startsWith(`${server.url}engine-`));
  const info = () => page.locator('[data-testid="engine-info"]').textContent();
  await page.goto(server.url);
  await page.locator('[data-testid="engine-info"]').waitFor();
  await page.waitForTimeout(1500);
  check("no engine, and no copy", engines().length === 0 && (await versions(page)) === "", [engines(), await versions(page)]);
  check("it says so", (await info()) === "The engine is loaded when you begin.", await info());
  await page.keyboard.press("Tab");
  await page.waitForFunction(() => /thread/.test(document.querySelector('[data-testid="engine-info"]').textContent), null, { timeout: 30000 });
  check("at the first key it is loaded", engines().some((url) => url.endsWith("/worker.js")), engines());
  await kept(page, JSON.parse(fs.readFileSync(path.join(dist, "files.json"), "utf8")).version);
  check("no errors", page.errors.length === 0, page.errors);
  await page.context().close();
  await server.stop();
});

await group("an open page keeps its engine when a new version comes", async () => {
  const site = fs.mkdtempSync(path.join(os.tmpdir(), "waterfill-site-"));
  fs.cpSync(dist, site, { recursive: true });
  const server = await serve({ folder: site });
  const page = await newPage(browser);
  await page.goto(server.url);
  await mounted(page);
  const list = JSON.parse(fs.readFileSync(path.join(dist, "files.json"), "utf8"));
  await kept(page, list.version);

  // Its files are elsewhere in the new version, and the old ones gone.
  const folder = fs.readdirSync(site).find((name) => name.startsWith("engine-"));
  const other = `engine-${"0".repeat(16)}`;
  fs.renameSync(path.join(site, folder), path.join(site, other));
  const index = fs.readFileSync(path.join(site, "index.html"), "utf8").replace(folder, other);
  fs.writeFileSync(path.join(site, "index.html"), index);
  const hash = (name) => `sha256-${createHash("sha256").update(fs.readFileSync(path.join(site, name))).digest("base64")}`;
  const files = Object.fromEntries(Object.keys(list.files).map((name) => name.replace(folder, other)).map((name) => [name, hash(name)]));
  fs.writeFileSync(path.join(site, "files.json"), JSON.stringify({ version: "new", files }));

  const tab = await page.context().newPage();
  await tab.goto(server.url);
  await mounted(tab);
  await kept(tab, `${list.version},new`);
  check("a new tab has the new one", (await engine(tab, "?threads=2")).Ready?.threads === 2 && (await tab.locator("meta[name=engine]").getAttribute("content")) === `${other}/worker.js`);
  check("the server has the old one no more", (await fetch(`${server.url}${folder}/worker.js`)).status === 404);
  const { Ready } = await engine(page, "?threads=2");
  check("the open page starts its own again", Ready?.shared === true && Ready.threads === 2, Ready);
  check("no errors", page.errors.length === 0, page.errors);

  await page.close();
  await tab.reload();
  await mounted(tab);
  await kept(tab, "new");
  await page.context().close();
  await server.stop();
  fs.rmSync(site, { recursive: true });
});

await group("without isolation headers, service workers blocked", async () => {
  const server = await serve({ isolation: false });
  const page = await newPage(browser, { serviceWorkers: "block" });
  const loaded = loads(page);
  await page.goto(server.url);
  await mounted(page);
  check("the page is not isolated", !(await isolated(page)));
  const { Ready } = await engine(page);
  check("the engine with one thread runs", Ready?.shared === false && Ready.threads === 1, Ready);
  check("the page was loaded at most twice", loaded.count <= 2, loaded);
  check("no errors", page.errors.length === 0, page.errors);
  await page.context().close();
  await server.stop();
});

await group("a static host, under a path, with the service worker", async () => {
  const site = fs.mkdtempSync(path.join(os.tmpdir(), "waterfill-site-"));
  fs.cpSync(dist, path.join(site, "a/b"), { recursive: true });
  const server = await serve({ folder: site, isolation: false });
  const page = await newPage(browser);
  const loaded = loads(page);
  await page.goto(`${server.url}a/b/`);
  await page.waitForFunction(() => self.crossOriginIsolated, null, { timeout: 30000 });
  await mounted(page);
  check("the page is isolated after one reload", loaded.count === 2, loaded);
  const { Ready } = await engine(page, "?threads=2");
  check("the engine with threads runs", Ready?.shared === true && Ready.threads === 2, Ready);
  await page.reload();
  await mounted(page);
  check("a later load needs no reload", (await isolated(page)) && loaded.count === 3, loaded);
  check("no errors", page.errors.length === 0, page.errors);

  const list = JSON.parse(fs.readFileSync(path.join(dist, "files.json"), "utf8"));
  await kept(page, list.version);
  await server.stop();
  for (const address of ["a/b/", "a/b/index.html?engine=st"]) {
    await page.goto(server.url + address);
    await mounted(page);
    check(`offline, /${address} loads`, await isolated(page));
  }
  const offline = (await engine(page, "?threads=2")).Ready;
  check("offline, the engine with threads runs", offline?.shared === true && offline.threads === 2, offline);
  const fallback = (await engine(page, "?engine=st")).Ready;
  check("offline, the other one runs", fallback?.shared === false, fallback);
  const listed = Object.keys(list.files);
  const unread = await page.evaluate(async (files) => {
    const ok = await Promise.all(files.map((file) => fetch(file).then((r) => r.ok, () => false)));
    return files.filter((_, at) => !ok[at]);
  }, listed);
  check(`offline, all ${listed.length} files are there`, listed.length > 10 && unread.length === 0, unread);
  check("offline, no errors", page.errors.length === 0, page.errors);

  // A new version replaces the copy as a whole; a broken one does not.
  const folder = path.join(site, "a/b");
  const write = (version) => fs.writeFileSync(path.join(folder, "files.json"), JSON.stringify({ ...list, version }));
  const again = await serve({ folder: site, isolation: false, port: server.port });
  fs.appendFileSync(path.join(folder, "boot.js"), "// changed\n");
  write("broken");
  const warned = page.context().waitForEvent("console", { predicate: (message) => /no offline copy/.test(message.text()), timeout: 10000 }).catch(() => false);
  await page.goto(`${again.url}a/b/`);
  await mounted(page);
  check("the network comes first", (await page.evaluate(() => fetch("boot.js").then((r) => r.text()))).endsWith("// changed\n"));
  check("an incomplete new version is noticed", await warned);
  await kept(page, list.version);
  await again.stop();
  await page.goto(`${again.url}a/b/`);
  await mounted(page);
  const old = await page.evaluate(() => fetch("boot.js").then((r) => r.text()));
  check("and is what is used offline", !old.endsWith("// changed\n"));
  const third = await serve({ folder: site, isolation: false, port: server.port });
  fs.copyFileSync(path.join(dist, "boot.js"), path.join(folder, "boot.js"));
  write("second");
  await page.goto(`${third.url}a/b/`);
  await mounted(page);
  await kept(page, "second");
  await third.stop();
  await page.context().close();
  fs.rmSync(site, { recursive: true });
});

await group("with isolation headers, the service worker keeps a copy, too", async () => {
  const server = await serve();
  const page = await newPage(browser);
  await page.goto(server.url);
  await mounted(page);
  await kept(page, JSON.parse(fs.readFileSync(path.join(dist, "files.json"), "utf8")).version);
  await server.stop();
  await page.goto(server.url);
  await mounted(page);
  check("offline, the page loads", await isolated(page));
  // Its engine's two parts with it: a model's curves are of the first, this figure is of the rest.
  await page.locator('input[type="file"]').first().setInputFiles(path.join(root, "www/samples/resnet-digits.onnx"));
  await page.locator('[data-testid="figure-histogram"]').click({ timeout: 60000 });
  const drawn = page.locator('[data-testid="figures"] [data-testid="live-figure"][data-state="done"]').getByText(/^Histogram of /);
  check("offline, a figure is made", await drawn.first().waitFor({ timeout: 60000 }).then(() => true, () => false));
  await page.context().close();
});

await browser.close();
