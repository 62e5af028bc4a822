// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A pool of one thread: WASI preview 1 has no others.

#include "runtime/src/ThreadPool.h"

struct tercet_pool::Worker {};

tercet_pool::tercet_pool(int, uint64_t scratchSize)
    : scratchStride(scratchSize), scratch(scratchSize) {}

tercet_pool::~tercet_pool() = default;

void tercet_pool::parallelFor(tercet_parallel_body body, void *context,
                              int64_t count, int64_t) {
  if (count > 0)
    body(context, 0, count, scratch.data());
}

extern "C" void tercet_parallel_for(tercet_pool *pool,
                                    tercet_parallel_body body, void *context,
                                    int64_t count, int64_t work) {
  pool->parallelFor(body, context, count, work);
  if (pool->observer) [[unlikely]]
    pool->observer(pool->observerContext);
}

int tercet::availableThreads() { return 1; }
