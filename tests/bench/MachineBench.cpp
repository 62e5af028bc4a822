// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What kernels are compared with: memory, and arithmetic on registers.

#include "tests/bench/Bench.h"

#include "llvm/Support/FormatVariadic.h"

using namespace tercet;
using namespace tercet::bench;

/// Four streams, as loads that nothing computes on.
static uint64_t readAll(const uint8_t *data, int64_t size) {
  typedef uint64_t Vector __attribute__((vector_size(64), aligned(64)));
  const Vector *from = reinterpret_cast<const Vector *>(data);
  int64_t quarter = size / 64 / 4;
  Vector sums[4] = {};
  for (int64_t i = 0; i < quarter; ++i)
    for (int s = 0; s < 4; ++s)
      sums[s] |= from[s * quarter + i];
  Vector sum = sums[0] | sums[1] | sums[2] | sums[3];
  return sum[0];
}

static Case makeRead(int64_t size) {
  uint8_t *data = getWeights(size);
  auto run = [=] {
    [[maybe_unused]] static volatile uint64_t sink;
    sink = readAll(data, size);
  };
  return {run, double(size), kBytes};
}

/// Independent fmas.
static Case makeFMAPeak() {
  constexpr int64_t kChains = 16, kRounds = 4096;
  typedef float Vector __attribute__((vector_size(64), aligned(64)));
  auto run = [] {
    [[maybe_unused]] static volatile float sink;
    Vector sums[kChains] = {}, factor = {}, term = {};
    for (int64_t i = 0; i < kRounds; ++i)
      for (Vector &sum : sums) {
        sum = sum * factor + term;
        asm("" : "+v"(sum));
      }
    for (Vector &sum : sums)
      sink = sum[0];
  };
  return {run, kChains * kRounds * 16, kMACs};
}

void bench::addMachine() {
  for (int64_t megabytes : {64, 128, 160})
    add(llvm::formatv("machine/read/{0}MB", megabytes),
        [=] { return makeRead(megabytes << 20); });
  add("machine/fma_peak", makeFMAPeak);
}
