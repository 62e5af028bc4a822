// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Extents, and what moves elements without computing with them.

#include "compiler/Conversion/LowerONNX/Constants.h"
#include "compiler/Conversion/LowerONNX/GraphBuilder.h"

#include "dialect/ONNX/ONNX.h"

#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace tercet;

Dims GraphBuilder::dims(Tensor tensor) {
  auto [entry, isNew] = known.dims.try_emplace(tensor.value);
  if (!isNew)
    return entry->second;
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPointAfterValue(tensor.value);
  Dims result;
  for (auto [i, size] : llvm::enumerate(tensor.type().getShape()))
    result.push_back(
        ShapedType::isDynamic(size)
            ? Dim(tensor::DimOp::create(*this, tensor.value, i).getResult())
            : dim(size));
  return known.dims[tensor.value] = result;
}

Tensor GraphBuilder::withDims(Value value, ArrayRef<Dim> dims, Type element) {
  Dims merged(dims);
  for (auto [i, size] :
       llvm::enumerate(cast<RankedTensorType>(value.getType()).getShape()))
    if (!ShapedType::isDynamic(size))
      merged[i] = dim(size);
  known.dims[value] = merged;
  return {value, element};
}

Value GraphBuilder::index(Dim dim) {
  return getValueOrCreateConstantIndexOp(*this, getLoc(), dim);
}
Value GraphBuilder::index(int64_t value) {
  return arith::ConstantIndexOp::create(*this, value);
}

Dim GraphBuilder::fold(function_ref<Value(Value, Value)> build, Dim a, Dim b) {
  return getAsOpFoldResult(build(index(a), index(b)));
}
Dim GraphBuilder::add(Dim a, Dim b) {
  return fold(
      [&](Value a, Value b) { return createOrFold<arith::AddIOp>(a, b); }, a,
      b);
}
Dim GraphBuilder::sub(Dim a, Dim b) {
  return fold(
      [&](Value a, Value b) { return createOrFold<arith::SubIOp>(a, b); }, a,
      b);
}
Dim GraphBuilder::mul(Dim a, Dim b) {
  return fold(
      [&](Value a, Value b) { return createOrFold<arith::MulIOp>(a, b); }, a,
      b);
}
Dim GraphBuilder::div(Dim a, Dim b) {
  return fold(
      [&](Value a, Value b) { return createOrFold<arith::DivUIOp>(a, b); }, a,
      b);
}
Dim GraphBuilder::ceilDiv(Dim a, Dim b) {
  return div(add(a, sub(b, dim(1))), b);
}
Dim GraphBuilder::min(Dim a, Dim b) {
  return fold(
      [&](Value a, Value b) { return createOrFold<arith::MinSIOp>(a, b); }, a,
      b);
}
Dim GraphBuilder::max(Dim a, Dim b) {
  return fold(
      [&](Value a, Value b) { return createOrFold<arith::MaxSIOp>(a, b); }, a,
      b);
}
Dim GraphBuilder::product(ArrayRef<Dim> dims) {
  Dim result = dim(1);
  for (Dim factor : dims)
    result = mul(result, factor);
  return result;
}

void GraphBuilder::require(Value condition, StringRef message) {
  APInt value;
  if (matchPattern(condition, m_ConstantInt(&value)) && !value.isZero())
    return;
  cf::AssertOp::create(*this, condition,
                       (onnx::getOpName(current) + " (node '" +
                        onnx::getNodeName(current) + "'): " + message)
                           .str());
}

void GraphBuilder::requireEqual(Dim a, Dim b, StringRef message) {
  if (a != b)
    require(compare(Compare::EQ, index(a), index(b)), message);
}

RankedTensorType GraphBuilder::tensorType(ArrayRef<Dim> dims, Type element) {
  SmallVector<int64_t> shape;
  for (Dim dim : dims)
    shape.push_back(getConstantIntValue(dim).value_or(ShapedType::kDynamic));
  return RankedTensorType::get(shape, getStorageType(element));
}

Tensor GraphBuilder::empty(ArrayRef<Dim> dims, Type element) {
  return withDims(tensor::EmptyOp::create(*this, dims, getStorageType(element)),
                  dims, element);
}

Tensor GraphBuilder::fill(ArrayRef<Dim> dims, Type element, Value scalar) {
  Tensor init = empty(dims, element);
  return withDims(
      linalg::FillOp::create(*this, scalar, init.value).getResult(0), dims,
      element);
}

