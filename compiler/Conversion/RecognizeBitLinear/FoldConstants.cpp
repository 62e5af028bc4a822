// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Before:  %t = "onnx.Transpose"(%constant)    %y = "onnx.MatMul"(%x, %t)
// After:   %t = "onnx.Constant"() {value = ..}    %y = "onnx.MatMul"(%x, %t)
//
// All nodes of constants become one graph without inputs, which is compiled and
// run once: there is no second implementation of any operator.

#include "compiler/Conversion/RecognizeBitLinear/RecognizeBitLinear.h"
#include "dialect/ONNX/ONNX.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;

namespace tercet {
namespace {

bool isLiteral(Operation *op) {
  StringRef name = op->getName().getStringRef();
  return name == onnx::kConstantOp || name == onnx::kNoneOp;
}

struct FoldConstants : PassWrapper<FoldConstants, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(FoldConstants)

  explicit FoldConstants(GraphEvaluator evaluate)
      : evaluate(std::move(evaluate)) {}

  StringRef getArgument() const override { return "fold-constants"; }
  StringRef getDescription() const override {
    return "Evaluate the ONNX nodes whose operands are constants";
  }

  void runOnOperation() override;

private:
  void findNodes(Block &graph);
  OwningOpRef<ModuleOp> makeGraph();

  GraphEvaluator evaluate;
  llvm::SetVector<Operation *> nodes;
  /// Results of nodes that something else uses.
  SmallVector<Value> results;
};

/// Nodes with a body and random numbers are no constants.
void FoldConstants::findNodes(Block &graph) {
  auto isConstant = [&](Value operand) {
    Operation *op = operand.getDefiningOp();
    return op && (isLiteral(op) || nodes.contains(op));
  };
  for (Operation &op : graph.without_terminator())
    if (!isLiteral(&op) && op.getNumRegions() == 0 &&
        !onnx::getOpName(&op).starts_with("Random") &&
        llvm::all_of(op.getOperands(), isConstant))
      nodes.insert(&op);
  for (Operation *op : nodes)
    for (Value result : op->getResults())
      if (llvm::any_of(result.getUsers(),
                       [&](Operation *user) { return !nodes.contains(user); }))
        results.push_back(result);
}

/// A module whose @graph returns `results`.
OwningOpRef<ModuleOp> FoldConstants::makeGraph() {
  Location loc = getOperation().getLoc();
  OwningOpRef<ModuleOp> module = ModuleOp::create(loc);
  OpBuilder b = OpBuilder::atBlockBegin(module->getBody());
  auto graph = func::FuncOp::create(
      b, loc, onnx::kGraphName,
      b.getFunctionType({}, ValueRange(results).getTypes()));
  for (auto [i, result] : llvm::enumerate(results))
    graph.setResultAttr(i, onnx::kNameAttr, b.getStringAttr(std::to_string(i)));
  b.setInsertionPointToStart(graph.addEntryBlock());
  IRMapping mapping;
  for (Operation *op : nodes) {
    for (Value operand : op->getOperands())
      if (!mapping.contains(operand))
        b.clone(*operand.getDefiningOp(), mapping);
    b.clone(*op, mapping);
  }
  func::ReturnOp::create(b, loc,
                         llvm::map_to_vector(results, [&](Value result) {
                           return mapping.lookup(result);
                         }));
  return module;
}

void FoldConstants::runOnOperation() {
  auto graph = getOperation().lookupSymbol<func::FuncOp>(onnx::kGraphName);
  // Without inputs all of it is constant: it is run when it is asked for. This
  // is also where compiling `makeGraph` ends.
  if (!graph || graph.getNumArguments() == 0)
    return;
  nodes.clear();
  results.clear();
  findNodes(graph.getBody().front());
  if (results.empty())
    return;
  llvm::Expected<SmallVector<ElementsAttr>> values = evaluate(makeGraph());
  if (!values) {
    graph.emitRemark() << "constants are not folded: "
                       << llvm::toString(values.takeError());
    return;
  }
  for (auto [result, value] : llvm::zip_equal(results, *values)) {
    OpBuilder b(result.getDefiningOp());
    result.replaceAllUsesWith(onnx::createConstant(b, result.getLoc(), value));
  }
  for (Operation *op : llvm::reverse(nodes))
    op->erase();
}

} // namespace

std::unique_ptr<Pass> createFoldConstants(GraphEvaluator evaluate) {
  return std::make_unique<FoldConstants>(std::move(evaluate));
}

} // namespace tercet
