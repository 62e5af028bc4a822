// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerONNX/LowerONNX.h"
#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "dialect/ONNX/ONNX.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "llvm/ADT/StringMap.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_LOWERONNX
#include "compiler/Conversion/LowerONNX/LowerONNX.h.inc"

Lowering findLowering(StringRef name) {
  static const llvm::StringMap<Lowering> lowerings = [] {
    llvm::StringMap<Lowering> all;
    for (ArrayRef<LoweringRow> family :
         {getElementwiseLowerings(),  getMatmulLowerings(),
          getConvolutionLowerings(),  getShapeLowerings(),
          getGatherLowerings(),       getSliceLowerings(),
          getCreationLowerings(),     getSelectionLowerings(),
          getReductionLowerings(),    getExtremesLowerings(),
          getSoftmaxLowerings(),      getNormalizationLowerings(),
          getResizeLowerings(),       getSamplingLowerings(),
          getQuantizationLowerings(), getControlLowerings(),
          getRecurrentLowerings(),    getAttentionLowerings(),
          getLossLowerings(),         getSignalLowerings(),
          getTernaryLowerings(),      getMicrosoftAttentionLowerings()})
      for (const LoweringRow &row : family)
        all[row.name] = row.lower;
    return all;
  }();
  return lowerings.lookup(name);
}

namespace {

struct LowerONNX : impl::LowerONNXBase<LowerONNX> {
  void runOnOperation() override;

private:
  LogicalResult lower(func::FuncOp graph);
};

/// The extents of arguments; those of one symbol are one value.
void bindArguments(GraphBuilder &b, func::FuncOp graph, Block &body) {
  llvm::StringMap<Dim> symbols;
  for (BlockArgument original : graph.getArguments()) {
    unsigned i = original.getArgNumber();
    Type element = cast<RankedTensorType>(original.getType()).getElementType();
    Tensor tensor = {body.getArgument(i), element};
    Dims dims = b.dims(tensor);
    if (auto names = graph.getArgAttrOfType<ArrayAttr>(i, onnx::kDimsAttr))
      for (auto [name, dim] : llvm::zip(names.getAsRange<StringAttr>(), dims))
        if (!name.empty() && isa<Value>(dim))
          dim = symbols.try_emplace(name.getValue(), dim).first->second;
    b.bind(original, b.withDims(tensor.value, dims, element));
  }
}

LogicalResult LowerONNX::lower(func::FuncOp graph) {
  for (Type type : graph.getArgumentTypes())
    if (!isa<RankedTensorType>(type))
      return graph.emitError("an input of the graph has no known rank");

  Block *body = new Block;
  graph.getBody().push_back(body);
  for (BlockArgument argument : graph.getArguments()) {
    auto type = cast<RankedTensorType>(argument.getType());
    body->addArgument(type.clone(getStorageType(type.getElementType())),
                      argument.getLoc());
    unsigned number = argument.getArgNumber();
    graph.setArgAttr(number, onnx::kTypeAttr, TypeAttr::get(type));
    // The caller's memory is not written.
    graph.setArgAttr(number,
                     bufferization::BufferizationDialect::kWritableAttrName,
                     BoolAttr::get(&getContext(), false));
  }
  GraphBuilder b(getOperation());
  b.setInsertionPointToStart(body);
  bindArguments(b, graph, *body);
  FailureOr<SmallVector<Tensor>> results =
      b.lowerGraph(graph.getBody().front());
  if (failed(results))
    return failure();
  SmallVector<Value> values;
  for (auto [i, result] : llvm::enumerate(*results)) {
    values.push_back(result.value);
    graph.setResultAttr(i, onnx::kTypeAttr,
                        TypeAttr::get(result.type().clone(result.element)));
  }
  func::ReturnOp::create(b, values);

  graph.getBody().front().dropAllReferences();
  graph.getBody().front().erase();
  OpBuilder builder(graph);
  graph.setFunctionType(builder.getFunctionType(body->getArgumentTypes(),
                                                ValueRange(values).getTypes()));
  return success();
}

void LowerONNX::runOnOperation() {
  auto graph = getOperation().lookupSymbol<func::FuncOp>(onnx::kGraphName);
  if (graph && failed(lower(graph)))
    signalPassFailure();
}

} // namespace
} // namespace tercet
