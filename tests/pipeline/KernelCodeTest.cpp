// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The machine code of the ternary matmul and the quantised head: its schedule
// comes from the layout on the op, and what its inner loops work on stays in
// registers.

#include "tests/pipeline/KernelCode.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "gtest/gtest.h"

using namespace tercet;
using llvm::StringRef;
using ternary::Packing;
using ternary::Schedule;

namespace {

/// What measures the peak is no kernel: it has more vectors than some targets
/// have registers.
std::string withoutFunction(StringRef assembly, StringRef name) {
  auto [before, rest] = assembly.split(("\n" + name + ":").str());
  EXPECT_FALSE(rest.empty()) << name.str();
  return (before + rest.split(".Lfunc_end").second).str();
}

/// Or a lookup of sums, which takes its place.
bool isDotProduct(StringRef line) {
  return line.contains("pdpbusd") || line.contains("pmaddubsw") ||
         line.contains("pmaddwd") || line.contains("vpermw") ||
         line.contains("pshufb") || line.contains("tdpbsud") ||
         line.contains("sdot") || line.contains("usmmla") ||
         line.contains("smlal") || line.contains("sadalp") ||
         line.contains("tbl\t");
}

/// A vector that is read from or written to the stack, on Arm anything. (%rbp
/// is a register like any other: there is no frame pointer.)
bool isSpill(StringRef line) {
  return (line.contains("(%rsp") && line.contains("mm")) ||
         line.contains("[sp");
}

/// Whether a vector is stored where the shapes of tiles are read: LLVM unrolls
/// the panels of a block, and the loop over tokens is the innermost one.
bool isTileConfig(StringRef line, llvm::ArrayRef<StringRef> loop) {
  return llvm::any_of(loop, [&](StringRef other) {
    other = other.ltrim();
    return other.consume_front("ldtilecfg") && line.ends_with(other.ltrim());
  });
}

} // namespace

TEST(KernelCode, EachTileParameterChangesTheCode) {
  MatmulCode code("x86-64-v4+avx512vnni", 128, 256);
  auto emit = [&](Schedule schedule) {
    return code.emit(code.withSchedule(Packing::I2, schedule));
  };
  const Schedule schedule = {
      .lanes = 16, .unroll = 2, .tokens = 4, .prefetch = 1024};
  std::string base = emit(schedule);
  EXPECT_EQ(base, emit(schedule));
  Schedule changed = schedule;
  changed.lanes = 8;
  EXPECT_NE(base, emit(changed)) << "lanes";
  changed = schedule;
  changed.unroll = 4;
  EXPECT_NE(base, emit(changed)) << "unroll";
  changed = schedule;
  changed.tokens = 6;
  EXPECT_NE(base, emit(changed)) << "tokens";
  changed = schedule;
  changed.prefetch = 4096;
  EXPECT_NE(base, emit(changed)) << "prefetch";
  changed = schedule;
  changed.chain = 16;
  EXPECT_NE(base, emit(changed)) << "chain";
  changed = schedule;
  changed.inPlace = true;
  EXPECT_NE(base, emit(changed)) << "in_place";
  changed = schedule;
  changed.blocks = true;
  EXPECT_NE(base, emit(changed)) << "blocks";
  changed = schedule;
  changed.prefetch = 0;
  EXPECT_EQ(emit(changed).find("prefetch"), std::string::npos);
}

/// GEMV and every block of the GEMM, with the schedule that is selected.
struct InnerLoops {
  const char *target;
  Packing packing;
  std::optional<int64_t> group = {};
  int64_t onStack = 0; ///< accesses to vectors there, in a loop
};

class InnerLoopTest : public testing::TestWithParam<InnerLoops> {};

