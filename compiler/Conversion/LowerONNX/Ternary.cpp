// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What RecognizeBitLinear found.

#include "dialect/Ternary/Ternary.h"
#include "compiler/Conversion/LowerONNX/Constants.h"
#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"
#include "dialect/ONNX/ONNX.h"

#include "mlir/Dialect/Utils/IndexingUtils.h"

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

/// codes [N, K] times trits [M, K], divided by the scale of each token: [N, M].
static Tensor multiplyCodes(B &b, Tensor codes, ElementsAttr trits,
                            Tensor tokenScales) {
  int64_t rows = trits.getShapedType().getDimSize(0),
          columns = trits.getShapedType().getDimSize(1);
  IntegerAttr group; // of all columns
  if (b.node()->hasAttr("group"))
    group = b.getI64IntegerAttr(llvm::alignTo(columns, ternary::kRowGroup));
  Dim tokens = b.dim(codes, 0), zero = b.dim(0),
      width = b.dim(llvm::alignTo(rows, ternary::kRowGroup));
  Dims sumDims = {tokens, width};
  if (group)
    sumDims.insert(sumDims.begin() + 1, b.dim(1));
  Value sums = b.empty(sumDims, b.getI32Type()).value;
  sums = ternary::MatmulOp::create(b, sums.getType(), codes.value,
                                   b.parameter(trits), sums, group,
                                   /*layout=*/nullptr)
             .getResult();
  Tensor out = b.empty({tokens, width}, b.getF32Type());
  out.value = ternary::RescaleOp::create(b, out.value.getType(), sums,
                                         tokenScales.value, lowerScales(b),
                                         out.value, rows)
                  .getResult();
  out = b.withDims(out.value, {tokens, width}, b.getF32Type());
  if (rows % ternary::kRowGroup == 0)
    return out;
  return b.slice(out, {zero, zero}, {tokens, b.dim(rows)});
}

static Tensor ones(B &b, ArrayRef<Dim> dims) {
  return b.fill(dims, b.getF32Type(), b.number(1, b.getF32Type()));
}

static LogicalResult lowerMatmul(B &b) {
  Tensor x = b.input(0);
  auto trits = b.node()->getAttrOfType<ElementsAttr>("trits");
  if (x.rank() == 0)
    return b.error() << "an operand is a scalar";
  int64_t columns = trits.getShapedType().getDimSize(1);
  Dims shape = b.dims(x);
  b.requireEqual(shape.back(), b.dim(columns), "inner dimensions differ");
  Dim tokens = b.product(ArrayRef(shape).drop_back()), zero = b.dim(0);
  // As quantize_activations pads them, and fused rows are padded.
  Dim padding = b.dim(llvm::alignTo(columns, ternary::kRowGroup) - columns);
  Tensor codes =
      b.pad(b.reshape(toCodes(b, x), {tokens, b.dim(columns)}), {zero, zero},
            {zero, padding}, b.number(0, b.getI8Type()));
  Tensor y = multiplyCodes(b, codes, trits, ones(b, tokens));
  shape.back() = b.dim(trits.getShapedType().getDimSize(0));
  return b.result(b.reshape(y, shape));
}

/// Trits [M, K] with zeros after every `size` columns, so that they become
/// `alignedSize`.
static ElementsAttr padColumns(ElementsAttr trits, int64_t size,
                               int64_t alignedSize) {
  if (size == alignedSize)
    return trits;
  auto type = cast<RankedTensorType>(trits.getType());
  ArrayRef<char> bytes = getRawBytes(trits);
  bool isSplat = bytes.size() == 1;
  int64_t rows = type.getDimSize(0), columns = type.getDimSize(1);
  std::vector<char> padded(rows * columns / size * alignedSize);
  for (int64_t i = 0; i < rows * columns; ++i)
    padded[i / size * alignedSize + i % size] = bytes[isSplat ? 0 : i];
  return onnx::makeElements(type.clone({rows, columns / size * alignedSize}),
                            padded, "trits");
}

/// The scale of each image, one of all or [N, 1, ..], for all its positions.
static Tensor spreadScales(B &b, Tensor scale, ArrayRef<Dim> positions) {
  Dims dims(positions.size(), b.dim(1));
  if (scale.rank() > int64_t(positions.size()))
    dims[0] = b.dim(scale, 0);
  return b.broadcastTo(b.reshape(b.cast(scale, b.getF32Type()), dims),
                       positions);
}

/// Each window is a token.
static LogicalResult lowerConv(B &b) {
  Tensor x = b.input(0);
  auto trits = b.node()->getAttrOfType<ElementsAttr>("trits");
  ArrayRef<int64_t> kernel = *b.getInts("kernel_shape");
  int64_t channels =
      trits.getShapedType().getDimSize(1) / computeProduct(kernel);
  if (x.rank() < 3)
    return b.error() << "an operand without spatial dimensions";
  Dims operand = b.dims(x);
  b.requireEqual(operand[1], b.dim(channels),
                 "the channels are not those of the weights");
  operand[1] = b.dim(channels);
  FailureOr<Tensor> windows =
      gatherWindows(b, toCodes(b, b.reshape(x, operand)),
                    b.number(b.getInt("zero", 0), b.getI8Type()));
  if (failed(windows))
    return failure();
  Dims dims = b.dims(*windows);
  Dims shape = llvm::to_vector<6>(ArrayRef(dims).take_front(x.rank() - 1));
  bool hasRows = int64_t(dims.size()) < 2 * x.rank() - 2;
  trits = padColumns(trits, channels * (hasRows ? kernel.back() : 1),
                     windows->size(windows->rank() - 1));
  Dim tokens = b.product(shape);
  Tensor scales = b.has(1)
                      ? b.reshape(spreadScales(b, b.input(1), shape), tokens)
                      : ones(b, tokens);
  Dim columns = b.dim(trits.getShapedType().getDimSize(1));
  Tensor y =
      multiplyCodes(b, b.reshape(*windows, {tokens, columns}), trits, scales);
  shape.push_back(b.dim(trits.getShapedType().getDimSize(0)));
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
