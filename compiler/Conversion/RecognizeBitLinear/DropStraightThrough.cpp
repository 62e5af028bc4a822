// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/RecognizeBitLinear/RecognizeBitLinear.h"
#include "dialect/ONNX/ONNX.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_DROPSTRAIGHTTHROUGH
#include "compiler/Conversion/RecognizeBitLinear/RecognizeBitLinear.h.inc"

namespace {

/// Whether `value` comes out of a rounding, scaled and clipped in a few nodes.
bool isQuantized(Value value, int depth = 6) {
  Operation *op = value.getDefiningOp();
  if (!op || depth == 0)
    return false;
  StringRef name = onnx::getOpName(op);
  if (name == "Round" || name == "Sign")
    return true;
  if (name == "Mul")
    return isQuantized(op->getOperand(0), depth - 1) ||
           isQuantized(op->getOperand(1), depth - 1);
  return (name == "Div" || name == "Clip" || name == "Cast") &&
         isQuantized(op->getOperand(0), depth - 1);
}

/// What an Identity copies; the q of x + (q - x) and x - (x - q).
Value matchStraightThrough(Operation *op) {
  StringRef name = onnx::getOpName(op);
  if (name == "Identity")
    return op->getOperand(0);
  auto getDifference = [](Value value) {
    Operation *sub = value.getDefiningOp();
    return sub && onnx::getOpName(sub) == "Sub" ? sub : nullptr;
  };
  if (name == "Add")
    for (unsigned i : {0, 1})
      if (Operation *sub = getDifference(op->getOperand(i)))
        if (sub->getOperand(1) == op->getOperand(1 - i) &&
            isQuantized(sub->getOperand(0)))
          return sub->getOperand(0);
  if (name == "Sub")
    if (Operation *sub = getDifference(op->getOperand(1)))
      if (sub->getOperand(0) == op->getOperand(0) &&
          isQuantized(sub->getOperand(1)))
        return sub->getOperand(1);
  return {};
}

struct DropStraightThrough
    : impl::DropStraightThroughBase<DropStraightThrough> {
  void runOnOperation() override {
    getOperation()->walk([](Operation *op) {
      if (!isa_and_present<onnx::ONNXDialect>(op->getDialect()))
        return;
      if (Value quantized = matchStraightThrough(op)) {
        op->getResult(0).replaceAllUsesWith(quantized);
        op->erase();
      }
    });
  }
};

} // namespace
} // namespace tercet
