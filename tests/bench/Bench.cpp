// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "tests/bench/Bench.h"

#include "benchmark/benchmark.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"

#include <cstring>
#include <map>
#include <optional>
#include <sys/mman.h>

using namespace tercet;
using llvm::formatv;

void bench::add(std::string name, std::function<Case()> make) {
  auto made = std::make_shared<std::optional<Case>>();
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State &state) {
    if (!*made)
      *made = make();
    const Case &c = **made;
    c.run(); // what ran before has left other things in the caches
    for (auto _ : state)
      c.run();
    state.counters[c.unit] = benchmark::Counter(
        c.work, benchmark::Counter::kIsIterationInvariantRate);
  })->Unit(benchmark::kMicrosecond);
}

void *bench::allocateBytes(size_t size) {
  constexpr size_t kHugePage = 2 << 20;
  size = (size + kHugePage - 1) / kHugePage * kHugePage;
  void *memory = std::aligned_alloc(kHugePage, size);
  madvise(memory, size, MADV_HUGEPAGE);
  return std::memset(memory, 0, size);
}

uint8_t *bench::getWeights(int64_t size) {
  static std::map<int64_t, uint8_t *> weights;
  uint8_t *&data = weights[size];
  if (!data)
    data = allocate<uint8_t>(size);
  return data;
}

MemRef<float, 2> bench::makeFloats(int64_t rows, int64_t columns) {
  auto matrix = makeMatrix<float>(rows, columns);
  for (int64_t i = 0; i < rows * columns; ++i)
    matrix.aligned[i] = float(i * 2654435761u % 1000) / 500 - 1;
  return matrix;
}

std::string bench::makeKernel(const std::string &arguments,
                              const std::string &body) {
  return "func.func @kernel(" + arguments + ") {\n" + body + "\n  return\n}\n";
}

std::string bench::getRowsType(int64_t columns) {
  return formatv("memref<?x{0}xf32, strided<[{0}, 1]>>", columns);
}

std::string bench::toName(llvm::StringRef layout) {
  std::string name;
  llvm::copy_if(layout, std::back_inserter(name),
                [](char c) { return !llvm::is_contained("<> ", c); });
  return name;
}

bench::Case bench::makeMatrixCase(std::function<void()> run,
                                  int64_t sizeInBytes, int64_t rows,
                                  int64_t columns, int64_t numTokens) {
  if (numTokens == 1)
    return {std::move(run), double(sizeInBytes), kBytes};
  return {std::move(run), double(rows) * columns * numTokens, kMACs};
}
