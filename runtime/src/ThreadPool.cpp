// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/ThreadPool.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <climits>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

using namespace tercet;

//===----------------------------------------------------------------------===//
// Waiting
//===----------------------------------------------------------------------===//

// Raw futexes rather than std::atomic::wait, which spins and yields by its own
// policy first and leaves the store/notify order to its implementation.
static void futexWait(std::atomic<uint32_t> &word, uint32_t value) {
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}

static void futexWakeAll(std::atomic<uint32_t> &word) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

static void relaxCpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");
#endif
}

static int64_t nowInNanoseconds() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

/// Spins until `word` satisfies `ready` or a sleep costs less than what was
/// already spent; returns the last value seen. Workers spin across the serial
/// gaps of a decode step; a longer spin only takes cycles from other processes.
template <typename Predicate>
static uint32_t spin(std::atomic<uint32_t> &word, Predicate ready) {
  constexpr int64_t SpinNanoseconds = 30000;
  int64_t deadline = 0;
  for (;;) {
    for (int i = 0; i < 64; ++i) {
      uint32_t value = word.load(std::memory_order_acquire);
      if (ready(value))
        return value;
      relaxCpu();
    }
    int64_t now = nowInNanoseconds();
    if (deadline == 0)
      deadline = now + SpinNanoseconds;
    else if (now > deadline)
      return word.load(std::memory_order_acquire);
  }
}

//===----------------------------------------------------------------------===//
// Pool
//===----------------------------------------------------------------------===//

// Fields of `state`. The epoch may wrap: a worker that mistakes a new job for
// the one it has seen merely leaves it to the others.
static constexpr uint32_t InsideMask = (1u << 12) - 1;
static constexpr uint32_t OpenBit = 1u << 12;
static constexpr uint32_t CallerSleepsBit = 1u << 13;
static constexpr uint32_t StopBit = 1u << 14;
static constexpr uint32_t EpochUnit = 1u << 15;
static constexpr uint32_t EpochMask = ~(EpochUnit - 1);
static constexpr int MaxThreads = 1024;

/// Enough chunks that a late or slow thread loses an eighth of its share, few
/// enough that each still streams through long contiguous runs.
static constexpr int ChunksPerThread = 8;

/// Vector instructions, of which a microsecond has 10 to 20 thousand: fewer are
/// not worth another thread, or another chunk.
static constexpr int64_t MinSharedWork = 6000, MinChunkWork = 16000;

/// Chunks [begin, end) that nobody has taken: begin in the low half, end in the
/// high half. The owner takes from the front and so streams through contiguous
/// memory; thieves take from the back.
struct alignas(64) tercet_pool::Worker {
  std::atomic<uint64_t> chunks{0};
  tercet_pool *pool = nullptr;
  pthread_t thread{};
};

tercet_pool::tercet_pool(int numThreads, uint64_t scratchSize)
    // Whole pages keep one worker's stores out of the next one's prefetches.
    : scratchStride((scratchSize + 4095) & ~uint64_t(4095)),
      scratch(scratchStride * std::clamp(numThreads, 1, MaxThreads)) {
  if (!scratch.data())
    return; // The owner reports it: see isValid().
  numThreads = std::clamp(numThreads, 1, MaxThreads);
  workers = std::make_unique<Worker[]>(numThreads);
  // A worker reads threadCount only after entering a job, and the first job is
  // published after this loop.
  for (int i = 1; i < numThreads; ++i, ++threadCount) {
    workers[i].pool = this;
    if (pthread_create(&workers[i].thread, nullptr, start, &workers[i]))
      break;
  }
}

tercet_pool::~tercet_pool() {
  state.fetch_or(StopBit);
  futexWakeAll(state);
  for (int i = 1; i < threadCount; ++i)
    pthread_join(workers[i].thread, nullptr);
}

void *tercet_pool::start(void *worker) {
  auto *self = static_cast<Worker *>(worker);
  self->pool->workerLoop(static_cast<int>(self - self->pool->workers.get()));
  return nullptr;
}

void tercet_pool::parallelFor(tercet_parallel_body newBody, void *newContext,
                              int64_t count, int64_t work) {
  if (count <= 0)
    return;
  int64_t totalWork;
  if (work < 0 || __builtin_mul_overflow(count, work, &totalWork))
    totalWork = INT64_MAX;
  if (threadCount == 1 || count == 1 || totalWork < MinSharedWork) {
    newBody(newContext, 0, count, scratch.data());
    return;
  }
  assert(!busy && "a body must not call tercet_parallel_for");
  busy = true;

  body = newBody;
  context = newContext;
  int64_t numChunks = std::clamp<int64_t>(totalWork / MinChunkWork, 2,
                                          threadCount * ChunksPerThread);
  numChunks = std::min(numChunks, count);
  itemsPerChunk = count / numChunks;
  chunksWithOneMore = count % numChunks;
  for (int64_t i = 0; i < threadCount; ++i) {
    uint64_t begin = numChunks * i / threadCount;
    uint64_t end = numChunks * (i + 1) / threadCount;
    workers[i].chunks.store(begin | end << 32, std::memory_order_relaxed);
  }

  // Sequentially consistent, as is the sleepers' side: either we see a worker
  // that is about to sleep, or its futex sees the new state.
  uint32_t epoch = state.load(std::memory_order_relaxed) & EpochMask;
  state.store((epoch + EpochUnit) | OpenBit);
  if (sleepers.load())
    futexWakeAll(state);

  workThrough(0);

  // Nothing is left to take: keep late workers out, wait for those inside.
  state.fetch_and(~OpenBit, std::memory_order_relaxed);
  auto allLeft = [](uint32_t value) { return (value & InsideMask) == 0; };
  uint32_t value = spin(state, allLeft);
  if (!allLeft(value)) {
    value = state.fetch_or(CallerSleepsBit, std::memory_order_acquire) |
            CallerSleepsBit;
    for (; !allLeft(value); value = state.load(std::memory_order_acquire))
      futexWait(state, value);
  }
  busy = false;
}

