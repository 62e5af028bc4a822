// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// KernelRunner.c for WebAssembly: node KernelRunner.mjs MODULE FILE

import { readFileSync, writeFileSync } from "node:fs";

const kMaxArguments = 16, kDescriptorBytes = 8 * 20;

const [program, path] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(readFileSync(program));
const { memory, kernel_arguments, __heap_base } = instance.exports;

const alignUp = (n) => Math.ceil(n / 64) * 64;
const file = readFileSync(path);
const start = alignUp(__heap_base.value);
const values = alignUp(start + file.length);
const descriptors = values + 8 * kMaxArguments;
const end = descriptors + kDescriptorBytes * kMaxArguments;
memory.grow(Math.max(0, Math.ceil(end / 65536 - memory.buffer.byteLength / 65536)));
new Uint8Array(memory.buffer).set(file, start);

const view = new DataView(memory.buffer);
let word = start;
const next = () => view.getBigInt64((word += 8) - 8, true);
for (let i = 0, count = next(); i < count; ++i) {
  const rank = next(), value = next();
  const descriptor = descriptors + kDescriptorBytes * i;
  view.setBigInt64(values + 8 * i, rank < 0 ? value : BigInt(descriptor), true);
  if (rank < 0) continue;
  const data = start + Number(value);
  view.setInt32(descriptor, data, true);
  view.setInt32(descriptor + 4, data, true);
  for (let j = 0; j < 2 * Number(rank); ++j)
    view.setBigInt64(descriptor + 16 + 8 * j, next(), true);
}
kernel_arguments(values);
writeFileSync(path, new Uint8Array(memory.buffer, start, file.length));
