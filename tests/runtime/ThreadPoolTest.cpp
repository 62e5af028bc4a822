// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/ThreadPool.h"

#include <atomic>
#include <gtest/gtest.h>
#include <numeric>
#include <vector>

using namespace tercet;

namespace {
struct Marks {
  std::vector<int> counts; // Written without atomics: ranges are disjoint.
  std::atomic<int64_t> calls{0};
};

void mark(void *context, int64_t begin, int64_t end, void *scratch) {
  auto *marks = static_cast<Marks *>(context);
  EXPECT_LT(begin, end);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(scratch) % 64, 0u);
  // Two bodies that share scratch would see each other's value.
  auto *mine = static_cast<volatile int64_t *>(scratch);
  *mine = begin;
  for (int64_t i = begin; i < end; ++i)
    ++marks->counts[i];
  EXPECT_EQ(*mine, begin);
  marks->calls.fetch_add(1, std::memory_order_relaxed);
}

class ThreadPoolTest : public testing::TestWithParam<int> {};
} // namespace

TEST_P(ThreadPoolTest, CoversEveryItemOnce) {
  tercet_pool pool(GetParam(), 128);
  for (int64_t count : {0, 1, 2, 3, 7, 15, 16, 17, 63, 64, 65, 1000, 100003}) {
    Marks marks;
    marks.counts.assign(count, 0);
    tercet_parallel_for(&pool, mark, &marks, count, /*work=*/-1);
    EXPECT_EQ(std::accumulate(marks.counts.begin(), marks.counts.end(), 0ll),
              count);
    EXPECT_EQ(std::count(marks.counts.begin(), marks.counts.end(), 1), count);
    EXPECT_LE(marks.calls, 8 * GetParam());
  }
}

TEST_P(ThreadPoolTest, KeepsLittleWorkTogether) {
  tercet_pool pool(GetParam(), 128);
  auto countCalls = [&](int64_t count, int64_t work) {
    Marks marks;
    marks.counts.assign(count, 0);
    tercet_parallel_for(&pool, mark, &marks, count, work);
    EXPECT_EQ(std::count(marks.counts.begin(), marks.counts.end(), 1), count);
    return marks.calls.load();
  };
  EXPECT_EQ(countCalls(100, 0), 1);
  EXPECT_EQ(countCalls(100, 50), 1);
  if (GetParam() == 1)
    return;
  EXPECT_EQ(countCalls(100, 100), 2);
  EXPECT_GT(countCalls(100, INT64_MAX), 1); // overflows
  EXPECT_GT(countCalls(100, -1), 1);        // unknown
}

TEST_P(ThreadPoolTest, ObservesEveryCallAfterItsEnd) {
  struct Counts {
    Marks marks;
    int calls = 0, itemsSeen = 0;
  } counts;
  counts.marks.counts.assign(100, 0);
  tercet_pool pool(GetParam(), 128);
  pool.observerContext = &counts;
  pool.observer = [](void *context) {
    auto &[marks, calls, itemsSeen] = *static_cast<Counts *>(context);
    ++calls;
    itemsSeen = std::accumulate(marks.counts.begin(), marks.counts.end(), 0);
  };
  tercet_parallel_for(&pool, mark, &counts.marks, 100, /*work=*/-1);
  EXPECT_EQ(counts.itemsSeen, 100);
  tercet_parallel_for(&pool, mark, &counts.marks, 0, /*work=*/-1);
  EXPECT_EQ(counts.calls, 2);
}

// Back-to-back small jobs make late workers meet the next job's setup.
TEST_P(ThreadPoolTest, Stress) {
  tercet_pool pool(GetParam(), 128);
  Marks marks;
  marks.counts.assign(40, 0);
  constexpr int Rounds = 20000;
  for (int round = 0; round < Rounds; ++round)
    tercet_parallel_for(&pool, mark, &marks, 2 + round % 39, /*work=*/-1);
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(marks.counts[i], Rounds);
}

// Workers fall asleep in between and must be woken.
TEST_P(ThreadPoolTest, WakesSleepers) {
  tercet_pool pool(GetParam(), 128);
  for (int round = 0; round < 20; ++round) {
    timespec pause{0, 1000000};
    nanosleep(&pause, nullptr);
    Marks marks;
    marks.counts.assign(500, 0);
    tercet_parallel_for(&pool, mark, &marks, 500, /*work=*/-1);
    EXPECT_EQ(std::count(marks.counts.begin(), marks.counts.end(), 1), 500);
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, testing::Values(1, 2, 3, 8));

TEST(ThreadPool, StartsAndStops) {
  for (int i = 0; i < 50; ++i)
    tercet_pool pool(1 + i % 5, 0);
}

TEST(ThreadPool, CountsThreads) { EXPECT_GE(availableThreads(), 1); }

#ifndef NDEBUG
TEST(ThreadPoolDeathTest, RefusesNesting) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  auto nested = [] {
    tercet_pool pool(2, 0);
    auto outer = [](void *context, int64_t, int64_t, void *) {
      auto inner = [](void *, int64_t, int64_t, void *) {};
      tercet_parallel_for(static_cast<tercet_pool *>(context), inner, nullptr,
                          8, /*work=*/-1);
    };
    tercet_parallel_for(&pool, outer, &pool, 8, /*work=*/-1);
  };
  EXPECT_DEATH(nested(), "must not call tercet_parallel_for");
}
#endif
