// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_SCREENOUTPUTHEAD
#include "compiler/Passes/Passes.h.inc"

namespace {

/// func.func @step(..) -> tensor<?xVxf32> {
///   ..
///   %y = ternary.linear ins(%x, %w) outs(..)
///   return %y
/// }
/// becomes
/// func.func @step(..) -> tensor<?xKxf32> { .. return %x }
/// func.func @screen(%x) -> tensor<?xVxf32> {
///   return ternary.quantized_linear i8 bounded ins(%x, %w) outs(..)
/// }
/// func.func @head_rows(%x, %groups, %y) -> tensor<?xVxf32> {
///   return ternary.linear ins(%x, %w) groups(%groups) outs(%y)
/// }
struct ScreenOutputHead : impl::ScreenOutputHeadBase<ScreenOutputHead> {
  void runOnOperation() override {
    auto step = getOperation().lookupSymbol<func::FuncOp>("step");
    if (!step || !step.getBody().hasOneBlock() || step.getNumResults() != 1) {
      getOperation().emitError("expected a function @step with one result");
      return signalPassFailure();
    }
    Operation *terminator = step.getBody().front().getTerminator();
    auto head = terminator->getOperand(0).getDefiningOp<ternary::LinearOp>();
    if (!head || !head->hasOneUse() ||
        !head.getWeight().getDefiningOp<ternary::GetParameterOp>()) {
      step.emitOpError("expected to return a linear of a parameter");
      return signalPassFailure();
    }
    createScreen(head, step);
    createHeadRows(head, step);
    terminator->setOperand(0, head.getX());
    step.setFunctionType(FunctionType::get(
        &getContext(), step.getArgumentTypes(), head.getX().getType()));
    Operation *outs = head.getOuts().getDefiningOp();
    Operation *weight = head.getWeight().getDefiningOp();
    head.erase();
    for (Operation *op : {outs, weight})
      if (op && isOpTriviallyDead(op))
        op->erase();
  }

private:
  /// A function behind the others; `arguments` besides the hidden states.
  func::FuncOp createFunction(StringRef name, ternary::LinearOp head,
                              TypeRange arguments, OpBuilder &b) {
    SmallVector<Type> types = {head.getX().getType()};
    llvm::append_range(types, arguments);
    b.setInsertionPointToEnd(getOperation().getBody());
    auto function =
        func::FuncOp::create(b, head.getLoc(), name,
                             b.getFunctionType(types, head->getResultTypes()));
    b.setInsertionPointToStart(function.addEntryBlock());
    return function;
  }

  Value cloneWeight(ternary::LinearOp head, OpBuilder &b) {
    return b.clone(*head.getWeight().getDefiningOp())->getResult(0);
  }

  void createScreen(ternary::LinearOp head, func::FuncOp step) {
    OpBuilder b(&getContext());
    func::FuncOp screen = createFunction("screen", head, {}, b);
    Location loc = head.getLoc();
    Value hidden = screen.getArgument(0);
    auto type = cast<RankedTensorType>(head.getOuts().getType());
    Value outs = tensor::EmptyOp::create(
        b, loc,
        ArrayRef<OpFoldResult>{tensor::getMixedSize(b, loc, hidden, 0),
                               b.getIndexAttr(type.getDimSize(1))},
        type.getElementType());
    auto logits = ternary::QuantizedLinearOp::create(
        b, loc, head->getResultTypes(), hidden, cloneWeight(head, b), outs,
        ternary::CodeFormat::I8, /*bounded=*/true, /*layout=*/nullptr);
    func::ReturnOp::create(b, loc, logits.getResult());
  }

  void createHeadRows(ternary::LinearOp head, func::FuncOp step) {
    OpBuilder b(&getContext());
    auto groups = RankedTensorType::get({ShapedType::kDynamic}, b.getI32Type());
    func::FuncOp rows = createFunction("head_rows", head,
                                       {groups, head.getOuts().getType()}, b);
    auto logits = ternary::LinearOp::create(
        b, head.getLoc(), head->getResultTypes(), rows.getArgument(0),
        cloneWeight(head, b), rows.getArgument(1), rows.getArgument(2),
        /*layout=*/nullptr);
    func::ReturnOp::create(b, head.getLoc(), logits.getResult());
  }
};

} // namespace
} // namespace tercet
