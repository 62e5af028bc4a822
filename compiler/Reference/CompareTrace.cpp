// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Reference/CompareTrace.h"
#include "compiler/Support/Kernels.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Interfaces/ViewLikeInterface.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"

using namespace llvm;
using namespace tercet;
using namespace tercet::reference;

/// The arguments of @step are those of tercet_step.
static constexpr unsigned kArenaArgument = 1;

/// Nothing for a buffer that is not in the arena: the logits.
std::optional<TraceComparison::Placement>
TraceComparison::place(unsigned result, mlir::Value buffer) {
  auto type = cast<mlir::MemRefType>(buffer.getType());
  SmallVector<int64_t> strides;
  int64_t offset;
  if (failed(type.getStridesAndOffset(strides, offset)))
    return std::nullopt;
  mlir::Value root = buffer;
  std::optional<int64_t> start;
  while (auto view = root.getDefiningOp<mlir::ViewLikeOpInterface>()) {
    if (auto bytes = dyn_cast<mlir::memref::ViewOp>(*view))
      start = mlir::getConstantIntValue(bytes.getByteShift());
    root = view.getViewSource();
  }
  auto argument = dyn_cast<mlir::BlockArgument>(root);
  if (!argument || argument.getArgNumber() != kArenaArgument || !start)
    return std::nullopt;
  int64_t elementSize = type.getElementTypeBitWidth() / 8;
  return Placement{result, uint64_t(*start + offset * elementSize),
                   uint64_t(strides[0] * elementSize),
                   type.getRank() > 1 ? type.getDimSize(1) : 1, elementSize};
}

/// The calls of tercet_parallel_for that a kernel makes. l3 builds tables
/// before it uses them, for as many tokens at a time as they have room for.
static uint64_t countCalls(mlir::Operation *op, int64_t numTokens) {
  auto matmul = dyn_cast<ternary::PackedMatmulOp>(op);
  if (!matmul || !matmul.getTables())
    return 1;
  auto type = cast<mlir::ShapedType>(matmul.getTables().getType());
  return 2 * divideCeil(numTokens, type.getDimSize(0));
}

Expected<TraceComparison>
TraceComparison::create(const ArtifactProgram &program,
                        ArrayRef<int32_t> tokens, mlir::ModuleOp planned) {
  auto info = program.getInfo();
  if (!info)
    return info.takeError();
  auto arenaSize =
      planned->getAttrOfType<mlir::IntegerAttr>("ternary.arena_size");
  if (!arenaSize || arenaSize.getInt() != info->arenaSize)
    return createStringError("the executable has another arena than this "
                             "version of tercet plans: compile it again");

  TraceComparison trace;
  tokens = tokens.take_front(info->maxStepTokens);
  trace.numTokens = tokens.size();
  std::vector<tercet_trace_range> ranges;
  // Those that a screened head has beside the step, in the order of --trace.
  SmallVector<mlir::Operation *> ops;
  for (StringRef name : {"step", "head_rows", "screen"})
    if (auto function = planned.lookupSymbol<mlir::func::FuncOp>(name))
      for (mlir::Operation &op : function.getBody().front())
        if (isKernel(&op))
          ops.push_back(&op);
  trace.numKernels = ops.size();
  uint64_t numCalls = 0;
  auto add = [&](mlir::Operation *op, ternary::FusedRowsOp fused = {}) {
    TracedOp traced{op->getName().getStringRef(), {}};
    if (auto destinations = dyn_cast<mlir::DestinationStyleOpInterface>(op))
      for (auto [result, init] : enumerate(destinations.getDpsInits())) {
        mlir::Value whole = fused ? fused.getOperandOf(init) : init;
        if (!whole)
          continue; // a row of a worker
        if (auto placement = place(result, whole)) {
          ranges.push_back({numCalls - 1, placement->offset,
                            placement->size(trace.numTokens)});
          traced.placements.push_back(*placement);
        }
      }
    trace.tracedOps.push_back(std::move(traced));
  };
  for (mlir::Operation *op : ops) {
    numCalls += countCalls(op, trace.numTokens);
    if (auto fused = dyn_cast<ternary::FusedRowsOp>(op))
      for (mlir::Operation &inner : fused.getBody().front())
        add(&inner, fused);
    else
      add(op);
  }
  auto buffer = program.trace(tokens, ranges, numCalls);
  if (!buffer)
    return buffer.takeError();
  trace.buffer = std::move(*buffer);
  trace.rest = trace.buffer->getBuffer();
  return trace;
}

void TraceComparison::observe(mlir::Operation *op, ArrayRef<Value> operands,
                              ArrayRef<Value> results) {
  if (difference || !isKernel(op))
    return;
  if (next == tracedOps.size() ||
      tracedOps[next].name != op->getName().getStringRef()) {
    difference = "no kernel belongs to " + getLayerName(op) + " (" +
                 op->getName().getStringRef().str() + ")";
    return;
  }
  for (const Placement &placement : tracedOps[next++].placements) {
    // What a weight matrix does not reach is unspecified.
    int64_t numColumns = placement.numColumns;
    if (auto linear = dyn_cast<ternary::LinearOp>(op))
      numColumns =
          cast<mlir::ShapedType>(linear.getWeight().getType()).getDimSize(0);
    compareResult(op, placement, results[placement.result], numColumns);
    if (difference)
      return;
  }
}

void TraceComparison::compareResult(mlir::Operation *op,
                                    const Placement &placement,
                                    const Value &expected, int64_t numColumns) {
  StringRef actual = rest.take_front(placement.size(numTokens));
  rest = rest.drop_front(actual.size());
  ++numResults;
  expected.visit([&](auto &array) {
    if constexpr (requires { array.data; }) {
      using T = std::remove_cvref_t<decltype(array.data[0])>;
      assert(sizeof(T) == size_t(placement.elementSize) && "another type");
      for (int64_t token = 0; token < numTokens; ++token)
        for (int64_t column = 0; column < numColumns; ++column) {
          T ours, theirs = array.data[token * placement.numColumns + column];
          memcpy(&ours,
                 actual.data() + token * placement.stride + column * sizeof(T),
                 sizeof(T));
          if (!memcmp(&ours, &theirs, sizeof(T)))
            continue;
          raw_string_ostream(difference.emplace())
              << "first differs at " << getLayerName(op) << " ("
              << op->getName() << "), token " << token << ", column " << column
              << ": " << format("%.9g", double(ours)) << " instead of "
              << format("%.9g", double(theirs));
          return;
        }
    }
  });
}

std::string TraceComparison::describe() const {
  if (difference)
    return *difference;
  if (next < tracedOps.size())
    return formatv("only {0} of the kernels' {1} ops are in the model", next,
                   tracedOps.size());
  return formatv("{0} kernels, {1} identical results of {2} tokens", numKernels,
                 numResults, numTokens);
}
