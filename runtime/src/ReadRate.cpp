// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/ReadRate.h"
#include "runtime/src/CpuFeatures.h"
#include "runtime/src/ThreadPool.h"

#include <chrono>

using namespace tercet;

using Vector = uint64_t __attribute__((vector_size(64), aligned(64)));

static constexpr uint64_t ReadUnit = uint64_t(128) << 10;

/// Reads whole units as two streams half a unit apart: enough misses in flight
/// for DRAM, and each stream long enough for the hardware prefetcher.
[[gnu::always_inline]] static inline uint64_t sumUnits(const char *data,
                                                       int64_t numUnits) {
  constexpr uint64_t Half = ReadUnit / 2, Turn = 4 * sizeof(Vector);
  Vector low = {}, high = {};
  for (const char *end = data + numUnits * ReadUnit; data != end;
       data += ReadUnit)
    for (uint64_t i = 0; i < Half; i += Turn)
      for (uint64_t j = i; j < i + Turn; j += sizeof(Vector)) {
        low += *reinterpret_cast<const Vector *>(data + j);
        high += *reinterpret_cast<const Vector *>(data + Half + j);
      }
  low += high;
  uint64_t sum = 0;
  for (int lane = 0; lane < 8; ++lane)
    sum += low[lane];
  return sum;
}

static uint64_t sumBaseline(const char *data, int64_t numUnits) {
  return sumUnits(data, numUnits);
}

#ifdef __x86_64__
// A model in cache is read faster by wide loads; the archive is built for the
// baseline ISA.
[[gnu::target("avx2")]] static uint64_t sumAvx2(const char *data,
                                                int64_t numUnits) {
  return sumUnits(data, numUnits);
}
[[gnu::target("avx512f")]] static uint64_t sumAvx512(const char *data,
                                                     int64_t numUnits) {
  return sumUnits(data, numUnits);
}
#endif

using SumFunction = uint64_t (*)(const char *, int64_t);

static SumFunction widestSum() {
#ifdef __x86_64__
  uint64_t features = hostCpuFeatures();
  if (features & TERCET_CPU_AVX512F)
    return sumAvx512;
  if (features & TERCET_CPU_AVX2)
    return sumAvx2;
#endif
  return sumBaseline;
}

namespace {
struct ReadContext {
  const char *data;
  SumFunction sum;
  std::atomic<uint64_t> total{0}; // Keeps the loads alive.
};
} // namespace

static void readBody(void *context, int64_t begin, int64_t end, void *) {
  auto *read = static_cast<ReadContext *>(context);
  read->total.fetch_add(read->sum(read->data + begin * ReadUnit, end - begin),
                        std::memory_order_relaxed);
}

double tercet::measureReadRate(tercet_pool &pool, const void *data,
                               uint64_t size) {
  int64_t numUnits = static_cast<int64_t>(size / ReadUnit);
  if (numUnits == 0)
    return 0;
  ReadContext read{static_cast<const char *>(data), widestSum()};
  // Several passes over what is in a cache, whose single pass is too short.
  auto start = std::chrono::steady_clock::now();
  double seconds = 0;
  int64_t passes = 0;
  for (; seconds < 2e-3; ++passes) {
    tercet_parallel_for(&pool, readBody, &read, numUnits, /*work=*/-1);
    seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
            .count();
  }
  return passes * numUnits * ReadUnit / seconds;
}
