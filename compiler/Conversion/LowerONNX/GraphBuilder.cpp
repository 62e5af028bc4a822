// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"
#include "dialect/ONNX/ONNX.h"
#include "dialect/Ternary/Ternary.h"
#include "tercet/graph.h"

#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Tensor/Utils/Utils.h"
#include "mlir/Dialect/Utils/IndexingUtils.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/AsmState.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "mlir/IR/Matchers.h"
#include "llvm/Support/SaveAndRestore.h"

using namespace mlir;
using namespace tercet;

using Values = GraphBuilder::Values;

/// Constants and shapes of at most so many elements are computed with element
/// by element.
constexpr int64_t kMaxElements = 64;

static bool isSmall(RankedTensorType type) {
  return type.hasStaticShape() && type.getNumElements() <= kMaxElements;
}

Type tercet::getStorageType(Type element) {
  MLIRContext *context = element.getContext();
  unsigned width = element.getIntOrFloatBitWidth();
  if (width <= 8)
    return IntegerType::get(context, 8);
  if (isa<IntegerType>(element))
    return IntegerType::get(context, width);
  return element;
}

Type tercet::getComputeType(Type element) {
  if (isa<FloatType>(element) && element.getIntOrFloatBitWidth() < 32)
    return Float32Type::get(element.getContext());
  return element.isInteger(1) ? element : getStorageType(element);
}

GraphBuilder::GraphBuilder(ModuleOp module)
    : ImplicitLocOpBuilder(module.getLoc(), module.getContext()),
      module(module) {}

//===----------------------------------------------------------------------===//
// The node
//===----------------------------------------------------------------------===//

int64_t GraphBuilder::version() const { return onnx::getVersion(current); }

bool GraphBuilder::has(unsigned index) const {
  return index < numInputs() && !onnx::isNone(current->getOperand(index));
}

Tensor GraphBuilder::lookup(Value original) {
  return known.lowered.lookup(original);
}

Tensor GraphBuilder::input(unsigned index) {
  return lookup(current->getOperand(index));
}

int64_t GraphBuilder::getInt(StringRef name, int64_t otherwise) const {
  return onnx::getInt(current, name, otherwise);
}
float GraphBuilder::getFloat(StringRef name, float otherwise) const {
  return onnx::getFloat(current, name, otherwise);
}
StringRef GraphBuilder::getString(StringRef name, StringRef otherwise) const {
  return onnx::getString(current, name, otherwise);
}
std::optional<ArrayRef<int64_t>> GraphBuilder::getInts(StringRef name) const {
  return onnx::getInts(current, name);
}

FailureOr<int64_t> GraphBuilder::normalizeAxis(int64_t axis, int64_t rank) {
  if (axis < -rank || axis >= rank)
    return error() << "axis " << axis << " of a tensor of rank " << rank;
  return axis < 0 ? axis + rank : axis;
}

FailureOr<int64_t> GraphBuilder::getAxis(int64_t rank, int64_t otherwise,
                                         StringRef name) {
  return normalizeAxis(getInt(name, otherwise), rank);
}

FailureOr<SmallVector<int64_t>> GraphBuilder::getAxes(int64_t rank,
                                                      unsigned index) {
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq(rank));
  if (std::optional<ArrayRef<int64_t>> attribute = getInts("axes")) {
    axes = llvm::to_vector(*attribute);
  } else if (has(index)) {
    std::optional<SmallVector<int64_t>> values = getConstantInts(input(index));
    if (!values)
      return error() << "axes that are no constant are not supported";
    axes = *values;
  }
  for (int64_t &axis : axes) {
    FailureOr<int64_t> normalized = normalizeAxis(axis, rank);
    if (failed(normalized))
      return failure();
    axis = *normalized;
  }
  llvm::sort(axes);
  if (std::adjacent_find(axes.begin(), axes.end()) != axes.end())
    return error() << "an axis is there twice";
  return axes;
}

Values GraphBuilder::getRuntimeAxes(int64_t rank, unsigned index) {
  Values axes;
  for (Value element : elements(input(index))) {
    Value axis = toIndex(element);
    axes.push_back(select(compare(Compare::LT, axis, this->index(0)),
                          add(axis, this->index(rank)), axis));
  }
  return axes;
}

