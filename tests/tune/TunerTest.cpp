// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Tune/Tuner.h"
#include "compiler/Tune/MeasureCpu.h"

#include "llvm/ADT/STLExtras.h"
#include "gtest/gtest.h"

using namespace tercet;
using llvm::cantFail;
using tercet::ternary::Packing;

namespace {

TargetSpec getNative() { return cantFail(parseTarget("native")); }

LayoutChoice getDefault(Packing packing, MatmulShape shape) {
  TargetSpec target = getNative();
  return {packing, getBackend(target).getSchedule(packing, shape, target)};
}

} // namespace

TEST(MatmulDataTest, KnowsTheResult) {
  for (MatmulShape shape : {MatmulShape{208, 112}, MatmulShape{96, 256, 128}}) {
    MatmulData data = cantFail(MatmulData::create(shape, kPrefillTokens));
    CostModel costs(assumeCpu(getNative()), getNative(), 1);
    for (Packing packing : costs.getPackings(shape)) {
      cantFail(data.spread({{packing, /*bytes=*/1 << 20, /*isCached=*/true}}));
      EXPECT_GT(data.getWarmUpCalls(packing), 50);
      for (int64_t numTokens : {int64_t(1), kPrefillTokens}) {
        MatmulKernel kernel = cantFail(MatmulKernel::compile(
            getNative(), shape, numTokens, getDefault(packing, shape)));
        tercet_pool pool(2, kernel.getScratchBytes());
        data.run(kernel, packing, &pool);
        EXPECT_TRUE(data.isExact(numTokens)) << stringifyPacking(packing).str();
      }
    }
  }
}

TEST(MatmulDataTest, PackingsShareMemory) {
  MatmulShape shape = {208, 112};
  MatmulData data = cantFail(MatmulData::create(shape, 1));
  tercet_pool pool(1, 1 << 20);
  auto run = [&](Packing packing) {
    MatmulKernel kernel = cantFail(MatmulKernel::compile(
        getNative(), shape, 1, getDefault(packing, shape)));
    ASSERT_LE(kernel.getScratchBytes(), uint64_t(1) << 20);
    for (int64_t call = 0; call <= data.getWarmUpCalls(packing); ++call) {
      data.run(kernel, packing, &pool);
      EXPECT_TRUE(data.isExact(1)) << stringifyPacking(packing).str() << call;
    }
  };
  cantFail(data.spread({{Packing::I2, 1 << 16, /*isCached=*/true}}));
  int64_t alone = data.getWarmUpCalls(Packing::I2);
  EXPECT_GT(alone, 2);
  run(Packing::I2);
  cantFail(data.spread({{Packing::T3, 1 << 16, /*isCached=*/true},
                        {Packing::I2, 1 << 16, /*isCached=*/true}}));
  EXPECT_EQ(data.getWarmUpCalls(Packing::I2), alone);
  run(Packing::T3);
  run(Packing::I2);
}

TEST(MatmulDataTest, SeesAnotherResult) {
  MatmulShape shape = {64, 64};
  MatmulData data = cantFail(MatmulData::create(shape, 2));
  EXPECT_FALSE(data.isExact(1)) << "nothing has run";
  cantFail(data.spread({{Packing::I2, 0, /*isCached=*/true}}));
  MatmulKernel kernel = cantFail(MatmulKernel::compile(
      getNative(), shape, 1, getDefault(Packing::I2, shape)));
  tercet_pool pool(1, kernel.getScratchBytes());
  data.run(kernel, Packing::I2, &pool);
  EXPECT_TRUE(data.isExact(1));
  EXPECT_FALSE(data.isExact(2)) << "one token has run";
}

TEST(RaceTest, ComparesWithinRounds) {
  MatmulShape shape = {64, 64};
  MatmulData data = cantFail(MatmulData::create(shape, 1));
  cantFail(data.spread({{Packing::I2, 0, /*isCached=*/true}}));
  Race race(data, /*numTokens=*/1, /*numThreads=*/1);
  for (int64_t prefetch : {0, 1024, 4096}) {
    LayoutChoice choice = getDefault(Packing::I2, shape);
    choice.schedule.prefetch = prefetch;
    ASSERT_TRUE(cantFail(race.add(
        {choice,
         cantFail(MatmulKernel::compile(getNative(), shape, 1, choice))})));
  }
  // The machine is three times as slow in the second and third round; the last
  // contestant is the fastest of each.
  race.contestants[0].seconds = {10, 30, 30};
  race.contestants[1].seconds = {9, 40, 40};
  race.contestants[2].seconds = {8, 24, 24};
  race.sort(3);
  auto prefetchOf = [&](int i) {
    return race.contestants[i].choice.schedule.prefetch;
  };
  EXPECT_EQ(prefetchOf(0), 4096);
  EXPECT_EQ(prefetchOf(1), 0);
  EXPECT_EQ(prefetchOf(2), 1024);
  race.run(Clock::now());
  for (const Contestant &contestant : race.contestants)
    EXPECT_EQ(contestant.seconds.size(), 3u) << "rounds, without time";
}

TEST(TunerTest, FindsALayoutInTime) {
  MatmulShape shape = {160, 128};
  ModelShapes model = {{shape, shape}, 0};
  Tuner tuner(assumeCpu(getNative()), getNative(), /*numThreads=*/2);
  int numReports = 0;
  tuner.progress = [&](MatmulShape, const LayoutChoice &, double seconds) {
    EXPECT_GT(seconds, 0);
    ++numReports;
  };
  auto start = Clock::now();
  TunedLayout tuned =
      cantFail(tuner.tune(shape, model, start + std::chrono::seconds(2)));
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(10));
  EXPECT_GT(tuned.numCandidates, 5);
  EXPECT_TRUE(tuned.wrong.empty());
  EXPECT_GT(tuned.decode.seconds, 0);
  EXPECT_GT(tuned.prefill.seconds, tuned.decode.seconds);
  EXPECT_GE(numReports, 2);
}

TEST(TunerTest, RunsDefaultsWithoutTime) {
  MatmulShape shape = {160, 128};
  Tuner tuner(assumeCpu(getNative()), getNative(), /*numThreads=*/1);
  TunedLayout tuned = cantFail(tuner.tune(shape, {{shape}, 0}, Clock::now()));
  EXPECT_GE(tuned.numCandidates, 2);
}

TEST(LayoutTextTest, RoundTrips) {
  LayoutChoice choice = getDefault(Packing::I2, {64, 64});
  auto parsed = parseLayout(printLayout(choice));
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->schedule, choice.schedule);
  for (const char *text : {"", "junk", "42",
                           "#ternary.layout<i2, tile_rows = 7, lanes = 16, "
                           "unroll = 1, tokens = 1, prefetch = 0>"})
    EXPECT_FALSE(parseLayout(text)) << text;
}

TEST(MeasureCpuTest, Identifies) {
  CpuDescription cpu = cantFail(identifyCpu());
  EXPECT_FALSE(cpu.target.empty());
  EXPECT_GE(cpu.numCpus, 1u);
  EXPECT_EQ(cpu.levels.back().name, "memory");
  EXPECT_TRUE(cpu.date.empty());
  EXPECT_EQ(cpu.getIdentity(), cantFail(identifyCpu()).getIdentity());
}
