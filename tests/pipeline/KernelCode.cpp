// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "tests/pipeline/KernelCode.h"

#include "compiler/Emit/EmitObject.h"
#include "compiler/Support/KVCacheLayout.h"
#include "compiler/Support/PackedLayout.h"
#include "compiler/Target/Backend.h"

#include "mlir/Parser/Parser.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/ErrorHandling.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace tercet;
using llvm::formatv;
using llvm::StringRef;
using ternary::LayoutAttr;
using ternary::Packing;
using ternary::Schedule;

/// `view` of the first %n rows of a buffer of all.
static std::string firstRows(StringRef name, StringRef element,
                             int64_t columns) {
  if (columns == 0)
    return formatv(
        "%{0}_n = memref.reinterpret_cast %{0} to offset: [0], sizes: [%n], "
        "strides: [1] : memref<{1}x{2}> to memref<?x{2}>\n",
        name, MatmulCode::kMaxTokens, element);
  return formatv(
      "%{0}_n = memref.reinterpret_cast %{0} to offset: [0], sizes: [%n, {3}], "
      "strides: [{3}, 1] : memref<{1}x{3}x{2}> to memref<?x{3}x{2}>\n",
      name, MatmulCode::kMaxTokens, element, columns);
}

/// Assembly of a module of loop-level ops.
static std::string emitAssembly(StringRef source, MLIRContext &context,
                                const CompileOptions &options) {
  auto module = parseSourceString<ModuleOp>(source, &context);
  if (!module)
    llvm::report_fatal_error("kernel does not parse");

  ParameterReader reader;
  std::vector<WeightPiece> pieces;
  PassManager passes(&context);
  bool isReached = false;
  for (const Phase &phase : getPhases())
    if ((isReached |= phase.name == "lower-kernels"))
      phase.addPasses(passes, options, reader, pieces);
  if (failed(passes.run(*module)))
    llvm::report_fatal_error("kernel does not lower");
  return llvm::cantFail(emitCode(*module, options.target, CodeKind::Assembly))
      .str()
      .str();
}

static DialectRegistry makeRegistry() {
  DialectRegistry registry;
  registerPipelineDialects(registry);
  return registry;
}

MatmulCode::MatmulCode(StringRef targetText, int64_t rows, int64_t columns,
                       std::optional<int64_t> group)
    : rows(rows), columns(columns), group(group), context(makeRegistry()) {
  context.loadAllAvailableDialects();
  options.target = llvm::cantFail(parseTarget(targetText));
}

LayoutAttr MatmulCode::selected(Packing packing) {
  return withSchedule(
      packing, getBackend(options.target)
                   .getSchedule(packing, {rows, columns, group.value_or(0)},
                                options.target));
}

LayoutAttr MatmulCode::withSchedule(Packing packing, Schedule schedule) {
  return LayoutAttr::getTrits(&context, packing, schedule);
}

std::string MatmulCode::emit(LayoutAttr layout, std::optional<int64_t> tokens) {
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
      "%y: memref<{0}x{4}xf32>, {6}%{7}: index, %pool: !llvm.ptr) {{\n",
      kMaxTokens, columns, size, scales, rows, sums, tablesArgument,
      tokens ? "unused" : "n");
  if (tokens)
    source += formatv("%n = arith.constant {0} : index\n", *tokens);
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

namespace {
/// A context that knows every dialect, and the options of a target.
struct Compilation {
  Compilation(StringRef targetText) : context(makeRegistry()) {
    context.loadAllAvailableDialects();
    options.target = llvm::cantFail(parseTarget(targetText));
  }
  const Backend &backend() { return getBackend(options.target); }
  std::string emit(StringRef source) {
    return emitAssembly(source, context, options);
  }
  MLIRContext context;
  CompileOptions options;
};
} // namespace

