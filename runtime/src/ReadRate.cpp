// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/ReadRate.h"
#include "runtime/src/CpuFeatures.h"
#include "runtime/src/ThreadPool.h"

#include <algorithm>
#include <chrono>

using namespace tercet;

using Vector = uint64_t __attribute__((vector_size(64), aligned(64)));

static constexpr uint64_t ReadUnit = uint64_t(128) << 10;

/// Reads whole units as streams side by side, each a part of the unit, and asks
/// for so many bytes ahead, at the end of a part for the same part of the next
/// unit.
template <int NumStreams, uint64_t Prefetch>
[[gnu::always_inline]] static inline uint64_t sumUnits(const char *data,
                                                       int64_t numUnits) {
  constexpr uint64_t Part = ReadUnit / NumStreams,
                     Turn = 8 / NumStreams * sizeof(Vector);
  Vector sums[NumStreams] = {};
  for (const char *end = data + numUnits * ReadUnit; data != end;
       data += ReadUnit)
    for (uint64_t i = 0; i < Part; i += Turn) {
      uint64_t ahead = Prefetch + (i + Prefetch < Part ? 0 : ReadUnit - Part);
      for (uint64_t j = i; j < i + Turn; j += sizeof(Vector))
        for (int stream = 0; stream < NumStreams; ++stream) {
          const char *line = data + stream * Part + j;
          if (Prefetch)
            __builtin_prefetch(line + ahead);
          sums[stream] += *reinterpret_cast<const Vector *>(line);
        }
    }
  uint64_t sum = 0;
  for (const Vector &of : sums)
    for (int lane = 0; lane < 8; ++lane)
      sum += of[lane];
  return sum;
}

template <int NumStreams, uint64_t Prefetch>
static uint64_t sumBaseline(const char *data, int64_t numUnits) {
  return sumUnits<NumStreams, Prefetch>(data, numUnits);
}

#ifdef __x86_64__
// A model in cache is read faster by wide loads; the archive is built for the
// baseline ISA.
template <int NumStreams, uint64_t Prefetch>
[[gnu::target("avx2")]] static uint64_t sumAvx2(const char *data,
                                                int64_t numUnits) {
  return sumUnits<NumStreams, Prefetch>(data, numUnits);
}
template <int NumStreams, uint64_t Prefetch>
[[gnu::target("avx512f")]] static uint64_t sumAvx512(const char *data,
                                                     int64_t numUnits) {
  return sumUnits<NumStreams, Prefetch>(data, numUnits);
}
#endif

using SumFunction = uint64_t (*)(const char *, int64_t);

template <int NumStreams, uint64_t Prefetch> static SumFunction widestSum() {
#ifdef __x86_64__
  uint64_t features = hostCpuFeatures();
  if (features & TERCET_CPU_AVX512F)
    return sumAvx512<NumStreams, Prefetch>;
  if (features & TERCET_CPU_AVX2)
    return sumAvx2<NumStreams, Prefetch>;
#endif
  return sumBaseline<NumStreams, Prefetch>;
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

static double measure(tercet_pool &pool, const char *data, int64_t numUnits,
                      SumFunction sum) {
  ReadContext read{data, sum};
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

double tercet::measureReadRate(tercet_pool &pool, const void *data,
                               uint64_t size) {
  int64_t numUnits = static_cast<int64_t>(size / ReadUnit);
  if (numUnits == 0)
    return 0;
  // The cores of AMD read ahead by themselves, and prefetches slow them down;
  // Ice Lake gets 11 GB/s from memory in the first way, 14 in the second.
  auto *bytes = static_cast<const char *>(data);
  return std::max(measure(pool, bytes, numUnits, widestSum<2, 0>()),
                  measure(pool, bytes, numUnits, widestSum<8, 1024>()));
}
