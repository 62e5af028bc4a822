// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Linear memory has one size of page, which nobody may ask for or give back.

#include "runtime/src/Memory.h"

#include <cstdlib>
#include <cstring>

using namespace tercet;

static constexpr uint64_t Alignment = 64;
static constexpr uint64_t WasmPage = 65536;

PageMemory::PageMemory(uint64_t size) : sizeInBytes(size) {
  mappedSize = (size / Alignment + 1) * Alignment;
  if (mappedSize > SIZE_MAX)
    return;
  start = mapping = aligned_alloc(Alignment, mappedSize);
  if (start)
    memset(start, 0, mappedSize);
}

PageMemory::~PageMemory() { free(mapping); }

void tercet::populateForReading(const void *, uint64_t) {}
void tercet::adviseHugePages(const void *, uint64_t) {}

uint64_t tercet::peakMemoryInBytes() {
  return __builtin_wasm_memory_size(0) * WasmPage;
}
