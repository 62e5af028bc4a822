// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/Constants.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"
#include "dialect/ONNX/ONNX.h"
#include "dialect/ONNX/OperatorSchemas.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/IndexingUtils.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/Verifier.h"
#include "llvm/Support/SaveAndRestore.h"

using namespace mlir;
using namespace tercet;

using Values = GraphBuilder::Values;

/// Constants and shapes of at most so many elements are computed with element
/// by element.
constexpr int64_t kMaxElements = 64;

static bool isSmall(RankedTensorType type) {
  return type.hasStaticShape() && type.getNumElements() <= kMaxElements &&
         llvm::none_of(type.getShape(), [](int64_t size) { return size < 0; });
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
  int64_t number = getInt(name, 0);
  if (number == 0 && otherwise)
    return otherwise;
  Type type = onnx::getElementType(getContext(), number);
  if (!type)
    return error() << "element type " << number << " is not supported";
  return type;
}

InFlightDiagnostic GraphBuilder::error() {
  return onnx::emitNodeError(current);
}

LogicalResult GraphBuilder::result(Tensor tensor) {
  // The file leaves out trailing results that nobody asks for.
  if (nextResult < current->getNumResults())
    known.lowered[current->getResult(nextResult++)] = tensor;
  return success();
}

/// Whether MLIR takes the operations after `before`. Lowerings check what
/// would make them crash; the rest comes out here, or with the If around it.
static bool isValid(Block &block, Operation *before) {
  if (!block.getParentOp())
    return true; // dominance is not known yet
  ScopedDiagnosticHandler silent(block.getParentOp()->getContext(),
                                 [](Diagnostic &) {});
  auto first = before ? std::next(before->getIterator()) : block.begin();
  return llvm::all_of(llvm::make_range(first, block.end()),
                      [](Operation &op) { return succeeded(verify(&op)); });
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
  Block *block = getInsertionBlock();
  Operation *before = getInsertionPoint() == block->begin()
                          ? nullptr
                          : &*std::prev(getInsertionPoint());
  SmallVector<RankedTensorType> types;
  for (unsigned i = 0; i < numInputs(); ++i)
    types.push_back(
        has(i) ? cast<RankedTensorType>(input(i).type().clone(input(i).element))
               : RankedTensorType());
  if (failed(onnx::verifyOperands(op, types)) || failed(lower(*this)))
    return failure();
  if (!isValid(*block, before)) {
    InFlightDiagnostic diagnostic = error();
    diagnostic << "its inputs do not fit each other or its attributes: ";
    llvm::interleaveComma(
        llvm::make_filter_range(types, [](Type t) { return bool(t); }),
        diagnostic);
    return diagnostic;
  }
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
  // Operands that do not fit come out below, as an operation that is not valid.
  auto canCompute = [&](Tensor operand) {
    if (!hasElements(operand) || operand.rank() > int64_t(shape.size()))
      return false;
    ArrayRef<Dim> extents = ArrayRef(shape).take_back(operand.rank());
    return llvm::all_of(llvm::zip(dims(operand), extents), [](auto pair) {
      auto [size, extent] = pair;
      return size == extent || isConstant(size, 1);
    });
  };
  if (isSmall(tensorType(shape, element)) && llvm::all_of(operands, canCompute))
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

static Values getValues(ArrayRef<Tensor> tensors) {
  return llvm::map_to_vector(tensors, [](Tensor t) { return t.value; });
}

/// What is carried through a loop, where it has the types of `inits`.
static SmallVector<Tensor> wrap(ValueRange carried, ArrayRef<Tensor> inits) {
  SmallVector<Tensor> tensors;
  for (auto [value, init] : llvm::zip(carried, inits))
    tensors.push_back({value, init.element});
  return tensors;
}

static Values castTo(GraphBuilder &b, ArrayRef<Tensor> tensors,
                     ArrayRef<Tensor> inits) {
  Values values;
  for (auto [tensor, init] : llvm::zip(tensors, inits))
    values.push_back(
        b.createOrFold<tensor::CastOp>(init.value.getType(), tensor.value));
  return values;
}

SmallVector<Tensor> GraphBuilder::loop(Dim count, ArrayRef<Tensor> inits,
                                       LoopBody body) {
  auto loop = scf::ForOp::create(
      *this, index(0), index(count), index(1), getValues(inits),
      [&](OpBuilder &nested, Location, Value iv, ValueRange carried) {
        InsertionGuard guard(*this);
        restoreInsertionPoint(nested.saveInsertionPoint());
        SmallVector<Tensor> next = body(iv, wrap(carried, inits));
        scf::YieldOp::create(*this, castTo(*this, next, inits));
      });
  return wrap(loop.getResults(), inits);
}

SmallVector<Tensor> GraphBuilder::loopWhile(
    ArrayRef<Tensor> inits, function_ref<Value(ArrayRef<Tensor>)> condition,
    function_ref<SmallVector<Tensor>(ArrayRef<Tensor>)> body) {
  Values start = getValues(inits);
  auto loop = scf::WhileOp::create(
      *this, ValueRange(start).getTypes(), start,
      [&](OpBuilder &nested, Location, ValueRange carried) {
        InsertionGuard guard(*this);
        restoreInsertionPoint(nested.saveInsertionPoint());
        Value goesOn = condition(wrap(carried, inits));
        scf::ConditionOp::create(*this, goesOn, carried);
      },
      [&](OpBuilder &nested, Location, ValueRange carried) {
        InsertionGuard guard(*this);
        restoreInsertionPoint(nested.saveInsertionPoint());
        SmallVector<Tensor> next = body(wrap(carried, inits));
        scf::YieldOp::create(*this, castTo(*this, next, inits));
      });
  return wrap(loop.getResults(), inits);
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
