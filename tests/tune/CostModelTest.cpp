// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Target/CostModel.h"

#include "mlir/IR/MLIRContext.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Error.h"
#include "gtest/gtest.h"

using namespace tercet;
using tercet::ternary::Packing;
using tercet::ternary::Schedule;

namespace {

constexpr const char *kVBMI = "x86-64-v4+avx512vnni+avx512vbmi";
constexpr const char *kLevels[] = {
    "x86-64",    "x86-64-v2", "x86-64-v3", "x86-64-v3+avxvnni",
    "x86-64-v4", kVBMI,       "aarch64"};

constexpr MatmulShape kShape = {2560, 2560};

/// 2 and 512 MB as i2.
const ModelShapes kSmall = {{{2048, 2048}, {2048, 2048}}, 0};
const ModelShapes kLarge = {std::vector<MatmulShape>(320, {2560, 2560}), 0};

CpuDescription makeCpu(double memoryRate) {
  CpuDescription cpu;
  cpu.numCpus = 4;
  cpu.levels = {{"L2", 2 << 20, 1, 100e9, 400e9},
                {"L3", 32 << 20, 4, 60e9, 200e9},
                {"memory", INT64_MAX, 4, memoryRate, 2 * memoryRate}};
  return cpu;
}

CostModel makeModel(double memoryRate, const char *target,
                    unsigned numThreads = 1) {
  return {makeCpu(memoryRate), llvm::cantFail(parseTarget(target)), numThreads};
}

LayoutPlan planFor(double memoryRate, const char *target,
                   const ModelShapes &model) {
  return llvm::cantFail(
      makeModel(memoryRate, target).plan(model, std::nullopt));
}

Packing choose(double memoryRate, const char *target,
               const ModelShapes &model) {
  LayoutPlan plan = planFor(memoryRate, target, model);
  EXPECT_EQ(plan.choices.size(), model.matmuls.size());
  return plan.choices[0].packing;
}

} // namespace

TEST(CostModelTest, ChoosesFewInstructionsInACache) {
  for (const char *target : kLevels)
    EXPECT_EQ(choose(20e9, target, kSmall), Packing::I2) << target;
}

TEST(CostModelTest, ChoosesFewBytesInMemory) {
  EXPECT_EQ(choose(20e9, kVBMI, kLarge), Packing::T5);
  EXPECT_EQ(choose(4e9, "x86-64-v3", kLarge), Packing::T3);
  EXPECT_EQ(choose(20e9, "x86-64-v3", kLarge), Packing::I2);
  EXPECT_EQ(choose(4e9, "aarch64+dotprod", kLarge), Packing::T3);
  EXPECT_EQ(choose(10e9, "aarch64+dotprod", kLarge), Packing::I2);
}

/// Cores of AMD read ahead by themselves: i2 in the time of a read.
TEST(CostModelTest, KnowsWhoReadsAhead) {
  CpuDescription cpu = makeCpu(28e9);
  auto choose = [&] {
    CostModel model(cpu, llvm::cantFail(parseTarget("x86-64-v4")), 1);
    return llvm::cantFail(model.plan(kLarge, std::nullopt)).choices[0].packing;
  };
  EXPECT_EQ(choose(), Packing::L3);
  cpu.vendor = "AuthenticAMD";
  EXPECT_EQ(choose(), Packing::I2);
}

TEST(CostModelTest, CountsTheHead) {
  ModelShapes model = kSmall;
  model.otherBytes = 600 << 20;
  EXPECT_EQ(choose(20e9, kVBMI, model), Packing::T5);
}

TEST(CostModelTest, PrefersMeasuredRates) {
  CpuDescription cpu = makeCpu(20e9);
  cpu.rates[kVBMI].packings[Packing::T5] = {10e9, 10e9};
  CostModel model(cpu, llvm::cantFail(parseTarget(kVBMI)), 1);
  EXPECT_NE(llvm::cantFail(model.plan(kLarge, std::nullopt)).choices[0].packing,
            Packing::T5);
}

TEST(CostModelTest, GivesPrivateCachesToEachThread) {
  EXPECT_EQ(makeModel(20e9, kVBMI, 1).getHome(3 << 20).name, "L3");
  EXPECT_EQ(makeModel(20e9, kVBMI, 4).getHome(3 << 20).name, "L2");
  EXPECT_EQ(makeModel(20e9, kVBMI, 4).getHome(30 << 20).name, "memory");
}

TEST(CostModelTest, FetchesNothingFromACoresOwnCache) {
  auto getPrefetch = [](unsigned numThreads, const ModelShapes &shapes) {
    CostModel model = makeModel(20e9, kVBMI, numThreads);
    return llvm::cantFail(model.plan(shapes, std::nullopt))
        .choices[0]
        .schedule.prefetch;
  };
  EXPECT_EQ(getPrefetch(4, kSmall), 0);
  EXPECT_GT(getPrefetch(4, kLarge), 0);

  // The memory of one core is not a cache.
  CpuDescription cpu = makeCpu(20e9);
  for (MemoryLevel &level : cpu.levels)
    level.numCpus = 1;
  CostModel model(cpu, llvm::cantFail(parseTarget(kVBMI)), 1);
  EXPECT_GT(llvm::cantFail(model.plan(kLarge, std::nullopt))
                .choices[0]
                .schedule.prefetch,
            0);
}