Tensor GraphBuilder::zeros(ArrayRef<Dim> dims, Type element) {
  return fill(dims, element, number(0, getStorageType(element)));
}

Tensor GraphBuilder::reshape(Tensor tensor, ArrayRef<Dim> newDims) {
  auto type = tensorType(newDims, tensor.element);
  if (this->dims(tensor) == Dims(newDims))
    return tensor;
  if (type.hasStaticShape() && tensor.isStatic() &&
      type.getNumElements() == tensor.type().getNumElements()) {
    if (ElementsAttr value = getConstant(tensor))
      return {constant(reshapeConstant(value, type)).value, tensor.element};
    if (hasElements(tensor))
      return fromElements(elements(tensor), type.getShape(), tensor.element);
  }
  // Through one dimension, which always is a collapse and an expansion.
  auto all = [](int64_t rank) {
    SmallVector<ReassociationIndices> groups;
    if (rank > 0)
      groups.push_back(llvm::to_vector<2>(llvm::seq(rank)));
    return groups;
  };
  Value flat = tensor.value;
  if (tensor.rank() != 1) {
    if (type.getRank() == 0) {
      if (!tensor.isStatic())
        flat = tensor::CastOp::create(
            *this,
            RankedTensorType::get(SmallVector<int64_t>(tensor.rank(), 1),
                                  type.getElementType()),
            flat);
      flat = tensor::CollapseShapeOp::create(*this, type, flat,
                                             ArrayRef<ReassociationIndices>());
      return withDims(flat, {}, tensor.element);
    }
    if (tensor.rank() == 0)
      flat = tensor::ExpandShapeOp::create(
          *this, RankedTensorType::get({1}, type.getElementType()), flat,
          ArrayRef<ReassociationIndices>());
    else
      flat = tensor::CollapseShapeOp::create(*this, flat, all(tensor.rank()));
  } else if (type.getRank() == 0) {
    return withDims(
        tensor::CollapseShapeOp::create(
            *this, type,
            tensor.isStatic()
                ? flat
                : tensor::CastOp::create(
                      *this, RankedTensorType::get({1}, type.getElementType()),
                      flat)
                      .getResult(),
            ArrayRef<ReassociationIndices>()),
        {}, tensor.element);
  }
  int64_t size =
      type.hasStaticShape() ? type.getNumElements() : ShapedType::kDynamic;
  auto flatType = RankedTensorType::get(size, type.getElementType());
  if (flat.getType() != flatType)
    flat = tensor::CastOp::create(*this, flatType, flat);
  if (type.getRank() != 1)
    flat = tensor::ExpandShapeOp::create(*this, type, flat, all(type.getRank()),
                                         newDims);
  return withDims(flat, newDims, tensor.element);
}

Tensor GraphBuilder::transpose(Tensor tensor, ArrayRef<int64_t> permutation) {
  if (llvm::equal(permutation, llvm::seq(tensor.rank())))
    return tensor;
  Dims from = dims(tensor), to;
  SmallVector<int64_t> longer; // than 1, which are what moves
  for (int64_t dim : permutation) {
    to.push_back(from[dim]);
    if (!isConstant(from[dim], 1))
      longer.push_back(dim);
  }
  if (llvm::is_sorted(longer))
    return reshape(tensor, to);
  if (ElementsAttr value = getConstant(tensor))
    return {constant(transposeConstant(value, tensorType(to, tensor.element),
                                       permutation))
                .value,
            tensor.element};
  Tensor init = empty(to, tensor.element);
  return withDims(
      linalg::TransposeOp::create(*this, tensor.value, init.value, permutation)
          ->getResult(0),
      to, tensor.element);
}

Tensor GraphBuilder::slice(Tensor tensor, ArrayRef<Dim> offsets,
                           ArrayRef<Dim> sizes, ArrayRef<Dim> strides) {
  auto isEmpty = [](Dim size) { return isConstant(size, 0); };
  if (llvm::any_of(sizes, isEmpty) || llvm::any_of(dims(tensor), isEmpty))
    return empty(sizes, tensor.element);
  Dims ones(tensor.rank(), dim(1));
  if (strides.empty())
    strides = ones;
  RankedTensorType type = tensorType(sizes, tensor.element);
  // Rows of weights stay weights.
  if (ElementsAttr value = getConstant(tensor);
      value && type.hasStaticShape() && strides == ArrayRef(ones) &&
      ArrayRef(dims(tensor)).drop_front() == sizes.drop_front())
    if (std::optional<int64_t> first = getConstantIntValue(offsets.front()))
      return {constant(sliceRows(value, type, *first)).value, tensor.element};
  return withDims(tensor::ExtractSliceOp::create(*this, type, tensor.value,
                                                 offsets, sizes, strides),
                  sizes, tensor.element);
}

