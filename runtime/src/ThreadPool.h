// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The pool behind tercet_parallel_for. A decode step makes a few hundred calls
// of some tens of microseconds each, so what matters is the cost of an empty
// call and that a core taken away by another process costs only its own share.
//
// Help-first: the caller works too, steals whatever nobody started, and waits
// only for chunks that are in flight. A worker that wakes late finds the job
// closed and never delays anybody.

#ifndef TERCET_RUNTIME_THREADPOOL_H
#define TERCET_RUNTIME_THREADPOOL_H

#include "runtime/src/Memory.h"
#include "tercet/artifact.h"

#include <atomic>
#include <memory>

namespace tercet {

/// CPUs this process may use: the smaller of its affinity mask and the CPU
/// quota of its cgroup (v1 or v2), at least 1.
int availableThreads();

} // namespace tercet

struct tercet_pool {
  /// `numThreads` counts the caller. Starts fewer threads when the system
  /// refuses to give more.
  tercet_pool(int numThreads, uint64_t scratchSize);
  ~tercet_pool();
  tercet_pool(const tercet_pool &) = delete;
  tercet_pool &operator=(const tercet_pool &) = delete;

  /// False when there was no memory for the workers' scratch.
  bool isValid() const { return scratch.data(); }
  int numThreads() const { return threadCount; }
  void parallelFor(tercet_parallel_body body, void *context, int64_t count,
                   int64_t work = -1);

  /// Called after each tercet_parallel_for (tracing); a null one costs a branch
  /// that is always predicted.
  using Observer = void (*)(void *context);
  Observer observer = nullptr;
  void *observerContext = nullptr;

private:
  struct Worker;

  void runChunk(uint32_t chunk, void *scratch) const;
  void workThrough(int self);
  void workerLoop(int self);
  uint32_t awaitJob(uint32_t seenEpoch);
  static void *start(void *worker);

  int threadCount = 1;
  uint64_t scratchStride;
  tercet::PageMemory scratch;
  std::unique_ptr<Worker[]> workers;

  // The current job; written only while no worker is inside.
  tercet_parallel_body body = nullptr;
  void *context = nullptr;
  int64_t itemsPerChunk = 0, chunksWithOneMore = 0;
  bool busy = false;

  /// Epoch, flags and the number of workers inside the job, in one word so
  /// that entering an open job is one compare-and-swap.
  alignas(64) std::atomic<uint32_t> state{0};
  std::atomic<uint32_t> sleepers{0};
};

#endif // TERCET_RUNTIME_THREADPOOL_H
