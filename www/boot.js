// Starts the page. A file of its own, because the Content-Security-Policy allows no inline script.

/** Set in this tab once it was reloaded to become isolated: never a second time, whatever the host does. */
const RELOADED = "waterfill-reloaded";
/** Longest wait for the service worker before the page starts without it, in milliseconds. */
const PATIENCE = 4000;

/** Registers the service worker, and resolves with its registration once it runs; with null where there is none. */
async function serviceWorker() {
  try {
    if (!navigator.serviceWorker) return null; // an insecure address, or switched off
    await navigator.serviceWorker.register("sw.js", { updateViaCache: "none" });
    return await navigator.serviceWorker.ready;
  } catch (error) {
    console.warn("no service worker:", error);
    return null;
  }
}

/** Whether the page is about to be loaded again, under the service worker, which adds the headers that threads need. */
async function reloads(worker) {
  if (self.crossOriginIsolated) {
    sessionStorage.removeItem(RELOADED);
    return false;
  }
  if (!self.isSecureContext || sessionStorage.getItem(RELOADED)) return false;
  const late = new Promise((resolve) => setTimeout(resolve, PATIENCE, null));
  if (!(await Promise.race([worker, late]))) return false;
  sessionStorage.setItem(RELOADED, "1");
  location.reload();
  return true;
}

/** Without storage (blocked by the user) there is nothing that stops a second reload, so there is no first. */
async function isolates(worker) {
  try {
    return await reloads(worker);
  } catch (error) {
    console.warn("not isolated:", error);
    return false;
  }
}

/** Resolves when the engine runs; the page says so. */
const engine = new Promise((resolve) => addEventListener("waterfill-engine", resolve, { once: true }));

async function start() {
  const worker = serviceWorker();
  if (await isolates(worker)) return;
  const loading = document.getElementById("loading");
  try {
    const app = await import("./app.js");
    await app.default();
    loading.remove();
  } catch (error) {
    loading.textContent = `Waterfill cannot start in this browser (${error}). It needs a current Chrome, Edge, Firefox or Safari.`;
    throw error;
  }
  // The offline copy has the engine, too: it is made once that runs, of what is then there. Who only looks at the page fetches nothing else.
  await engine;
  (await worker)?.active?.postMessage("keep");
}

start();