FailureOr<Type> GraphBuilder::getElementType(StringRef name, Type otherwise) {
  if (!current->hasAttr(name))
    return otherwise;
  auto i = [&](unsigned width) -> Type { return getIntegerType(width); };
  auto ui = [&](unsigned width) -> Type {
    return getIntegerType(width, /*isSigned=*/false);
  };
  switch (int64_t number = getInt(name, 0)) {
  case TERCET_ELEMENT_F32:
    return Type(getF32Type());
  case TERCET_ELEMENT_UI8:
    return ui(8);
  case TERCET_ELEMENT_I8:
    return i(8);
  case TERCET_ELEMENT_UI16:
    return ui(16);
  case TERCET_ELEMENT_I16:
    return i(16);
  case TERCET_ELEMENT_I32:
    return i(32);
  case TERCET_ELEMENT_I64:
    return i(64);
  case TERCET_ELEMENT_BOOL:
    return i(1);
  case TERCET_ELEMENT_F16:
    return Type(getF16Type());
  case TERCET_ELEMENT_F64:
    return Type(getF64Type());
  case TERCET_ELEMENT_UI32:
    return ui(32);
  case TERCET_ELEMENT_UI64:
    return ui(64);
  case TERCET_ELEMENT_BF16:
    return Type(getBF16Type());
  case TERCET_ELEMENT_UI4:
    return ui(4);
  case TERCET_ELEMENT_I4:
    return i(4);
  case TERCET_ELEMENT_UI2:
    return ui(2);
  case TERCET_ELEMENT_I2:
    return i(2);
  default:
    return error() << "element type " << number << " is not supported";
  }
}

InFlightDiagnostic GraphBuilder::error() {
  return mlir::emitError(current->getLoc())
         << onnx::getOpName(current) << " (node '" << onnx::getNodeName(current)
         << "', opset " << version() << "): ";
}

LogicalResult GraphBuilder::result(Tensor tensor) {
  // The file leaves out trailing results that nobody asks for.
  if (nextResult < current->getNumResults())
    known.lowered[current->getResult(nextResult++)] = tensor;
  return success();
}

LogicalResult GraphBuilder::lowerNode(Operation *op) {
  llvm::SaveAndRestore node(current, op);
  llvm::SaveAndRestore number(nextResult, 0u);
  setLoc(op->getLoc());
  StringRef name = op->getName().getStringRef();
  if (name == onnx::kNoneOp)
    return success();
  if (name == onnx::kConstantOp)
    return result(constant(onnx::getConstant(op->getResult(0))));
  Lowering lower = findLowering(onnx::getOpName(op));
  if (!lower)
    return error() << "this operator is not supported";
  if (failed(lower(*this)))
    return failure();
  for (Value result : op->getResults())
    if (!result.use_empty() && !known.lowered.lookup(result))
      return error() << "output " << cast<OpResult>(result).getResultNumber()
                     << " is not supported";
  return success();
}

FailureOr<SmallVector<Tensor>> GraphBuilder::lowerGraph(Block &graph) {
  // onnx.yield is no terminator to MLIR: no operation of ONNX is registered.
  for (Operation &op : llvm::drop_end(graph))
    if (failed(lowerNode(&op)))
      return failure();
  return llvm::map_to_vector(graph.back().getOperands(),
                             [&](Value value) { return lookup(value); });
}

//===----------------------------------------------------------------------===//
// Constants
//===----------------------------------------------------------------------===//

/// The bytes of a constant that has any.
static ArrayRef<char> getRawBytes(ElementsAttr value) {
  if (auto resource = dyn_cast<DenseResourceElementsAttr>(value))
    return resource.getRawHandle().getBlob()->getData();
  return cast<DenseElementsAttr>(value).getRawData();
}

