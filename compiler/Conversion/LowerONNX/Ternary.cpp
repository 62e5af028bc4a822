// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What RecognizeBitLinear found.

#include "dialect/Ternary/Ternary.h"
#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;

/// The scales of a node: one f32, or [M, groups].
static Value lowerScales(B &b) {
  auto scales = b.node()->getAttrOfType<ElementsAttr>("scales");
  if (scales.getShapedType().getRank() == 2)
    return b.parameter(scales);
  return arith::ConstantOp::create(
      b, cast<FloatAttr>(*scales.value_begin<Attribute>()));
}

/// x [.., K] as a matrix of tokens.
static LogicalResult lowerBitLinear(B &b) {
  Tensor x = b.input(0);
  FailureOr<int64_t> axis = b.getAxis(x.rank(), -1);
  if (failed(axis))
    return failure();
  if (*axis != x.rank() - 1)
    return b.error() << "the file has another rank for its input, so that axis "
                     << *axis << " is not the last one";
  auto trits = b.node()->getAttrOfType<ElementsAttr>("trits");
  Dims shape = b.dims(x);
  Dim columns = b.dim(trits.getShapedType().getDimSize(1));
  b.requireEqual(shape.back(), columns, "inner dimensions differ");
  x = b.reshape(x, {b.product(ArrayRef(shape).drop_back()), columns});
  shape.back() = b.dim(trits.getShapedType().getDimSize(0));
  Tensor out = b.empty({b.dim(x, 0), shape.back()}, x.element);
  Value y =
      ternary::BitLinearOp::create(
          b, out.value.getType(), x.value, b.parameter(trits), lowerScales(b),
          out.value, b.node()->getAttrOfType<IntegerAttr>("group"))
          .getResult();
  return b.result(b.reshape(b.withDims(y, b.dims(out), x.element), shape));
}

//===----------------------------------------------------------------------===//
// Products of integers
//===----------------------------------------------------------------------===//

/// Integers of -128..127 as i8; those of ui8 stand for 128 less.
static Tensor toCodes(B &b, Tensor x) {
  return b.map(x, b.getI8Type(), [&](ValueRange v) -> Value {
    if (!x.element.isUnsignedInteger(8))
      return b.castScalar(v[0], x.element, b.getI8Type());
    return arith::XOrIOp::create(b, v[0], b.number(-128, b.getI8Type()));
  });
}

/// codes [N, K] times the trits of the node: [N, M].
static Tensor multiplyCodes(B &b, Tensor codes) {
  auto trits = b.node()->getAttrOfType<ElementsAttr>("trits");
  auto group = b.node()->getAttrOfType<IntegerAttr>("group");
  int64_t rows = trits.getShapedType().getDimSize(0),
          columns = trits.getShapedType().getDimSize(1);
  // As quantize_activations pads them, and fused rows are padded.
  Dim padding = b.dim(llvm::alignTo(columns, ternary::kRowGroup) - columns);
  Dim tokens = b.dim(codes, 0), zero = b.dim(0),
      width = b.dim(llvm::alignTo(rows, ternary::kRowGroup));
  codes =
      b.pad(codes, {zero, zero}, {zero, padding}, b.number(0, b.getI8Type()));
  Dims sumDims = {tokens, width};
  if (group) // of all columns
    sumDims.insert(sumDims.begin() + 1, b.dim(1));
  Value sums = b.empty(sumDims, b.getI32Type()).value;
  sums = ternary::MatmulOp::create(b, sums.getType(), codes.value,
                                   b.parameter(trits), sums, group,
                                   /*layout=*/nullptr)
             .getResult();
  Type f32 = b.getF32Type();
  Tensor ones = b.fill(tokens, f32, b.number(1, f32)),
         out = b.empty({tokens, width}, f32);
  out.value =
      ternary::RescaleOp::create(b, out.value.getType(), sums, ones.value,
                                 lowerScales(b), out.value, rows)
          .getResult();
  out = b.withDims(out.value, {tokens, width}, f32);
  return b.slice(out, {zero, zero}, {tokens, b.dim(rows)});
}

static LogicalResult lowerMatmul(B &b) {
  Tensor x = b.input(0);
  auto trits = b.node()->getAttrOfType<ElementsAttr>("trits").getShapedType();
  if (x.rank() == 0)
    return b.error() << "an operand is a scalar";
  Dims shape = b.dims(x);
  b.requireEqual(shape.back(), b.dim(trits.getDimSize(1)),
                 "inner dimensions differ");
  Dim tokens = b.product(ArrayRef(shape).drop_back());
  Tensor y = multiplyCodes(
      b, b.reshape(toCodes(b, x), {tokens, b.dim(trits.getDimSize(1))}));
  shape.back() = b.dim(trits.getDimSize(0));
  return b.result(b.reshape(y, shape));
}

/// Each window is a token.
static LogicalResult lowerConv(B &b) {
  Tensor x = b.input(0);
  auto trits = b.node()->getAttrOfType<ElementsAttr>("trits").getShapedType();
  FailureOr<Tensor> windows = gatherWindows(
      b, toCodes(b, x), b.number(b.getInt("zero", 0), b.getI8Type()));
  if (failed(windows))
    return failure();
  Dims shape =
      llvm::to_vector<6>(ArrayRef(b.dims(*windows)).take_front(x.rank() - 1));
  Dim columns = b.dim(trits.getDimSize(1));
  b.requireEqual(b.product(ArrayRef(b.dims(*windows)).drop_front(x.rank() - 1)),
                 columns, "the channels are not those of the weights");
  Tensor y = multiplyCodes(b, b.reshape(*windows, {b.product(shape), columns}));
  shape.push_back(b.dim(trits.getDimSize(0)));
  // Channels come second.
  SmallVector<int64_t> permutation = llvm::to_vector(llvm::seq(x.rank()));
  std::rotate(permutation.begin() + 1, permutation.end() - 1,
              permutation.end());
  return b.result(b.transpose(b.reshape(y, shape), permutation));
}

ArrayRef<LoweringRow> tercet::getTernaryLowerings() {
  static constexpr LoweringRow kRows[] = {
      {"ternary.bit_linear", lowerBitLinear},
      {"ternary.matmul", lowerMatmul},
      {"ternary.conv", lowerConv},
  };
  return kRows;
}
