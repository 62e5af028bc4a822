// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs the WebAssembly module beside this file, whose name this one's is without
// ".mjs":  node austen.mjs -p "It was"   runs austen.

import { closeSync, openSync, readSync } from "node:fs";
import { fileURLToPath } from "node:url";

process.removeAllListeners("warning"); // WASI: experimental.
const { WASI } = await import("node:wasi");

const path = fileURLToPath(import.meta.url).replace(/\.mjs$/, "");

function readAt(file, position, size) {
  const bytes = Buffer.alloc(size);
  return bytes.subarray(0, readSync(file, bytes, 0, size, position));
}

// Compiles the module up to the model, its last section (id 0, named ".tercet"),
// which the program reads by itself: engines limit the size of what they compile.
async function compile() {
  const file = openSync(path);
  if (readAt(file, 0, 4).toString("latin1") !== "\0asm") throw Error("not a WebAssembly module");
  let end = 8;
  for (;;) {
    const head = readAt(file, end, 16);
    let size = 0, length = 1;
    for (let shift = 0, more = true; more && length < head.length; shift += 7) {
      size += (head[length] & 127) * 2 ** shift;
      more = head[length++] > 127;
    }
    const isModel = head[0] === 0 && head.toString("latin1", length + 1, length + 8) === ".tercet";
    if (head.length < 2 || isModel) break;
    end += length + size;
  }
  const code = readAt(file, 0, end);
  closeSync(file);
  return WebAssembly.compile(code);
}

const module = await compile().catch((error) => {
  console.error(`error: ${path}: ${error.message}`);
  process.exit(1);
});
const wasi = new WASI({
  version: "preview1",
  args: [`node ${process.argv[1]}`, ...process.argv.slice(2)],
  env: { ...process.env, PWD: process.cwd(), TERCET_MODULE: path },
  preopens: { "/": "/" },
  returnOnExit: true,
});
const instance = await WebAssembly.instantiate(module, { wasi_snapshot_preview1: wasi.wasiImport });
process.exitCode = wasi.start(instance);
