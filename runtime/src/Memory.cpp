// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Memory.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

using namespace tercet;

static constexpr uint64_t HugePage = uint64_t(2) << 20;

PageMemory::PageMemory(uint64_t size) : sizeInBytes(size) {
  // Only a range that starts at a huge page gets one; below that size a few
  // small pages are cheaper than zeroing two megabytes.
  bool huge = size >= HugePage;
  mappedSize = size + (huge ? HugePage : 1);
  void *map = mmap(nullptr, mappedSize, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED)
    return;
  start = mapping = map;
  if (!huge)
    return;
  start = reinterpret_cast<void *>(
      (reinterpret_cast<uintptr_t>(map) + HugePage - 1) & -HugePage);
  adviseHugePages(start, size);
}

PageMemory::~PageMemory() {
  if (mapping)
    munmap(mapping, mappedSize);
}

void tercet::populateForReading(const void *begin, uint64_t size) {
  uintptr_t mask = uintptr_t(sysconf(_SC_PAGESIZE)) - 1;
  uintptr_t first = reinterpret_cast<uintptr_t>(begin) & ~mask;
  uintptr_t last = (reinterpret_cast<uintptr_t>(begin) + size + mask) & ~mask;
  madvise(reinterpret_cast<void *>(first), last - first, MADV_POPULATE_READ);
}

void tercet::adviseHugePages(const void *begin, uint64_t size) {
  madvise(const_cast<void *>(begin), size, MADV_HUGEPAGE);
}

uint64_t tercet::peakMemoryInBytes() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return uint64_t(usage.ru_maxrss) * 1024;
}