/// Takes chunks, first its own from the front, then others' from the back,
/// until none is left anywhere.
void tercet_pool::workThrough(int self) {
  void *myScratch = static_cast<char *>(scratch.data()) + scratchStride * self;
  for (int i = 0; i < threadCount; ++i) {
    int victim = self + i < threadCount ? self + i : self + i - threadCount;
    std::atomic<uint64_t> &chunks = workers[victim].chunks;
    uint64_t range = chunks.load(std::memory_order_relaxed);
    for (;;) {
      uint32_t begin = static_cast<uint32_t>(range);
      uint32_t end = static_cast<uint32_t>(range >> 32);
      if (begin >= end)
        break;
      uint64_t rest = i == 0 ? range + 1 : range - (uint64_t(1) << 32);
      if (!chunks.compare_exchange_weak(range, rest, std::memory_order_relaxed))
        continue;
      runChunk(i == 0 ? begin : end - 1, myScratch);
      range = chunks.load(std::memory_order_relaxed);
    }
  }
}

void tercet_pool::runChunk(uint32_t chunk, void *myScratch) const {
  int64_t begin =
      chunk * itemsPerChunk + std::min<int64_t>(chunk, chunksWithOneMore);
  int64_t end = begin + itemsPerChunk + (chunk < chunksWithOneMore);
  body(context, begin, end, myScratch);
}

void tercet_pool::workerLoop(int self) {
  uint32_t seenEpoch = 0;
  for (;;) {
    uint32_t value = awaitJob(seenEpoch);
    if (value & StopBit)
      return;
    // Entering pins the job: the caller closes it and then waits for us. This
    // fails when the caller has closed it or when another worker entered first.
    if (!state.compare_exchange_strong(value, value + 1,
                                       std::memory_order_acquire))
      continue;
    seenEpoch = value & EpochMask;
    workThrough(self);
    value = state.fetch_sub(1, std::memory_order_release) - 1;
    if ((value & CallerSleepsBit) && (value & InsideMask) == 0)
      futexWakeAll(state);
  }
}

/// Waits for a job other than `seenEpoch` that is open, or for the end.
uint32_t tercet_pool::awaitJob(uint32_t seenEpoch) {
  auto ready = [seenEpoch](uint32_t value) {
    return (value & StopBit) ||
           ((value & OpenBit) && (value & EpochMask) != seenEpoch);
  };
  uint32_t value = spin(state, ready);
  while (!ready(value)) {
    sleepers.fetch_add(1);
    futexWait(state, value);
    sleepers.fetch_sub(1);
    value = state.load(std::memory_order_acquire);
  }
  return value;
}

extern "C" void tercet_parallel_for(tercet_pool *pool,
                                    tercet_parallel_body body, void *context,
                                    int64_t count, int64_t work) {
  pool->parallelFor(body, context, count, work);
  if (pool->observer) [[unlikely]]
    pool->observer(pool->observerContext);
}

//===----------------------------------------------------------------------===//
// How many threads
//===----------------------------------------------------------------------===//

/// Reads up to two whitespace-separated numbers; "max" reads as -1.
static int readNumbers(const char *path, long (&numbers)[2]) {
  FILE *file = fopen(path, "re");
  if (!file)
    return 0;
  char words[2][32];
  int found = std::max(0, fscanf(file, "%31s %31s", words[0], words[1]));
  fclose(file);
  for (int i = 0; i < found; ++i)
    numbers[i] = words[i][0] == 'm' ? -1 : strtol(words[i], nullptr, 10);
  return found;
}

/// The CPU quota in whole CPUs, or INT_MAX. Containers see their own cgroup at
/// the root of the mount, which is the case that matters.
static int cgroupThreads() {
  long quota[2], period[2];
  if (readNumbers("/sys/fs/cgroup/cpu.max", quota) == 2)
    period[0] = quota[1];
  else if (readNumbers("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota) < 1 ||
           readNumbers("/sys/fs/cgroup/cpu/cpu.cfs_period_us", period) < 1)
    return INT_MAX;
  if (quota[0] <= 0 || period[0] <= 0)
    return INT_MAX;
  return static_cast<int>(std::max(1L, quota[0] / period[0]));
}

int tercet::availableThreads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int online = sched_getaffinity(0, sizeof set, &set) == 0
                   ? CPU_COUNT(&set)
                   : static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  return std::clamp(std::min(online, cgroupThreads()), 1, MaxThreads);
}
