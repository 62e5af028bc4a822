// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/DotPeak.h"
#include "runtime/src/Console.h"
#include "runtime/src/ThreadPool.h"

using namespace tercet;

namespace {
struct DotContext {
  int64_t iterations;
  std::atomic<int64_t> multiplyAccumulates{0};
};
} // namespace

static void dotBody(void *context, int64_t begin, int64_t end, void *) {
  auto *dot = static_cast<DotContext *>(context);
  for (int64_t i = begin; i < end; ++i)
    dot->multiplyAccumulates += tercet_dot_peak(dot->iterations);
}

double tercet::measureDotPeak(tercet_pool &pool) {
  // Pieces of about a millisecond, so that stealing evens out the threads.
  static int64_t iterations = [] {
    int64_t count = 1000;
    for (double seconds = 0; seconds < 1e-3; count *= 2) {
      double start = secondsNow();
      tercet_dot_peak(count);
      seconds = secondsNow() - start;
    }
    return count;
  }();
  DotContext dot{iterations};
  double start = secondsNow();
  tercet_parallel_for(&pool, dotBody, &dot, 8 * pool.numThreads(),
                      /*work=*/-1);
  return dot.multiplyAccumulates / (secondsNow() - start);
}