/// The parameter that the caller of the code gives for the tokens, or another,
/// and the constant in its place.
static StringRef nameOfTokens(std::optional<int64_t> tokens) {
  return tokens ? "unused" : "n";
}
static std::string defineTokens(std::optional<int64_t> tokens) {
  if (!tokens)
    return "";
  return formatv("%n = arith.constant {0} : index\n", *tokens);
}

std::string tercet::emitHead(StringRef targetText, ternary::CodeFormat format,
                             int64_t rows, int64_t columns,
                             std::optional<int64_t> tokens) {
  Compilation compilation(targetText);
  ternary::CodeLayoutAttr layout = compilation.backend().selectHeadLayout(
      &compilation.context, format, compilation.options.target);
  std::string layoutText;
  llvm::raw_string_ostream(layoutText) << layout;
  int64_t size = layout.getSize(rows, columns);
  int64_t groups =
      llvm::divideCeil(columns, ternary::getCodeFormatInfo(format).group);
  std::string source = formatv(
      "func.func @head(%high: memref<{0}x{1}xi8>, %low: memref<{0}x{1}xi8>, "
      "%scale: memref<{0}xf32>, %sums: memref<{0}x{2}xi32>, "
      "%w: memref<{3}xi8>, %y: memref<{0}x{4}xf32>, %{5}: index, "
      "%pool: !llvm.ptr) {{\n{6}",
      MatmulCode::kMaxTokens, columns, groups, size, rows, nameOfTokens(tokens),
      defineTokens(tokens));
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
  return compilation.emit(source);
}

std::string tercet::emitBF16Head(StringRef targetText, int64_t rows,
                                 int64_t columns,
                                 std::optional<int64_t> tokens) {
  Compilation compilation(targetText);
  const TargetSpec &target = compilation.options.target;
  int64_t tileRows =
      compilation.backend().getHeadTileRows(Packing::BF16Pairs, target);
  auto layout =
      LayoutAttr::get(&compilation.context, Packing::BF16Pairs, tileRows,
                      compilation.backend().getHeadSchedule(Packing::BF16Pairs,
                                                            tileRows, target));
  std::string layoutText;
  llvm::raw_string_ostream(layoutText) << layout;
  int64_t size = layout.getPackedBytes(rows, columns);
  std::string source =
      formatv("func.func @head(%x: memref<{0}x{1}xf32>, %w: memref<{2}xi8>, "
              "%y: memref<{0}x{3}xf32>, %{4}: index, %pool: !llvm.ptr) {{\n{5}",
              MatmulCode::kMaxTokens, columns, size, rows, nameOfTokens(tokens),
              defineTokens(tokens));
  source += firstRows("x", "f32", columns) + firstRows("y", "f32", rows);
  source += formatv("ternary.packed_linear {0} ins(%x_n, %w : "
                    "memref<?x{1}xf32>, memref<{2}xi8>) outs(%y_n : "
                    "memref<?x{3}xf32>)\nreturn\n}",
                    StringRef(layoutText).substr(strlen("#ternary.layout")),
                    columns, size, rows);
  return compilation.emit(source);
}

