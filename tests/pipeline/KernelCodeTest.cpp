// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The machine code of the ternary matmul and the quantised head: its schedule
// comes from the layout on the op, and what its inner loops work on stays in
// registers.

#include "compiler/Emit/EmitObject.h"
#include "compiler/Pipeline/Pipeline.h"
#include "compiler/Support/PackedLayout.h"
#include "compiler/Target/Backend.h"

#include "mlir/Parser/Parser.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace tercet;
using llvm::formatv;
using llvm::StringRef;
using ternary::LayoutAttr;
using ternary::Packing;
using ternary::Schedule;

namespace {

constexpr int64_t kMaxTokens = 64;

/// Assembly of packed_matmul with as many tokens as the caller says, and scales
/// of groups if there are any.
class MatmulCode {
public:
  MatmulCode(StringRef targetText, int64_t rows, int64_t columns,
             std::optional<int64_t> group = {})
      : rows(rows), columns(columns), group(group), context(makeRegistry()) {
    context.loadAllAvailableDialects();
    options.target = llvm::cantFail(parseTarget(targetText));
  }

  LayoutAttr selected(Packing packing) {
    return withSchedule(
        packing, getBackend(options.target)
                     .getSchedule(packing, {rows, columns}, options.target));
  }

  LayoutAttr withSchedule(Packing packing, Schedule schedule) {
    return LayoutAttr::getTrits(&context, packing, schedule);
  }

  std::string emit(LayoutAttr layout);

private:
  static DialectRegistry makeRegistry() {
    DialectRegistry registry;
    registerPipelineDialects(registry);
    return registry;
  }

  int64_t rows, columns;
  std::optional<int64_t> group;
  MLIRContext context;
  CompileOptions options;
};

/// `view` of the first %n rows of a buffer of all.
std::string firstRows(StringRef name, StringRef element, int64_t columns) {
  if (columns == 0)
    return formatv(
        "%{0}_n = memref.reinterpret_cast %{0} to offset: [0], sizes: [%n], "
        "strides: [1] : memref<{1}x{2}> to memref<?x{2}>\n",
        name, kMaxTokens, element);
  return formatv(
      "%{0}_n = memref.reinterpret_cast %{0} to offset: [0], sizes: [%n, {3}], "
      "strides: [{3}, 1] : memref<{1}x{3}x{2}> to memref<?x{3}x{2}>\n",
      name, kMaxTokens, element, columns);
}

/// Assembly of a module of loop-level ops.
std::string emitAssembly(StringRef source, MLIRContext &context,
                         const CompileOptions &options) {
  auto module = parseSourceString<ModuleOp>(source, &context);
  EXPECT_TRUE(module) << source.str();

  ParameterReader reader;
  std::vector<WeightPiece> pieces;
  PassManager passes(&context);
  bool isReached = false;
  for (const Phase &phase : getPhases())
    if ((isReached |= phase.name == "lower-kernels"))
      phase.addPasses(passes, options, reader, pieces);
  EXPECT_TRUE(succeeded(passes.run(*module)));
  return llvm::cantFail(emitCode(*module, options.target, CodeKind::Assembly))
      .str()
      .str();
}

std::string MatmulCode::emit(LayoutAttr layout) {
  std::string layoutText;
  llvm::raw_string_ostream(layoutText) << layout;
  int64_t size = layout.getPackedBytes(rows, columns);
  int64_t numGroups = group ? llvm::divideCeil(columns, *group) : 0;
  std::string groupText, sums, scales = formatv("{0}xf32", rows / 16);
  if (group) {
    groupText = formatv("group = {0}", *group);
    sums = formatv("{0}x", numGroups);
    scales = formatv("{0}x{1}x16xf32", rows / 16, numGroups);
  }
  std::string tablesArgument, tables;
  if (layout.usesTables()) {
    std::string type =
        formatv("memref<{0}x{1}xi8>", layout.getTableTokens(columns),
                layout.getTableBytes(columns));
    tablesArgument = "%tables: " + type + ", ";
    tables = "tables(%tables : " + type + ")";
  }
  std::string source = formatv(
      "func.func @matmul(%q: memref<{0}x{1}xi8>, %scale: memref<{0}xf32>, "
      "%sum: memref<{0}x{5}i32>, %w: memref<{2}xi8>, %scales: memref<{3}>, "
      "%y: memref<{0}x{4}xf32>, {6}%n: index, %pool: !llvm.ptr) {{\n",
      kMaxTokens, columns, size, scales, rows, sums, tablesArgument);
  source += firstRows("q", "i8", columns) + firstRows("scale", "f32", 0) +
            firstRows("sum", "i32", numGroups) + firstRows("y", "f32", rows);
  source += formatv(
      "ternary.packed_matmul {0} {5} ins(%q_n, %scale_n, %sum_n, %w, %scales : "
      "memref<?x{1}xi8>, memref<?xf32>, memref<?x{6}i32>, memref<{2}xi8>, "
      "memref<{3}>) outs(%y_n : memref<?x{4}xf32>) {7}\nreturn\n}",
      StringRef(layoutText).substr(strlen("#ternary.layout")), columns, size,
      scales, rows, groupText, sums, tables);
  return emitAssembly(source, context, options);
}

/// Assembly of a quantised head in the format, with the schedule that is
/// selected for a target.
std::string emitHead(StringRef targetText, ternary::CodeFormat format,
                     int64_t rows, int64_t columns) {
  DialectRegistry registry;
  registerPipelineDialects(registry);
  MLIRContext context(registry);
  context.loadAllAvailableDialects();
  CompileOptions options;
  options.target = llvm::cantFail(parseTarget(targetText));
  ternary::CodeLayoutAttr layout =
      getBackend(options.target)
          .selectHeadLayout(&context, format, options.target);
  std::string layoutText;
  llvm::raw_string_ostream(layoutText) << layout;
  int64_t size = layout.getSize(rows, columns);
  int64_t groups =
      llvm::divideCeil(columns, ternary::getCodeFormatInfo(format).group);
  std::string source = formatv(
      "func.func @head(%high: memref<{0}x{1}xi8>, %low: memref<{0}x{1}xi8>, "
      "%scale: memref<{0}xf32>, %sums: memref<{0}x{2}xi32>, "
      "%w: memref<{3}xi8>, %y: memref<{0}x{4}xf32>, %n: index, "
      "%pool: !llvm.ptr) {{\n",
      kMaxTokens, columns, groups, size, rows);
  source += firstRows("high", "i8", columns) + firstRows("low", "i8", columns) +
            firstRows("scale", "f32", 0) + firstRows("sums", "i32", groups) +
            firstRows("y", "f32", rows);
  source += formatv(
      "ternary.packed_quantized_linear {0} ins(%high_n, %low_n, %scale_n, "
      "%sums_n, %w : memref<?x{1}xi8>, memref<?x{1}xi8>, memref<?xf32>, "
      "memref<?x{2}xi32>, memref<{3}xi8>) outs(%y_n : memref<?x{4}xf32>)\n"
      "return\n}",
      StringRef(layoutText).substr(strlen("#ternary.code_layout")), columns,
      groups, size, rows);
  return emitAssembly(source, context, options);
}

/// The innermost loops of an assembly file, as their lines.
std::vector<std::vector<StringRef>> findInnermostLoops(StringRef assembly) {
  llvm::SmallVector<StringRef> lines;
  assembly.split(lines, '\n');
  llvm::StringMap<size_t> labels;
  std::vector<std::pair<size_t, size_t>> loops; // label, branch back to it
  for (auto [number, line] : llvm::enumerate(lines)) {
    StringRef text = line.trim();
    if (text.starts_with(".LBB") && text.contains(':'))
      labels[text.split(':').first] = number;
    auto [opcode, operand] = text.split('\t');
    auto label = labels.find(operand);
    if (opcode.starts_with("j") && label != labels.end())
      loops.emplace_back(label->second, number);
  }
  std::vector<std::vector<StringRef>> innermost;
  for (auto [begin, end] : loops) {
    bool hasInner =
        llvm::any_of(loops, [&, begin = begin, end = end](auto other) {
          return other != std::pair(begin, end) && other.first >= begin &&
                 other.second <= end;
        });
    if (!hasInner)
      innermost.emplace_back(lines.begin() + begin, lines.begin() + end + 1);
  }
  return innermost;
}

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
         line.contains("pshufb") || line.contains("tdpbsud");
}

