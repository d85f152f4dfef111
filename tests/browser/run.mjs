// Runs all `*.test.mjs` here, or those whose names hold one of the arguments, one after the other in one process.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { counted, group } from "./harness.mjs";

const folder = path.dirname(fileURLToPath(import.meta.url));
const wanted = process.argv.slice(2);
const files = fs.readdirSync(folder).filter((name) => name.endsWith(".test.mjs") && (!wanted.length || wanted.some((part) => name.includes(part))));
for (const file of files.sort()) await group(file, () => import(pathToFileURL(path.join(folder, file)).href));
const { passed, failed } = counted();
console.log(`\n${passed} passed, ${failed} failed`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);