std::string tercet::emitAttention(StringRef targetText) {
  Compilation compilation(targetText);
  constexpr int64_t kColumns = 5 * 4 * 128;
  auto cache = ternary::KVCacheType::get(
      &compilation.context, /*layers=*/1, /*heads=*/5, /*context=*/4096,
      /*headDim=*/128, ternary::KVElement::F32);
  auto memory = getKVMemRefType(cache);
  llvm::SmallVector<int64_t> oneSlot(memory.getShape());
  oneSlot.front() = 1;
  std::string cacheText, memoryText, oneSlotText;
  llvm::raw_string_ostream(cacheText) << cache;
  llvm::raw_string_ostream(memoryText) << memory;
  llvm::raw_string_ostream(oneSlotText) << memory.clone(oneSlot);
  std::string source =
      formatv("func.func @attention(%q: memref<{0}x{1}xf32>, %positions: "
              "memref<{0}xi32>, %slots: memref<{0}xi32>, %slot: {2}, %y: "
              "memref<{0}x{1}xf32>, %n: index, %pool: !llvm.ptr) {{\n",
              MatmulCode::kMaxTokens, kColumns, oneSlotText);
  source += firstRows("q", "f32", kColumns) + firstRows("positions", "i32", 0) +
            firstRows("slots", "i32", 0) + firstRows("y", "f32", kColumns);
  source += formatv(
      "%layer = arith.constant 0 : index\n"
      "%memory = memref.cast %slot : {3} to {1}\n"
      "%cache = builtin.unrealized_conversion_cast %memory : {1} to {2}\n"
      "ternary.attention ins(%q_n, %positions_n, %slots_n, %cache layer %layer "
      ": memref<?x{0}xf32>, memref<?xi32>, memref<?xi32>, {2}) outs(%y_n : "
      "memref<?x{0}xf32>) scale = 0.125\nreturn\n}",
      kColumns, memoryText, cacheText, oneSlotText);
  return compilation.emit(source);
}

std::string tercet::emitRMSNorm(StringRef targetText, int64_t columns) {
  std::string source =
      formatv("func.func @norm(%x: memref<{0}x{1}xf32>, %w: memref<{1}xf32>, "
              "%y: memref<{0}x{1}xf32>, %n: index, %pool: !llvm.ptr) {{\n",
              MatmulCode::kMaxTokens, columns);
  source += firstRows("x", "f32", columns) + firstRows("y", "f32", columns);
  source += formatv("ternary.rms_norm ins(%x_n, %w : memref<?x{0}xf32>, "
                    "memref<{0}xf32>) outs(%y_n : memref<?x{0}xf32>) "
                    "epsilon = 1.0e-5\nreturn\n}",
                    columns);
  return Compilation(targetText).emit(source);
}

std::string tercet::emitQuantizeActivations(StringRef targetText,
                                            int64_t columns) {
  std::string source = formatv(
      "func.func @quantize(%x: memref<{0}x{1}xf32>, %q: memref<{0}x{1}xi8>, "
      "%scale: memref<{0}xf32>, %sum: memref<{0}xi32>, %n: index, "
      "%pool: !llvm.ptr) {{\n",
      MatmulCode::kMaxTokens, columns);
  source += firstRows("x", "f32", columns) + firstRows("q", "i8", columns) +
            firstRows("scale", "f32", 0) + firstRows("sum", "i32", 0);
  source += formatv("ternary.quantize_activations ins(%x_n : "
                    "memref<?x{0}xf32>) outs(%q_n, %scale_n, %sum_n : "
                    "memref<?x{0}xi8>, memref<?xf32>, memref<?xi32>)\n"
                    "return\n}",
                    columns);
  return Compilation(targetText).emit(source);
}

/// A label that an instruction of x86 or Arm jumps to, if it may.
static StringRef getJumpTarget(StringRef instruction) {
  auto [opcode, operands] = instruction.split('\t');
  bool isJump = opcode.starts_with("j") || opcode == "b" ||
                opcode.starts_with("b.") || opcode.starts_with("cb") ||
                opcode.starts_with("tb");
  return isJump ? operands.substr(operands.rfind(' ') + 1) : StringRef();
}

std::vector<std::vector<StringRef>>
tercet::findInnermostLoops(StringRef assembly) {
  llvm::SmallVector<StringRef> lines;
  assembly.split(lines, '\n');
  llvm::StringMap<size_t> labels;
  std::vector<std::pair<size_t, size_t>> loops; // label, branch back to it
  for (auto [number, line] : llvm::enumerate(lines)) {
    StringRef text = line.trim();
    if (text.starts_with(".LBB") && text.contains(':'))
      labels[text.split(':').first] = number;
    auto label = labels.find(getJumpTarget(text));
    if (label != labels.end())
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
