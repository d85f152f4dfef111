// The engine's module worker. It picks the build with threads where the page is cross-origin isolated, and the other one where it is not
// or where threads fail. The page passes its own query on: ?engine=st forces the build without threads, ?threads=N sets their number.

const query = new URL(self.location.href).searchParams;
/** Most threads by default: layers are the tasks, and few networks keep more busy. */
const MOST = 16;
/** Longest wait for the pool of threads, in milliseconds; a thread that cannot load its module never answers. */
const PATIENCE = 20000;

// Installed before anything is awaited, so that no message is lost while the engine loads.
const backlog = [];
let job = 0;
let handle = (message) => backlog.push(message);
self.onmessage = (event) => handle(event.data);

/** What `FromEngine::Failed` looks like. */
function fail(job, error) {
  self.postMessage({ Failed: { job, error } });
}

function threadsWork() {
  if (!self.crossOriginIsolated || query.get("engine") === "st") return false;
  try {
    new SharedArrayBuffer(8);
    return true;
  } catch {
    return false;
  }
}

function threadsWanted() {
  const asked = Number.parseInt(query.get("threads") ?? "", 10);
  return Math.max(1, asked || Math.min(navigator.hardwareConcurrency || 1, MOST));
}

async function load() {
  if (threadsWork()) {
    try {
      const engine = await import("./engine-mt/engine.js");
      await engine.default();
      const threads = threadsWanted();
      const late = new Promise((_, reject) => setTimeout(reject, PATIENCE, new Error("the threads did not start")));
      await Promise.race([engine.initThreadPool(threads), late]);
      return [engine, threads];
    } catch (error) {
      console.warn("no threads:", error);
    }
  }
  const engine = await import("./engine-st/engine.js");
  await engine.default();
  return [engine, 1];
}

async function start() {
  const [engine, threads] = await load();
  const stopped = (error) => fail(job, `The engine stopped (${error}); load the page again.`);
  handle = (message) => {
    job = Object.values(message)[0]?.job ?? job;
    engine.handle(message).catch(stopped);
  };
  // A panic in a task that Wasm itself had started reaches no promise.
  self.addEventListener("error", (event) => stopped(event.message));
  engine.start(threads);
  backlog.splice(0).forEach(handle);
}

start().catch((error) => fail(0, `The engine does not start in this browser (${error}).`));
