// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operators of signal processing.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

#include "mlir/Dialect/Math/IR/Math.h"

#include <numbers>

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;

/// The window sum over k of c[k] * cos(k * 2 pi n / N), where N is its size, or
/// that less one for a symmetric window.
static LogicalResult setWindow(B &b, std::array<double, 3> c) {
  FailureOr<Type> element = b.getElementType("output_datatype", b.getF32Type());
  if (failed(element))
    return failure();
  Type i64 = b.getI64Type(), type = getComputeType(*element);
  Tensor size = b.cast(b.reshape(b.input(0), {}), i64);
  Dim count = b.toDims(size)[0];
  Dim period = b.getInt("periodic", 1) ? count : b.sub(count, b.dim(1));
  auto toNumber = [&](Value index) {
    return b.castScalar(b.createOrFold<arith::IndexCastOp>(i64, index), i64,
                        type);
  };
  Value step =
      b.div(b.number(2 * std::numbers::pi, type), toNumber(b.index(period)));
  return b.result(b.generate(count, *element, [&](ValueRange i) {
    Value angle = b.mul(toNumber(i[0]), step), sum = b.number(c[0], type);
    for (int k : {1, 2}) {
      Value wave =
          math::CosOp::create(b, b.mul(angle, b.number(double(k), type)));
      sum = b.add(sum, b.mul(b.number(c[k], type), wave));
    }
    return b.store(b.castScalar(sum, type, *element), *element);
  }));
}

static const LoweringRow kRows[] = {
    {"BlackmanWindow", [](B &b) { return setWindow(b, {0.42, -0.5, 0.08}); }},
    {"HammingWindow",
     [](B &b) { return setWindow(b, {25.0 / 46, -21.0 / 46, 0}); }},
    {"HannWindow", [](B &b) { return setWindow(b, {0.5, -0.5, 0}); }},
};

ArrayRef<LoweringRow> tercet::getSignalLowerings() { return kRows; }
