// The rest of the engine, beside the module that this file's engine.js loads.
const REST = import.meta.url.replace(/snippets\/.*$/, "engine_rest.wasm");

/** Of its bytes, how many have come. */
let came = 0;

export function bytesCame() {
  return came;
}

/** Its bytes, once they are there. */
export async function fetchRest() {
  came = 0;
  let response;
  const parts = [];
  try {
    response = await fetch(REST);
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      came += value.length;
    }
  } catch {
    throw new Error(came ? "the answer broke off" : "no answer");
  }
  if (!response.ok) throw new Error(`status ${response.status}`);
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** Its bytes, waited for: whoever calls is in the middle of a function of the first part. */
export function fetchRestNow() {
  const request = new XMLHttpRequest();
  request.open("GET", REST, false);
  request.responseType = "arraybuffer";
  try {
    request.send();
  } catch {
    throw new Error("no answer");
  }
  if (request.status !== 200) throw new Error(`status ${request.status}`);
  return new Uint8Array(request.response);
}

/** Puts it, of these bytes, beside the first part that has these exports, in whose function table its functions are then. The memory may be a shared one, of which no module is compiled. */
export function startRest(bytes, first) {
  new WebAssembly.Instance(new WebAssembly.Module(bytes.slice()), { first });
}