TEST(CostModelTest, HasNoTablesForGroups) {
  CostModel model = makeModel(20e9, kVBMI);
  EXPECT_TRUE(llvm::is_contained(model.getPackings({64, 64}), Packing::L3));
  EXPECT_FALSE(
      llvm::is_contained(model.getPackings({64, 64, 128}), Packing::L3));
}

TEST(CostModelTest, KeepsANamedPacking) {
  LayoutPlan plan =
      llvm::cantFail(makeModel(20e9, kVBMI).plan(kSmall, Packing::T3));
  EXPECT_EQ(plan.choices[1].packing, Packing::T3);
  // Also one that nobody would choose for the target.
  plan = llvm::cantFail(makeModel(20e9, "x86-64").plan(kSmall, Packing::T5));
  EXPECT_EQ(plan.choices[0].packing, Packing::T5);
}

TEST(CostModelTest, Explains) {
  EXPECT_EQ(planFor(20e9, kVBMI, kSmall).reason,
            "weights: 2.1 MB fit the 34 MB L3: i2 (2 bits), decode is bound by "
            "instructions; predicted, nobody tuned this CPU");
  EXPECT_EQ(planFor(11e9, kVBMI, kLarge).reason,
            "weights: 419 MB stream from memory at 11 GB/s with 1 thread: t5 "
            "(1.6 bits) reads 20% less than i2; predicted, nobody tuned this "
            "CPU");
  TargetSpec target = llvm::cantFail(parseTarget("aarch64"));
  EXPECT_EQ(
      llvm::cantFail(
          CostModel(assumeCpu(target), target, 1).plan(kSmall, std::nullopt))
          .reason,
      "weights: 2.1 MB fit the 34 MB L3: i2 (2 bits), decode is bound by "
      "instructions; predicted for any aarch64 CPU: caches and rates are "
      "assumed");
}

/// What the tuner begins with is what compile takes without it.
TEST(CostModelTest, RanksTheChoiceFirst) {
  for (const char *target : kLevels) {
    LayoutChoice first = makeModel(20e9, target)
                             .rank(kShape, BatchClass::Decode, kLarge)
                             .front();
    EXPECT_EQ(first.packing, choose(20e9, target, kLarge)) << target;
  }
}

TEST(CostModelTest, SharesAGemvWithThePrefill) {
  CostModel model = makeModel(20e9, kVBMI);
  LayoutChoice base = model.rank(kShape, BatchClass::Decode, kLarge)[17];
  auto ranked = model.rank(kShape, BatchClass::Prefill, kLarge, base);
  EXPECT_GT(ranked.size(), 5u);
  for (LayoutChoice choice : ranked) {
    choice.schedule.tokens = base.schedule.tokens;
    choice.schedule.planeMajor = base.schedule.planeMajor;
    EXPECT_EQ(choice.schedule, base.schedule);
    EXPECT_EQ(choice.packing, base.packing);
  }
}

TEST(CandidatesTest, AreLayouts) {
  mlir::MLIRContext context;
  context.loadDialect<ternary::TernaryDialect>();
  auto emitError = [&] {
    return mlir::emitError(mlir::UnknownLoc::get(&context));
  };
  for (const char *text : kLevels) {
    TargetSpec target = llvm::cantFail(parseTarget(text));
    const Backend &backend = getBackend(target);
    for (Packing packing : {Packing::I2, Packing::T5, Packing::T3, Packing::L3})
      for (BatchClass batch : {BatchClass::Decode, BatchClass::Prefill}) {
        Schedule base = backend.getSchedule(packing, kShape, target);
        auto candidates = backend.getCandidates(packing, batch, base, target);
        EXPECT_EQ(candidates[0], base);
        for (const Schedule &s : candidates)
          EXPECT_TRUE(succeeded(ternary::LayoutAttr::verify(
              emitError, packing,
              ternary::LayoutAttr::getTrits(&context, packing, {})
                  .getTileRows(),
              s.lanes, s.unroll, s.tokens, s.prefetch, s.chain, s.inPlace,
              s.planeMajor, s.parts, s.blocks, s.streams)))
              << text;
      }
  }
}

TEST(CpuDescriptionTest, SurvivesJSON) {
  CpuDescription cpu = makeCpu(20e9);
  cpu.vendor = "GenuineIntel";
  cpu.family = 6;
  cpu.target = kVBMI;
  cpu.date = "2026-11-28";
  cpu.rates[kVBMI] = {200e9, {{Packing::I2, {1e9, 2e9}}}};
  std::string text;
  llvm::raw_string_ostream(text) << llvm::json::Value(toJSON(cpu));
  auto read = llvm::cantFail(llvm::json::parse<CpuDescription>(text));
  EXPECT_EQ(read.getIdentity(), cpu.getIdentity());
  EXPECT_EQ(read.getBandwidthClass(), cpu.getBandwidthClass());
  EXPECT_EQ(read.rates[kVBMI].packings[Packing::I2].gemm, 2e9);
}
