// What the end-to-end tests share: servers, the browser, pages that notice errors, checks.

import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import zlib from "node:zlib";
import { chromium } from "playwright-core";

/** The repository. */
export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
/** The built page. */
export const dist = path.join(root, "dist");

function setting(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; run the tests with \`cargo xtask test --only e2e\``);
  return value;
}

const children = new Set();
process.on("exit", () => children.forEach((child) => child.kill()));

/**
 * Serves a folder on a free port. `isolation: false` sends no isolation headers, like a static host.
 * Returns `{ url, port, stop }`; `port` can be given to serve again on the same address.
 */
export async function serve({ folder = dist, isolation = true, port = 20000 + Math.floor(Math.random() * 20000) } = {}) {
  const flags = isolation ? [] : ["--no-isolation"];
  const child = spawn(setting("XTASK_EXE"), ["serve", "--dir", folder, "--port", String(port), ...flags], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.add(child);
  const ended = once(child, "exit");
  for await (const line of createInterface({ input: child.stdout })) {
    const address = line.match(/http:\/\/127\.0\.0\.1:(\d+)\//);
    if (address) {
      const stop = async () => {
        children.delete(child);
        child.kill();
        await ended;
      };
      return { url: address[0], port: Number(address[1]), stop };
    }
  }
  throw new Error(`no server for ${folder}`);
}

/** Starts Chromium. Each new context of it is a fresh profile. */
export function launch() {
  const args = [
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ];
  return chromium.launch({ executablePath: setting("CHROMIUM"), headless: true, args });
}

/** The browser and two servers, one without isolation headers; the engines that pages come to there: name, address, options; and the end of it all. */
export async function setUp() {
  const [browser, server, plain] = [await launch(), await serve(), await serve({ isolation: false })];
  const engines = [
    ["threads", `${server.url}?threads=2`, {}],
    ["fallback", plain.url, { serviceWorkers: "block" }],
  ];
  const end = async () => {
    await browser.close();
    await server.stop();
    await plain.stop();
  };
  return { browser, server, plain, engines, end };
}

/**
 * A page in a context of its own.
 * `page.errors`: what was written to the console as an error, or thrown by nobody's handler; `page.requests`: all addresses asked for.
 * `await longestGap(page)`: the longest time the main thread did not answer.
 */
export async function newPage(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.errors = [];
  page.requests = [];
  page.on("console", (message) => message.type() === "error" && page.errors.push(`${message.text()} (${message.location().url})`));
  page.on("pageerror", (error) => page.errors.push(String(error)));
  context.on("request", (request) => page.requests.push(request.url()));
  await page.addInitScript(() => {
    let last = performance.now();
    self.longestGap = 0;
    setInterval(() => {
      const now = performance.now();
      self.longestGap = Math.max(self.longestGap, now - last);
      last = now;
    }, 5);
  });
  return page;
}

/** The page's own files that were asked for so far, from a server of it at this address. */
export function askedFor(page, url) {
  const names = page.requests.filter((r) => r.startsWith(new URL("./", url).href)).map((r) => decodeURIComponent(new URL(r).pathname.slice(1)) || "index.html");
  return [...new Set(names)].filter((name) => fs.existsSync(path.join(dist, name)));
}

/** Bytes of files of the page over the wire, from a host that sends them by brotli. */
export function brotli(files) {
  const params = { [zlib.constants.BROTLI_PARAM_QUALITY]: 11 };
  return files.map((name) => zlib.brotliCompressSync(fs.readFileSync(path.join(dist, name)), { params }).length).reduce((a, b) => a + b, 0);
}

/** Longest time in milliseconds for which the main thread did not answer, since the page was loaded or this was last called. */
export function longestGap(page) {
  return page.evaluate(() => {
    const gap = self.longestGap;
    self.longestGap = 0;
    return gap;
  });
}

/** What axe finds wrong, at the given impacts: one line each. Goes past the page's policy, which allows no foreign script. */
export async function accessibility(page, impacts = ["serious", "critical"]) {
  await page.evaluate(createRequire(import.meta.url)("axe-core").source);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations
    .filter(({ impact }) => impacts.includes(impact))
    .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.target.join(" ")).join(", ")}`);
}

const totals = { passed: 0, failed: 0 };

/** One check, printed and counted. `detail` is shown when it fails. */
export function check(what, holds, detail = "") {
  totals[holds ? "passed" : "failed"]++;
  console.log(`${holds ? "ok  " : "FAIL"} ${what}${holds || detail === "" ? "" : `: ${typeof detail === "string" ? detail : JSON.stringify(detail)}`}`);
}

/**
 * One check of a time, printed. It fails only far beyond the target: a shared machine is slow at times, and this is to notice a page that hangs.
 * What was measured is for whoever reads the output.
 */
export function prompt(what, ms, target) {
  check(`${what} (${Math.round(ms)} ms, target ${target} ms)`, ms < 5 * target);
}

/** A group of checks; an error that is thrown in it counts as a failed check, and the next group runs. */
export async function group(name, body) {
  console.log(`\n${name}`);
  try {
    await body();
  } catch (error) {
    check(`${name}: ran to its end`, false, error?.stack ?? String(error));
  }
}

/** What was counted so far. */
export function counted() {
  return { ...totals };
}