/// A vector that is read from or written to the stack. (%rbp is a register like
/// any other: there is no frame pointer.)
bool isSpill(StringRef line) {
  return line.contains("(%rsp") && line.contains("mm");
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
};

class InnerLoopTest : public testing::TestWithParam<InnerLoops> {};

TEST_P(InnerLoopTest, HoldsItsVectorsInRegisters) {
  auto [target, packing, group] = GetParam();
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
      EXPECT_TRUE(llvm::none_of(loop, isSpill))
          << rows << "x" << columns << ", "
          << llvm::count_if(loop, isDotProduct) << " dot products, "
          << llvm::count_if(loop, isSpill) << " vectors on the stack:\n"
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
        InnerLoops{"x86-64-v3+avxvnni", Packing::T3},
        InnerLoops{"x86-64-v4", Packing::I2},
        InnerLoops{"x86-64-v4", Packing::L3},
        InnerLoops{"x86-64-v4", Packing::T3},
        InnerLoops{"x86-64-v4+avx512vnni", Packing::I2},
        InnerLoops{"x86-64-v4+avx512vnni", Packing::T3},
        InnerLoops{"x86-64-v4+avx512vnni+avx512vbmi", Packing::I2},
        InnerLoops{"x86-64-v4+avx512vnni+avx512vbmi", Packing::T5},
        InnerLoops{"x86-64-v4+avx512vnni+avx512vbmi+amxint8", Packing::I2},
        InnerLoops{"x86-64-v4+avx512vnni+avx512vbmi+amxint8", Packing::T5}));

// Without an instruction for it, an fma has branches, which look like loops.
INSTANTIATE_TEST_SUITE_P(
    Groups, InnerLoopTest,
    testing::Values(InnerLoops{"x86-64-v3", Packing::I2, 128},
                    InnerLoops{"x86-64-v4+avx512vnni", Packing::T3, 128},
                    InnerLoops{"x86-64-v3+avxvnni", Packing::I2, 128},
                    InnerLoops{"x86-64-v4", Packing::I2, 128},
                    InnerLoops{"x86-64-v4+avx512vnni", Packing::I2, 128},
                    InnerLoops{"x86-64-v4+avx512vnni+avx512vbmi", Packing::T5,
                               128}));

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
                                         "x86-64-v4+avx512vnni"));