TEST_P(InnerLoopTest, HoldsItsVectorsInRegisters) {
  auto [target, packing, group, onStack] = GetParam();
  // Whole tiles; tiles and strips.
  for (auto [rows, columns] : {std::pair(2560, 2560), std::pair(2592, 6912)}) {
    MatmulCode code(target, rows, columns, group);
    std::string assembly =
        withoutFunction(code.emit(code.selected(packing)), "tercet_dot_peak");
    unsigned numLoops = 0;
    for (const std::vector<StringRef> &loop : findInnermostLoops(assembly)) {
      if (llvm::none_of(loop, isDotProduct))
        continue;
      ++numLoops;
      auto numSpills = llvm::count_if(loop, [&](StringRef line) {
        return isSpill(line) && !isTileConfig(line, loop);
      });
      EXPECT_LE(numSpills, onStack)
          << rows << "x" << columns << ", "
          << llvm::count_if(loop, isDotProduct) << " dot products, "
          << numSpills << " vectors on the stack:\n"
          << llvm::join(loop, "\n");
    }
    // One of the GEMV, at least two of the GEMM (blocks or parts).
    EXPECT_GE(numLoops, 3u);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Targets, InnerLoopTest,
    testing::Values(
        InnerLoops{"x86-64", Packing::I2}, InnerLoops{"x86-64-v2", Packing::I2},
        InnerLoops{"x86-64-v2", Packing::L3},
        InnerLoops{"x86-64-v3", Packing::I2},
        InnerLoops{"x86-64-v3", Packing::L3},
        InnerLoops{"x86-64-v3+avxvnni", Packing::I2},
        InnerLoops{"x86-64-v3", Packing::T3},
        // The GEMV keeps a vector of nibbles there, and is as fast.
        InnerLoops{"x86-64-v3+avxvnni", Packing::T3, {}, /*onStack=*/2},
        InnerLoops{"x86-64-v4", Packing::I2},
        InnerLoops{"x86-64-v4", Packing::L3},
        InnerLoops{"x86-64-v4", Packing::T3},
        InnerLoops{"x86-64-v4+avx512vnni", Packing::I2},
        InnerLoops{"x86-64-v4+avx512vnni", Packing::T3},
        InnerLoops{"x86-64-v4+avx512vnni+avx512vbmi", Packing::I2},
        InnerLoops{"x86-64-v4+avx512vnni+avx512vbmi", Packing::T5},
        InnerLoops{"x86-64-v4+avx512vnni+avx512vbmi+amxint8", Packing::I2},
        InnerLoops{"x86-64-v4+avx512vnni+avx512vbmi+amxint8", Packing::T5},
        // Beside strips, most loops read a constant there.
        InnerLoops{"aarch64", Packing::I2}, InnerLoops{"aarch64", Packing::T3},
        InnerLoops{"aarch64", Packing::L3},
        InnerLoops{"aarch64+dotprod", Packing::I2},
        InnerLoops{"aarch64+dotprod", Packing::T3},
        InnerLoops{"aarch64+dotprod", Packing::L3},
        InnerLoops{"aarch64+dotprod+i8mm", Packing::I2},
        InnerLoops{"aarch64+dotprod+i8mm", Packing::T3}));

// Without an instruction for it, an fma has branches, which look like loops.
INSTANTIATE_TEST_SUITE_P(
    Groups, InnerLoopTest,
    testing::Values(InnerLoops{"x86-64-v3", Packing::I2, 128},
                    InnerLoops{"x86-64-v4+avx512vnni", Packing::T3, 128},
                    InnerLoops{"x86-64-v3+avxvnni", Packing::I2, 128},
                    InnerLoops{"x86-64-v4", Packing::I2, 128},
                    InnerLoops{"x86-64-v4+avx512vnni", Packing::I2, 128},
                    InnerLoops{"x86-64-v4+avx512vnni+avx512vbmi", Packing::T5,
                               128},
                    InnerLoops{"aarch64", Packing::I2, 128},
                    InnerLoops{"aarch64+dotprod", Packing::I2, 128},
                    InnerLoops{"aarch64+dotprod+i8mm", Packing::I2, 128}));

class HeadLoopTest : public testing::TestWithParam<const char *> {};

TEST_P(HeadLoopTest, HoldsItsVectorsInRegisters) {
  for (auto format : {ternary::CodeFormat::I8, ternary::CodeFormat::Q6,
                      ternary::CodeFormat::Q4}) {
    std::string assembly = withoutFunction(
        emitHead(GetParam(), format, 1024, 2560), "tercet_dot_peak");
    unsigned numLoops = 0;
    for (const std::vector<StringRef> &loop : findInnermostLoops(assembly)) {
      if (llvm::none_of(loop, isDotProduct))
        continue;
      ++numLoops;
      EXPECT_TRUE(llvm::none_of(loop, isSpill))
          << ternary::stringifyCodeFormat(format).str() << ", "
          << llvm::count_if(loop, isSpill) << " vectors on the stack:\n"
          << llvm::join(loop, "\n");
    }
    EXPECT_GE(numLoops, 1u);
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, HeadLoopTest,
                         testing::Values("x86-64-v2", "x86-64-v3",
                                         "x86-64-v3+avxvnni",
                                         "x86-64-v4+avx512vnni", "aarch64",
                                         "aarch64+dotprod",
                                         "aarch64+dotprod+i8mm"));