/// The constant in storage type.
static ElementsAttr toStorage(ElementsAttr value) {
  auto type = cast<RankedTensorType>(value.getType());
  Type element = type.getElementType();
  auto stored = type.clone(getStorageType(element));
  if (stored == type)
    return value;
  if (element.isInteger(1)) {
    SmallVector<int8_t> bytes;
    for (bool bit : cast<DenseElementsAttr>(value).getValues<bool>())
      bytes.push_back(bit);
    return DenseElementsAttr::get(stored, ArrayRef<int8_t>(bytes));
  }
  unsigned width = element.getIntOrFloatBitWidth();
  if (isa<IntegerType>(element) && width < 8) {
    SmallVector<int8_t> bytes;
    for (char byte : getRawBytes(value)) {
      auto high = uint8_t(uint8_t(byte) << (8 - width));
      bytes.push_back(element.isUnsignedInteger()
                          ? int8_t(high >> (8 - width))
                          : int8_t(int8_t(high) >> (8 - width)));
    }
    return DenseElementsAttr::get(stored, ArrayRef<int8_t>(bytes));
  }
  if (auto resource = dyn_cast<DenseResourceElementsAttr>(value))
    return DenseResourceElementsAttr::get(stored, resource.getRawHandle());
  return DenseElementsAttr::getFromRawBuffer(stored, getRawBytes(value));
}

static ElementsAttr reshapeConstant(ElementsAttr value, RankedTensorType type) {
  if (auto resource = dyn_cast<DenseResourceElementsAttr>(value))
    return DenseResourceElementsAttr::get(type, resource.getRawHandle());
  return cast<DenseElementsAttr>(value).reshape(type);
}

static ElementsAttr transposeConstant(ElementsAttr value, RankedTensorType type,
                                      ArrayRef<int64_t> permutation) {
  if (auto dense = dyn_cast<DenseElementsAttr>(value); dense && dense.isSplat())
    return dense.reshape(type);
  ArrayRef<char> bytes = getRawBytes(value);
  size_t size = type.getElementTypeBitWidth() / 8;
  std::vector<char> moved(bytes.size());
  SmallVector<int64_t> strides =
      computeStrides(cast<RankedTensorType>(value.getType()).getShape());
  SmallVector<int64_t> shape(type.getShape()), index(type.getRank());
  for (size_t to = 0; to < moved.size(); to += size) {
    int64_t from = 0;
    for (auto [i, dim] : llvm::zip(index, permutation))
      from += i * strides[dim];
    memcpy(&moved[to], &bytes[from * size], size);
    for (int64_t dim = type.getRank() - 1; dim >= 0; --dim) {
      if (++index[dim] < shape[dim])
        break;
      index[dim] = 0;
    }
  }
  if (!isa<DenseResourceElementsAttr>(value))
    return DenseElementsAttr::getFromRawBuffer(type, moved);
  return DenseResourceElementsAttr::get(
      type, "transposed",
      HeapAsmResourceBlob::allocateAndCopyWithAlign(moved, /*align=*/64,
                                                    /*dataIsMutable=*/false));
}

Value GraphBuilder::parameter(ElementsAttr value) {
  std::string name = "constant_" + std::to_string(numParameters++);
  OpBuilder atEnd = OpBuilder::atBlockEnd(module.getBody());
  ternary::ParameterOp::create(atEnd, getLoc(), name, value.getType(), value);
  return ternary::GetParameterOp::create(*this, value.getType(), name);
}

Tensor GraphBuilder::constant(ElementsAttr value) {
  Type element = value.getElementType();
  ElementsAttr stored = toStorage(value);
  auto type = cast<RankedTensorType>(stored.getType());
  Value result;
  if (isSmall(type)) {
    if (!isa<DenseElementsAttr>(stored))
      stored = DenseElementsAttr::getFromRawBuffer(type, getRawBytes(stored));
    result = arith::ConstantOp::create(*this, cast<TypedAttr>(stored));
  } else {
    result = parameter(stored);
  }
  known.constants[result] = stored;
  return {result, element};
}

Tensor GraphBuilder::scalar(double value, Type element) {
  return fromElements(store(number(value, getComputeType(element)), element),
                      {}, element);
}

Tensor GraphBuilder::integers(ArrayRef<int64_t> values, Type element) {
  Values elements;
  for (int64_t value : values)
    elements.push_back(arith::ConstantOp::create(
        *this, getIntegerAttr(getStorageType(element), value)));
  return fromElements(elements, int64_t(values.size()), element);
}

