// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Target/VectorSlices.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;

static int64_t countElements(Value vector) {
  return cast<VectorType>(vector.getType()).getNumElements();
}

Value tercet::replaceSlices(OpBuilder &b, Location loc, Value vector,
                            int64_t lanes, ValueRange operands,
                            llvm::function_ref<Value(Value, ValueRange)> emit) {
  int64_t numSlices = countElements(vector) / lanes;
  if (numSlices == 1)
    return emit(vector, operands);
  auto slice = [&](Value whole, int64_t number) -> Value {
    int64_t size = countElements(whole) / numSlices;
    return vector::ExtractStridedSliceOp::create(b, loc, whole, number * size,
                                                 size, 1);
  };
  Value result = vector;
  for (int64_t i = 0; i < numSlices; ++i) {
    SmallVector<Value> parts;
    Value replaced = slice(vector, i);
    for (Value operand : operands)
      parts.push_back(slice(operand, i));
    result = vector::InsertStridedSliceOp::create(b, loc, emit(replaced, parts),
                                                  result, i * lanes, 1);
  }
  return result;
}