Tensor GraphBuilder::insertSlice(Tensor source, Tensor into,
                                 ArrayRef<Dim> offsets, ArrayRef<Dim> strides) {
  if (llvm::is_contained(source.type().getShape(), 0))
    return into; // MLIR takes no empty slice behind the last element
  Dims ones(into.rank(), dim(1));
  return withDims(tensor::InsertSliceOp::create(
                      *this, source.value, into.value, offsets, dims(source),
                      strides.empty() ? ones : Dims(strides)),
                  dims(into), into.element);
}

Tensor GraphBuilder::unsqueeze(Tensor tensor, ArrayRef<int64_t> axes) {
  Dims shape = dims(tensor);
  for (int64_t axis : axes) // ascending
    shape.insert(shape.begin() + axis, dim(1));
  return reshape(tensor, shape);
}

Tensor GraphBuilder::concat(ArrayRef<Tensor> tensors, int64_t axis) {
  Dims shape = dims(tensors[0]);
  shape[axis] = dim(0);
  for (Tensor tensor : tensors)
    shape[axis] = add(shape[axis], dim(tensor, axis));
  Tensor result = empty(shape, tensors[0].element);
  Dims offsets(shape.size(), dim(0));
  for (Tensor tensor : tensors) {
    result = insertSlice(tensor, result, offsets);
    offsets[axis] = add(offsets[axis], dim(tensor, axis));
  }
  return result;
}

Tensor GraphBuilder::pad(Tensor tensor, ArrayRef<Dim> before,
                         ArrayRef<Dim> after, Value scalar) {
  auto isZero = [](Dim dim) { return isConstant(dim, 0); };
  if (llvm::all_of(before, isZero) && llvm::all_of(after, isZero))
    return tensor;
  Dims shape = dims(tensor);
  for (auto [size, low, high] : llvm::zip(shape, before, after))
    size = add(add(size, low), high);
  return insertSlice(tensor, fill(shape, tensor.element, scalar), before);
}

FailureOr<Dims> GraphBuilder::broadcastDims(ArrayRef<Tensor> tensors) {
  int64_t rank = 0;
  for (Tensor tensor : tensors)
    rank = std::max(rank, tensor.rank());
  Dims result(rank, dim(1));
  for (Tensor tensor : tensors)
    for (auto [i, size] : llvm::enumerate(dims(tensor))) {
      Dim &extent = result[rank - tensor.rank() + i];
      if (size == extent || isConstant(size, 1))
        continue;
      if (isConstant(extent, 1)) {
        extent = size;
        continue;
      }
      std::optional<int64_t> a = getConstantIntValue(extent),
                             b = getConstantIntValue(size);
      if (a && b)
        return error() << "shapes do not broadcast: " << *a << " and " << *b;
      Value left = index(extent), right = index(size), one = index(1);
      Value leftIsOne = compare(Compare::EQ, left, one);
      require(createOrFold<arith::OrIOp>(
                  createOrFold<arith::OrIOp>(leftIsOne,
                                             compare(Compare::EQ, right, one)),
                  compare(Compare::EQ, left, right)),
              "shapes do not broadcast");
      if (b)
        extent = size;
      else if (!a)
        extent = getAsOpFoldResult(select(leftIsOne, right, left));
    }
  return result;
}

Tensor GraphBuilder::broadcastTo(Tensor tensor, ArrayRef<Dim> shape) {
  if (dims(tensor) == Dims(shape))
    return tensor;
  return elementwiseTo(shape, tensor, tensor.element,
                       [](ValueRange x) { return x[0]; });
}

Tensor GraphBuilder::cast(Tensor tensor, Type element) {
  if (tensor.element == element)
    return tensor;
  return map(tensor, element, [&](ValueRange x) {
    return castScalar(x[0], tensor.element, element);
  });
}