Tensor GraphBuilder::fromElements(ValueRange elements, ArrayRef<int64_t> shape,
                                  Type element) {
  auto type = RankedTensorType::get(shape, getStorageType(element));
  if (type.getNumElements() == 0)
    return {tensor::EmptyOp::create(*this, shape, type.getElementType()),
            element};
  return {tensor::FromElementsOp::create(*this, type, elements), element};
}

ElementsAttr GraphBuilder::getConstant(Tensor tensor) const {
  return known.constants.lookup(tensor.value);
}

std::optional<SmallVector<int64_t>>
GraphBuilder::getConstantInts(Tensor tensor) {
  if (!isa<IntegerType>(tensor.element))
    return std::nullopt;
  auto extend = [&](const APInt &value) {
    return tensor.isUnsigned() ? int64_t(value.getZExtValue())
                               : value.getSExtValue();
  };
  SmallVector<int64_t> values;
  if (auto dense = dyn_cast_or_null<DenseElementsAttr>(getConstant(tensor))) {
    for (const APInt &value : dense.getValues<APInt>())
      values.push_back(extend(value));
    return values;
  }
  if (!hasElements(tensor))
    return std::nullopt;
  for (Value element : elements(tensor)) {
    APInt value;
    if (!matchPattern(element, m_ConstantInt(&value)))
      return std::nullopt;
    values.push_back(extend(value));
  }
  return values;
}

std::optional<double> GraphBuilder::getConstantScalar(Tensor tensor) {
  if (!tensor.isStatic() || tensor.type().getNumElements() != 1 ||
      !hasElements(tensor))
    return std::nullopt;
  Value element = elements(tensor)[0];
  APFloat real(0.0);
  if (tensor.isFloat() && matchPattern(element, m_ConstantFloat(&real)))
    return real.convertToDouble();
  if (std::optional<SmallVector<int64_t>> ints = getConstantInts(tensor))
    return double(ints->front());
  return std::nullopt;
}

bool GraphBuilder::hasElements(Tensor tensor) const {
  if (tensor.type().hasStaticShape() && tensor.type().getNumElements() == 0)
    return true;
  return tensor.value.getDefiningOp<tensor::FromElementsOp>() ||
         (isSmall(tensor.type()) && known.constants.lookup(tensor.value));
}

Values GraphBuilder::elements(Tensor tensor) {
  auto type = tensor.type();
  if (auto op = tensor.value.getDefiningOp<tensor::FromElementsOp>())
    return Values(op.getElements());
  if (auto dense = dyn_cast_or_null<DenseElementsAttr>(getConstant(tensor)))
    return llvm::map_to_vector(
        dense.getValues<Attribute>(), [&](Attribute value) -> Value {
          return arith::ConstantOp::create(*this, cast<TypedAttr>(value));
        });
  Values elements;
  SmallVector<int64_t> strides = computeStrides(type.getShape());
  for (int64_t i = 0; i < type.getNumElements(); ++i)
    elements.push_back(
        at(tensor, llvm::map_to_vector(delinearize(i, strides),
                                       [&](int64_t j) { return index(j); })));
  return elements;
}

Dims GraphBuilder::toDims(Tensor tensor) {
  Dims result;
  for (Value element : elements(tensor))
    result.push_back(getAsOpFoldResult(toIndex(element)));
  return result;
}

Tensor GraphBuilder::fromDims(ArrayRef<Dim> dims, Type element) {
  Values elements;
  for (Dim dim : dims)
    elements.push_back(
        createOrFold<arith::IndexCastOp>(getStorageType(element), index(dim)));
  return fromElements(elements, int64_t(dims.size()), element);
}

//===----------------------------------------------------------------------===//
// Shapes
//===----------------------------------------------------------------------===//

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
  if (type.hasStaticShape() && tensor.isStatic()) {
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
  for (int64_t dim : permutation)
    to.push_back(from[dim]);
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
  return withDims(tensor::ExtractSliceOp::create(
                      *this, tensorType(sizes, tensor.element), tensor.value,
                      offsets, sizes, strides.empty() ? ones : strides),
                  sizes, tensor.element);
}

