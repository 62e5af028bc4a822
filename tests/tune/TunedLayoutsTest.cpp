// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Tune/TunedLayouts.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "gtest/gtest.h"

using namespace tercet;
using llvm::cantFail;
using tercet::ternary::Packing;

namespace {

constexpr MatmulShape kFirst = {2560, 2560}, kSecond = {640, 256};

class TunedLayoutsTest : public testing::Test {
protected:
  void SetUp() override {
    ASSERT_FALSE(
        llvm::sys::fs::createUniqueDirectory("tercet-tune", directory));
    path = (directory + "/tuning.db").str();
    target = cantFail(parseTarget("x86-64-v3"));
    cpu = assumeCpu(target);
    chosen = {Packing::T3,
              getBackend(target).getSchedule(Packing::T3, kFirst, target)};
    chosen.schedule.tokens = 4;
    chosen.schedule.prefetch = 1024;
  }
  void TearDown() override { llvm::sys::fs::remove_directories(directory); }

  void store(MatmulShape shape, llvm::StringRef layout) {
    auto database = cantFail(TuningDatabase::openToWrite(path));
    for (const char *batch : {"decode", "prefill"})
      cantFail(database.store(
          {{{cpu.getIdentity(), cpu.getBandwidthClass(), "tercet", target.text,
             1, "matmul", shape.rows, shape.cols, "L3", batch},
            {layout.str(), 1e-4, 0.01, "2026-11-28"}}}));
  }

  LayoutPlan plan(std::optional<Packing> packing = {}) {
    TunedLayouts layouts(cantFail(TuningDatabase::openToWrite(path)), cpu,
                         target, /*numThreads=*/1, "tercet");
    return cantFail(layouts.plan({{kFirst, kSecond, kFirst}, 0}, packing));
  }

  llvm::SmallString<128> directory;
  std::string path;
  TargetSpec target;
  CpuDescription cpu;
  LayoutChoice chosen;
};

} // namespace

TEST_F(TunedLayoutsTest, PredictsWithoutResults) {
  LayoutPlan predicted = plan();
  EXPECT_EQ(predicted.choices[0].packing, Packing::I2);
  EXPECT_NE(predicted.reason.find("rates are assumed"), std::string::npos);
}

TEST_F(TunedLayoutsTest, TakesWhatWasMeasured) {
  store(kFirst, printLayout(chosen));
  LayoutPlan mixed = plan();
  EXPECT_EQ(mixed.choices[0].schedule, chosen.schedule);
  EXPECT_EQ(mixed.choices[1].packing, Packing::I2);
  EXPECT_EQ(mixed.choices[2].packing, Packing::T3);
  EXPECT_NE(mixed.reason.find("1 of 2 matmuls measured on this CPU on "
                              "2026-11-28, the others predicted"),
            std::string::npos)
      << mixed.reason;
  store(kSecond, printLayout(chosen));
  LayoutPlan measured = plan();
  EXPECT_EQ(measured.choices[1].packing, Packing::T3);
  EXPECT_TRUE(llvm::StringRef(measured.reason)
                  .ends_with("; measured on this CPU on 2026-11-28"))
      << measured.reason;
}

TEST_F(TunedLayoutsTest, KeepsANamedPacking) {
  store(kFirst, printLayout(chosen));
  EXPECT_EQ(plan(Packing::I2).choices[0].packing, Packing::I2);
}

/// A database may come from anywhere: it chooses among what is known to work.
TEST_F(TunedLayoutsTest, IgnoresWhatIsNoCandidate) {
  LayoutChoice huge = chosen, odd = chosen, noVBMI = chosen;
  huge.schedule.unroll = 1 << 20;
  odd.schedule.lanes = 5;
  noVBMI.packing = Packing::T5;
  for (std::string layout : {std::string("junk"), printLayout(huge),
                             printLayout(odd), printLayout(noVBMI)}) {
    store(kFirst, layout);
    EXPECT_EQ(plan().choices[0].packing, Packing::I2) << layout;
  }
}
