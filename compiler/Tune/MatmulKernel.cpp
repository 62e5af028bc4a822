// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Tune/MatmulKernel.h"
#include "compiler/Pipeline/Pipeline.h"
#include "mlir/AsmParser/AsmParser.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/FormatVariadic.h"

using namespace llvm;
using namespace tercet;
using tercet::ternary::LayoutAttr;

static LayoutAttr getLayout(mlir::MLIRContext &context,
                            const LayoutChoice &choice) {
  context.loadDialect<ternary::TernaryDialect>();
  return LayoutAttr::getTrits(&context, choice.packing, choice.schedule);
}

static std::string print(mlir::Attribute attribute) {
  std::string text;
  raw_string_ostream(text) << attribute;
  return text;
}

std::string tercet::printLayout(const LayoutChoice &choice) {
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  return print(getLayout(context, choice));
}

std::optional<LayoutChoice> tercet::parseLayout(StringRef text) {
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  context.loadDialect<ternary::TernaryDialect>();
  mlir::ScopedDiagnosticHandler silent(
      &context, [](mlir::Diagnostic &) { return mlir::success(); });
  auto layout =
      dyn_cast_or_null<LayoutAttr>(mlir::parseAttribute(text, &context));
  if (!layout || !layout.packsTrits())
    return std::nullopt;
  return LayoutChoice{layout.getPacking(), layout.getSchedule()};
}

/// A function of static memrefs, whose parallel loop runs on the pool.
static std::string makeSource(LayoutAttr layout, MatmulShape shape,
                              int64_t numTokens, int64_t tableTokens,
                              int64_t tableBytes) {
  auto [rows, columns, group] = shape;
  std::string sum = formatv("memref<{0}xi32>", numTokens);
  std::string scales = formatv("memref<{0}xf32>", rows / ternary::kRowGroup);
  std::string groupText;
  if (group) {
    int64_t numGroups = divideCeil(columns, group);
    sum = formatv("memref<{0}x{1}xi32>", numTokens, numGroups);
    scales = formatv("memref<{0}x{1}x{2}xf32>", rows / ternary::kRowGroup,
                     numGroups, ternary::kRowGroup);
    groupText = formatv("group = {0}", group);
  }
  std::string q = formatv("memref<{0}x{1}xi8>", numTokens, columns);
  std::string scale = formatv("memref<{0}xf32>", numTokens);
  std::string w =
      formatv("memref<{0}xi8>", layout.getPackedBytes(rows, columns));
  std::string y = formatv("memref<{0}x{1}xf32>", numTokens, rows);
  std::string tables = formatv("memref<{0}x{1}xi8>", tableTokens, tableBytes);
  return formatv(
      "func.func @matmul(%q: {0}, %scale: {1}, %sum: {2}, %w: {3}, "
      "%scales: {4}, %y: {5}, %tables: {6}, %pool: !llvm.ptr) {{\n"
      "ternary.packed_matmul {7} {8} ins(%q, %scale, %sum, %w, %scales : {0}, "
      "{1}, {2}, {3}, {4}) outs(%y : {5}) {9}\n return\n}",
      q, scale, sum, w, scales, y, tables,
      StringRef(print(layout)).substr(strlen("#ternary.layout")), groupText,
      layout.usesTables() ? "tables(%tables : " + tables + ")" : "");
}

Expected<MatmulKernel> MatmulKernel::compile(const TargetSpec &target,
                                             MatmulShape shape,
                                             int64_t numTokens,
                                             const LayoutChoice &choice) {
  mlir::DialectRegistry registry;
  registerPipelineDialects(registry);
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  LayoutAttr layout = getLayout(context, choice);
  int64_t tableTokens = 1, tableBytes = 1;
  if (layout.usesTables()) {
    tableTokens = layout.getTableTokens(shape.cols);
    tableBytes = layout.getTableBytes(shape.cols);
  }
  auto module = mlir::parseSourceString<mlir::ModuleOp>(
      makeSource(layout, shape, numTokens, tableTokens, tableBytes), &context);
  assert(module && "the source of a kernel is well-formed");

  CompileOptions options;
  options.target = target;
  ParameterReader reader;
  std::vector<WeightPiece> pieces;
  mlir::PassManager passes(&context);
  passes.enableVerifier(false);
  bool isKernel = false;
  for (const Phase &phase : getPhases())
    if ((isKernel |= phase.name == "lower-kernels"))
      phase.addPasses(passes, options, reader, pieces);
  if (mlir::failed(passes.run(*module)))
    return createStringError("no kernel for " + print(layout));

  auto code = LoadedCode::load(*module, target);
  if (!code)
    return code.takeError();
  MatmulKernel kernel(std::move(*code));
  auto function = kernel.code.lookup<Function>("tercet_matmul");
  if (!function)
    return function.takeError();
  auto dotPeak = kernel.code.lookup<int64_t(int64_t)>("tercet_dot_peak");
  if (!dotPeak)
    return dotPeak.takeError();
  kernel.function = *function;
  kernel.dotPeak = *dotPeak;
  kernel.scratchBytes =
      (*module)
          ->getAttrOfType<mlir::IntegerAttr>("ternary.scratch_size")
          .getInt();
  if (layout.usesTables()) {
    kernel.tables = PageMemory(tableTokens * tableBytes);
    if (!kernel.tables.data())
      return createStringError("no memory for the tables of a kernel");
  }
  return kernel;
}