Tensor GraphBuilder::insertSlice(Tensor source, Tensor into,
                                 ArrayRef<Dim> offsets, ArrayRef<Dim> strides) {
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

//===----------------------------------------------------------------------===//
// Tensor arithmetic
//===----------------------------------------------------------------------===//

Tensor GraphBuilder::generic(ArrayRef<Tensor> operands, Tensor init,
                             ArrayRef<AffineMap> maps,
                             ArrayRef<utils::IteratorType> iterators,
                             Body body) {
  Values inputs;
  for (Tensor operand : operands)
    inputs.push_back(operand.value);
  auto op = linalg::GenericOp::create(
      *this, init.value.getType(), inputs, init.value, maps, iterators,
      [&](OpBuilder &nested, Location, ValueRange arguments) {
        InsertionGuard guard(*this);
        restoreInsertionPoint(nested.saveInsertionPoint());
        Value stored = body(arguments);
        linalg::YieldOp::create(*this, stored);
      });
  return withDims(op.getResult(0), dims(init), init.element);
}

Tensor GraphBuilder::elementwiseOfElements(ArrayRef<Tensor> operands,
                                           ArrayRef<Dim> dims, Type element,
                                           Body body) {
  SmallVector<int64_t> shape = *getConstantIntValues(dims);
  SmallVector<Values> inputs;
  for (Tensor operand : operands)
    inputs.push_back(elements(operand));
  Values results;
  SmallVector<int64_t> strides = computeStrides(shape);
  int64_t count = computeProduct(shape);
  for (int64_t i = 0; i < count; ++i) {
    SmallVector<int64_t> indices = delinearize(i, strides);
    Values arguments;
    for (auto [operand, values] : llvm::zip(operands, inputs)) {
      int64_t position = 0;
      for (auto [size, j] :
           llvm::zip(operand.type().getShape(),
                     ArrayRef(indices).take_back(operand.rank())))
        position = position * size + (size == 1 ? 0 : j);
      arguments.push_back(load(values[position], operand.element));
    }
    results.push_back(store(body(arguments), element));
  }
  return fromElements(results, shape, element);
}

FailureOr<Tensor> GraphBuilder::elementwise(ArrayRef<Tensor> operands,
                                            Type element, Body body) {
  FailureOr<Dims> shape = broadcastDims(operands);
  if (failed(shape))
    return failure();
  return elementwiseTo(*shape, operands, element, body);
}

Tensor GraphBuilder::elementwiseTo(ArrayRef<Dim> shape,
                                   ArrayRef<Tensor> operands, Type element,
                                   Body body) {
  if (isSmall(tensorType(shape, element)) &&
      llvm::all_of(operands, [&](Tensor t) { return hasElements(t); }))
    return elementwiseOfElements(operands, shape, element, body);

  // What an operand contributes: an argument of the generic, a scalar, or where
  // it may or may not be broadcast, an element that is looked up.
  unsigned rank = shape.size();
  SmallVector<Tensor> inputs;
  SmallVector<AffineMap> maps;
  for (Tensor operand : operands) {
    SmallVector<AffineExpr> exprs;
    bool isLookedUp = false;
    for (auto [i, size] : llvm::enumerate(dims(operand))) {
      unsigned position = rank - operand.rank() + i;
      Dim extent = shape[position];
      bool isBroadcast = isConstant(size, 1) && !isConstant(extent, 1);
      isLookedUp |= !isBroadcast && size != extent;
      exprs.push_back(isBroadcast ? getAffineConstantExpr(0)
                                  : getAffineDimExpr(position));
    }
    bool isScalar = operand.isStatic() && hasElements(operand) &&
                    operand.type().getNumElements() == 1;
    if (isLookedUp || isScalar)
      continue;
    inputs.push_back(operand);
    maps.push_back(AffineMap::get(rank, 0, exprs, getContext()));
  }
  maps.push_back(getMultiDimIdentityMap(rank));
  SmallVector<utils::IteratorType> iterators(rank,
                                             utils::IteratorType::parallel);
  return generic(
      inputs, empty(shape, element), maps, iterators,
      [&](ValueRange arguments) {
        Values values;
        unsigned next = 0;
        for (Tensor operand : operands) {
          Value stored;
          if (next < inputs.size() && inputs[next].value == operand.value) {
            stored = arguments[next++];
          } else if (operand.isStatic() &&
                     operand.type().getNumElements() == 1) {
            stored = elements(operand)[0];
          } else {
            Values indices;
            for (auto [i, size] : llvm::enumerate(dims(operand))) {
              Value at =
                  linalg::IndexOp::create(*this, rank - operand.rank() + i);
              indices.push_back(index(min(Dim(at), sub(size, dim(1)))));
            }
            stored = at(operand, indices);
          }
          values.push_back(load(stored, operand.element));
        }
        return store(body(values), element);
      });
}

Tensor GraphBuilder::generate(ArrayRef<Dim> shape, Type element, Body body) {
  unsigned rank = shape.size();
  SmallVector<utils::IteratorType> iterators(rank,
                                             utils::IteratorType::parallel);
  return generic({}, empty(shape, element), getMultiDimIdentityMap(rank),
                 iterators, [&](ValueRange) {
                   Values indices;
                   for (unsigned i = 0; i < rank; ++i)
                     indices.push_back(linalg::IndexOp::create(*this, i));
                   return body(indices);
                 });
}

Value GraphBuilder::at(Tensor tensor, ValueRange indices) {
  return createOrFold<tensor::ExtractOp>(tensor.value, indices);
}

Tensor GraphBuilder::reduce(Tensor operand, ArrayRef<int64_t> axes, bool keep,
                            Type element, Value identity, Body combine) {
  // Parallel dimensions come first, so that a result is finished when the
  // next one begins.
  Dims from = dims(operand), to, kept;
  SmallVector<AffineExpr> exprs(operand.rank());
  SmallVector<utils::IteratorType> iterators;
  for (auto [i, size] : llvm::enumerate(from)) {
    if (llvm::is_contained(axes, int64_t(i))) {
      kept.push_back(dim(1));
      continue;
    }
    exprs[i] = getAffineDimExpr(to.size());
    to.push_back(size);
    kept.push_back(size);
    iterators.push_back(utils::IteratorType::parallel);
  }
  for (int64_t axis : axes) {
    exprs[axis] = getAffineDimExpr(iterators.size());
    iterators.push_back(utils::IteratorType::reduction);
  }
  SmallVector<AffineMap> maps = {
      AffineMap::get(operand.rank(), 0, exprs, getContext()),
      AffineMap::getMultiDimIdentityMap(to.size(), getContext())};
  maps[1] =
      AffineMap::get(operand.rank(), 0, maps[1].getResults(), getContext());
  Tensor result = generic(
      operand, fill(to, element, identity), maps, iterators, [&](ValueRange x) {
        Value values[] = {load(x[0], operand.element), load(x[1], element)};
        return store(combine(values), element);
      });
  return keep ? reshape(result, kept) : result;
}

SmallVector<Tensor> GraphBuilder::loop(Dim count, ArrayRef<Tensor> inits,
                                       LoopBody body) {
  Values values;
  for (Tensor init : inits)
    values.push_back(init.value);
  auto wrap = [&](ValueRange carried) {
    SmallVector<Tensor> tensors;
    for (auto [value, init] : llvm::zip(carried, inits))
      tensors.push_back({value, init.element});
    return tensors;
  };
  auto loop = scf::ForOp::create(
      *this, index(0), index(count), index(1), values,
      [&](OpBuilder &nested, Location, Value iv, ValueRange carried) {
        InsertionGuard guard(*this);
        restoreInsertionPoint(nested.saveInsertionPoint());
        Values next;
        for (auto [tensor, value] : llvm::zip(body(iv, wrap(carried)), carried))
          next.push_back(tensor.value.getType() == value.getType()
                             ? tensor.value
                             : tensor::CastOp::create(*this, value.getType(),
                                                      tensor.value));
        scf::YieldOp::create(*this, next);
      });
  return wrap(loop.getResults());
}

Tensor
GraphBuilder::forEachIndex(ArrayRef<Dim> dims, Tensor init,
                           function_ref<Tensor(ValueRange, Tensor)> body) {
  Values indices;
  std::function<Tensor(Tensor)> nest = [&](Tensor carried) {
    if (indices.size() == dims.size())
      return body(indices, carried);
    return loop(dims[indices.size()], carried,
                [&](Value iv, ArrayRef<Tensor> carried) {
                  indices.push_back(iv);
                  SmallVector<Tensor> result = {nest(carried[0])};
                  indices.pop_back();
                  return result;
                })[0];
  };
  return nest(init);
}

//===----------------------------------------------------------------------===//
// Scalars
//===----------------------------------------------------------------------===//

Value GraphBuilder::number(double value, Type type) {
  TypedAttr attribute;
  if (isa<FloatType>(type))
    attribute = getFloatAttr(type, value);
  else
    attribute = getIntegerAttr(type, int64_t(value));
  return arith::ConstantOp::create(*this, attribute);
}

Value GraphBuilder::lowest(Type element) { return extreme(element, true); }
Value GraphBuilder::highest(Type element) { return extreme(element, false); }

Value GraphBuilder::extreme(Type element, bool isLowest) {
  if (auto type = dyn_cast<FloatType>(element))
    return arith::ConstantOp::create(
        *this, getFloatAttr(
                   type, APFloat::getInf(type.getFloatSemantics(), isLowest)));
  Type stored = getStorageType(element);
  unsigned width = stored.getIntOrFloatBitWidth();
  bool isUnsigned = element.isUnsignedInteger();
  APInt value = isLowest ? (isUnsigned ? APInt::getZero(width)
                                       : APInt::getSignedMinValue(width))
                         : (isUnsigned ? APInt::getMaxValue(width)
                                       : APInt::getSignedMaxValue(width));
  return arith::ConstantOp::create(*this, getIntegerAttr(stored, value));
}

Value GraphBuilder::load(Value stored, Type element) {
  if (element.isInteger(1))
    return compare(Compare::NE, stored, number(0, stored.getType()));
  if (element.isF16() || element.isBF16())
    return createOrFold<arith::ExtFOp>(getF32Type(), stored);
  return stored;
}

Value GraphBuilder::store(Value computed, Type element) {
  Type stored = getStorageType(element);
  if (element.isInteger(1))
    return createOrFold<arith::ExtUIOp>(stored, computed);
  if (element.isF16() || element.isBF16())
    return createOrFold<arith::TruncFOp>(stored, computed);
  return computed;
}

static bool isFloat(Value a) { return isa<FloatType>(a.getType()); }

Value GraphBuilder::add(Value a, Value b) {
  return isFloat(a) ? createOrFold<arith::AddFOp>(a, b)
                    : createOrFold<arith::AddIOp>(a, b);
}
Value GraphBuilder::sub(Value a, Value b) {
  return isFloat(a) ? createOrFold<arith::SubFOp>(a, b)
                    : createOrFold<arith::SubIOp>(a, b);
}
Value GraphBuilder::mul(Value a, Value b) {
  return isFloat(a) ? createOrFold<arith::MulFOp>(a, b)
                    : createOrFold<arith::MulIOp>(a, b);
}
Value GraphBuilder::div(Value a, Value b, bool isUnsigned) {
  if (isFloat(a))
    return createOrFold<arith::DivFOp>(a, b);
  return isUnsigned ? createOrFold<arith::DivUIOp>(a, b)
                    : createOrFold<arith::DivSIOp>(a, b);
}
Value GraphBuilder::max(Value a, Value b, bool isUnsigned) {
  if (isFloat(a))
    return createOrFold<arith::MaximumFOp>(a, b);
  return isUnsigned ? createOrFold<arith::MaxUIOp>(a, b)
                    : createOrFold<arith::MaxSIOp>(a, b);
}
Value GraphBuilder::min(Value a, Value b, bool isUnsigned) {
  if (isFloat(a))
    return createOrFold<arith::MinimumFOp>(a, b);
  return isUnsigned ? createOrFold<arith::MinUIOp>(a, b)
                    : createOrFold<arith::MinSIOp>(a, b);
}
Value GraphBuilder::neg(Value a) {
  return isFloat(a) ? createOrFold<arith::NegFOp>(a)
                    : sub(number(0, a.getType()), a);
}
Value GraphBuilder::abs(Value a) {
  return isFloat(a) ? createOrFold<math::AbsFOp>(a) : max(a, neg(a));
}
Value GraphBuilder::fma(Value a, Value b, Value c) {
  return isFloat(a) ? createOrFold<math::FmaOp>(a, b, c) : add(mul(a, b), c);
}
Value GraphBuilder::exp(Value a) { return math::ExpOp::create(*this, a); }
Value GraphBuilder::sigmoid(Value a) {
  Value one = number(1, a.getType());
  return div(one, add(one, exp(neg(a))));
}
Value GraphBuilder::select(Value condition, Value a, Value b) {
  return createOrFold<arith::SelectOp>(condition, a, b);
}

Value GraphBuilder::compare(Compare predicate, Value a, Value b,
                            bool isUnsigned) {
  using F = arith::CmpFPredicate;
  using I = arith::CmpIPredicate;
  static constexpr F floats[] = {F::OEQ, F::UNE, F::OLT,
                                 F::OLE, F::OGT, F::OGE};
  static constexpr I ints[] = {I::eq, I::ne, I::slt, I::sle, I::sgt, I::sge};
  static constexpr I unsigneds[] = {I::eq,  I::ne,  I::ult,
                                    I::ule, I::ugt, I::uge};
  int i = int(predicate);
  if (isFloat(a))
    return createOrFold<arith::CmpFOp>(floats[i], a, b);
  return createOrFold<arith::CmpIOp>(isUnsigned ? unsigneds[i] : ints[i], a, b);
}

Value GraphBuilder::castScalar(Value a, Type from, Type to) {
  if (from == to)
    return a;
  Type target = getComputeType(to);
  bool fromUnsigned = from.isUnsignedInteger() || from.isInteger(1);
  if (to.isInteger(1))
    return compare(Compare::NE, a, number(0, a.getType()));
  if (isa<FloatType>(from) && isa<FloatType>(to)) {
    if (a.getType() == target)
      return a;
    return target.isF64() ? createOrFold<arith::ExtFOp>(target, a)
                          : createOrFold<arith::TruncFOp>(target, a);
  }
  if (isa<FloatType>(to))
    return fromUnsigned ? createOrFold<arith::UIToFPOp>(target, a)
                        : createOrFold<arith::SIToFPOp>(target, a);
  unsigned width = to.getIntOrFloatBitWidth();
  Value result = a;
  if (isa<FloatType>(from)) {
    // Values outside an unsigned type wrap around, as in C where that is
    // defined; those outside of i64 are unspecified.
    bool isWide = width > 32 || (width == 32 && to.isUnsignedInteger());
    Type wide = isWide ? getI64Type() : getI32Type();
    result = to.isUnsignedInteger(64) ? createOrFold<arith::FPToUIOp>(wide, a)
                                      : createOrFold<arith::FPToSIOp>(wide, a);
  }
  unsigned fromWidth = result.getType().getIntOrFloatBitWidth(),
           toWidth = target.getIntOrFloatBitWidth();
  if (fromWidth > toWidth)
    result = createOrFold<arith::TruncIOp>(target, result);
  else if (fromWidth < toWidth)
    result = fromUnsigned ? createOrFold<arith::ExtUIOp>(target, result)
                          : createOrFold<arith::ExtSIOp>(target, result);
  if (width < toWidth) { // i4 and i2, kept in a byte
    Value bits = number(toWidth - width, target);
    result = createOrFold<arith::ShLIOp>(result, bits);
    result = to.isUnsignedInteger()
                 ? createOrFold<arith::ShRUIOp>(result, bits)
                 : createOrFold<arith::ShRSIOp>(result, bits);
  }
  return result;
}

Value GraphBuilder::toIndex(Value integer) {
  // An extent that went through a tensor of shapes is that extent again: equal
  // extents have to be the same value.
  if (auto cast = integer.getDefiningOp<arith::IndexCastOp>();
      cast && cast.getIn().getType().isIndex())
    return cast.getIn();
  return createOrFold<arith::IndexCastOp>(getIndexType(), integer);
}
