// Service worker. Two things, both only for files of this page:
// 1. It adds the isolation headers, so that threads work on a static host that sends none.
// 2. It keeps a complete copy of the page for use offline, and older ones while other tabs may need theirs. The network always comes first, so nothing is ever stale while
//    there is one.
//
// The copy is made from files.json (written by `cargo xtask build`): a version, and each file with its integrity value. A copy has all
// files of one version or is not used: files.json goes in last, and marks it as complete.

const POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; connect-src 'self'; worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'none'";
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Content-Security-Policy": POLICY,
};
const SCOPE = self.registration.scope;
const LIST = new URL("files.json", SCOPE).href;
// An origin's caches are shared by all pages on it.
const PREFIX = `waterfill ${new URL(SCOPE).pathname} `;

self.addEventListener("install", (event) => event.waitUntil(self.skipWaiting()));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

let keeping = Promise.resolve();
self.addEventListener("message", (event) => {
  if (event.data !== "keep") return;
  // One at a time: two tabs may ask at once.
  keeping = keeping.then(keep).catch((error) => console.warn("no offline copy:", error));
  event.waitUntil(keeping);
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || !request.url.startsWith(SCOPE)) return;
  event.respondWith(answer(request));
});

/** The network's answer; the copy's when there is no network, its server is down, or has a newer version that lacks the file. */
async function answer(request) {
  let response;
  try {
    // Asks the server about what the browser's own cache holds: all files are then of one build.
    response = await fetch(request, { cache: "no-cache" });
    if (response.status < 400) return isolated(response);
  } catch (error) {
    response = Response.error();
  }
  const kept = await lookUp(request);
  return kept ? isolated(kept) : response;
}

/** The response with the headers. Redirects of a navigation cannot be read, and are the browser's to follow. */
function isolated(response) {
  if (response.type === "opaqueredirect" || response.type === "error") return response;
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  const empty = [101, 204, 205, 304].includes(response.status);
  return new Response(empty ? null : response.body, { status: response.status, statusText: response.statusText, headers });
}

/** Names of the copies there are, complete or not. */
async function copies() {
  return (await caches.keys()).filter((name) => name.startsWith(PREFIX));
}

/** A file of the newest complete copy that has it. */
async function lookUp(request) {
  const url = new URL(request.url);
  url.search = url.hash = "";
  if (url.href === SCOPE) url.href += "index.html";
  // Their names come in the order in which they were made.
  for (const name of (await copies()).reverse()) {
    const cache = await caches.open(name);
    const kept = (await cache.match(LIST)) && (await cache.match(url.href));
    if (kept) return kept;
  }
}

/** Makes the copy of the version that the server has now, unless it is there; then removes the others, if no other tab may need them: its engine is in a
 * folder that its version alone has. */
async function keep() {
  const response = await fetch(LIST, { cache: "no-cache" });
  if (!response.ok) return; // no list, no copy: a page that was put together without `cargo xtask build`
  const { version, files } = await response.clone().json();
  const name = PREFIX + version;
  const cache = await caches.open(name);
  if (!(await cache.match(LIST))) {
    for (const [file, integrity] of Object.entries(files)) {
      const url = new URL(file, SCOPE).href;
      if (await cache.match(url)) continue; // from a time when the network went away
      const fresh = await fetch(url, { cache: "no-cache", integrity });
      if (!fresh.ok) throw new Error(`${file}: ${fresh.status}`);
      await cache.put(url, fresh);
    }
    await cache.put(LIST, response);
  }
  const tabs = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  if (tabs.filter((tab) => tab.url.startsWith(SCOPE)).length > 1) return;
  for (const other of await copies()) if (other !== name) await caches.delete(other);
}
