// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operators that run graphs: If, Loop, Scan.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"
#include "dialect/ONNX/ONNX.h"

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Compare = GraphBuilder::Compare;
using Values = GraphBuilder::Values;

/// The graph of an attribute.
static Block *findGraph(B &b, StringRef name) {
  auto names = b.node()->getAttrOfType<ArrayAttr>(onnx::kRegionsAttr);
  if (names)
    for (auto [i, attribute] : llvm::enumerate(names.getAsRange<StringAttr>()))
      if (attribute.getValue() == name)
        return &b.node()->getRegion(i).front();
  return nullptr;
}

/// The type of both, with extents that differ dynamic; null without one.
static RankedTensorType joinTypes(RankedTensorType a, RankedTensorType b) {
  if (a.getRank() != b.getRank() || a.getElementType() != b.getElementType())
    return {};
  SmallVector<int64_t> shape;
  for (auto [left, right] : llvm::zip(a.getShape(), b.getShape()))
    shape.push_back(left == right ? left : ShapedType::kDynamic);
  return RankedTensorType::get(shape, a.getElementType());
}

static Value castTo(B &b, Value value, Type type) {
  if (value.getType() == type)
    return value;
  return tensor::CastOp::create(b, type, value);
}

//===----------------------------------------------------------------------===//
// If
//===----------------------------------------------------------------------===//

/// The branch in place of the node.
static LogicalResult takeBranch(B &b, Block &branch) {
  FailureOr<SmallVector<Tensor>> results = b.lowerGraph(branch);
  if (failed(results))
    return failure();
  for (Tensor result : *results)
    (void)b.result(result);
  return success();
}

static LogicalResult lowerIf(B &b) {
  Tensor condition = b.reshape(b.input(0), {});
  Block *branches[] = {findGraph(b, "then_branch"),
                       findGraph(b, "else_branch")};
  if (!branches[0] || !branches[1])
    return b.error() << "a branch is missing";
  if (std::optional<double> known = b.getConstantScalar(condition))
    return takeBranch(b, *branches[*known != 0 ? 0 : 1]);
  // Both branches first: only then the types of results are known.
  Value bit = b.load(b.at(condition, {}), b.getI1Type());
  GraphBuilder::Knowledge before = b.getKnowledge();
  SmallVector<Tensor> results[2];
  Region regions[2];
  for (int i : {0, 1}) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&regions[i].emplaceBlock());
    FailureOr<SmallVector<Tensor>> lowered = b.lowerGraph(*branches[i]);
    if (failed(lowered))
      return failure();
    results[i] = *lowered;
  }
  SmallVector<Type> types;
  for (auto [left, right] : llvm::zip(results[0], results[1])) {
    types.push_back(joinTypes(left.type(), right.type()));
    if (types.back())
      continue;
    if (left.element != right.element)
      return b.error() << "branches give results of different types";
    // What torch.squeeze(x, dim) is exported as: no rank fits both. A run that
    // would not take the first branch is refused.
    b.restore(std::move(before));
    b.require(bit, "the else_branch gives a tensor of another rank than the "
                   "then_branch, which is not supported");
    return takeBranch(b, *branches[0]);
  }
  auto choice = scf::IfOp::create(b, types, bit, /*withElseRegion=*/true);
  for (int i : {0, 1}) {
    Region &region = i == 0 ? choice.getThenRegion() : choice.getElseRegion();
    region.takeBody(regions[i]);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToEnd(&region.front());
    Values yielded;
    for (auto [tensor, type] : llvm::zip(results[i], types))
      yielded.push_back(castTo(b, tensor.value, type));
    scf::YieldOp::create(b, yielded);
  }
  for (auto [value, tensor] : llvm::zip(choice.getResults(), results[0]))
    (void)b.result({value, tensor.element});
  return success();
}

//===----------------------------------------------------------------------===//
// Loops
//===----------------------------------------------------------------------===//

namespace {

/// A tensor that a loop reads a slice of in each iteration.
struct Scanned {
  Tensor tensor;
  int64_t axis;
  bool isBackward;
};

/// What Loop and Scan are instances of.
///
/// The graph of a Loop takes the number of the iteration, a condition and
/// carried tensors; that of a Scan carried tensors and slices of inputs. Both
/// give carried tensors (after a condition, in a Loop) and slices of outputs.
class LoopLowering {
public:
  LoopLowering(B &b, Block &graph, Dim count, bool isScan)
      : b(b), graph(graph), count(count), isScan(isScan) {}

  LogicalResult lower();

  Value condition; // i1, of the first iteration
  SmallVector<Tensor> inits;
  SmallVector<Scanned> inputs;
  SmallVector<std::pair<int64_t, bool>> outputs; // axis, whether it is backward

private:
  FailureOr<SmallVector<Tensor>> lowerBody(Block &body);
  /// False when the types of carried tensors do not stay as they are.
  FailureOr<bool> build(Block &body);
  void finish(Region &region);
  /// Whether all slices have memory before the first iteration: their extents
  /// are known, and the count is one that is meant to be reached.
  bool fitsBuffer(Tensor slice) {
    constexpr int64_t kMaxCount = 1 << 24;
    std::optional<int64_t> known = getConstantIntValue(count);
    return slice.isStatic() && !(known && *known > kMaxCount);
  }
  Tensor append(Tensor buffer, Tensor slice, Value i,
                std::pair<int64_t, bool> output);
  Value getPosition(Value i, bool isBackward) {
    return isBackward ? b.index(b.sub(b.sub(count, b.dim(1)), Dim(i))) : i;
  }

  B &b;
  Block &graph;
  Dim count; // at most
  bool isScan;
  SmallVector<Tensor> carried;
  SmallVector<Tensor> slices; // what the body gives to outputs
  Values yielded;
};

} // namespace

/// With extents that may change from iteration to iteration.
static Tensor makeDynamic(B &b, Tensor tensor) {
  SmallVector<int64_t> shape(tensor.rank(), ShapedType::kDynamic);
  auto type = RankedTensorType::get(shape, tensor.type().getElementType());
  return {castTo(b, tensor.value, type), tensor.element};
}

/// The body's arguments are i, the condition, and `carried`.
FailureOr<SmallVector<Tensor>> LoopLowering::lowerBody(Block &body) {
  Value i = body.getArgument(0);
  Type i64 = b.getI64Type(), i1 = b.getI1Type();
  SmallVector<Tensor> arguments;
  if (!isScan) {
    Value number = b.createOrFold<arith::IndexCastOp>(i64, i);
    arguments.push_back(b.fromElements(number, {}, i64));
    arguments.push_back(
        b.fromElements(b.store(body.getArgument(1), i1), {}, i1));
  }
  for (auto [tensor, argument] :
       llvm::zip(carried, body.getArguments().drop_front(2)))
    arguments.push_back({argument, tensor.element});
  for (Scanned &input : inputs) {
    Dims dims = b.dims(input.tensor), offsets(dims.size(), b.dim(0));
    offsets[input.axis] = getPosition(i, input.isBackward);
    dims[input.axis] = b.dim(1);
    Tensor slice = b.slice(input.tensor, offsets, dims);
    dims.erase(dims.begin() + input.axis);
    arguments.push_back(b.reshape(slice, dims));
  }
  if (arguments.size() != graph.getNumArguments())
    return b.error() << "the body has another number of inputs";
  for (auto [original, argument] : llvm::zip(graph.getArguments(), arguments))
    b.bind(original, argument);
  return b.lowerGraph(graph);
}

FailureOr<bool> LoopLowering::build(Block &body) {
  Location loc = b.getLoc();
  body.addArguments({b.getIndexType(), b.getI1Type()}, {loc, loc});
  for (Tensor tensor : carried)
    body.addArgument(tensor.value.getType(), loc);
  b.setInsertionPointToStart(&body);
  FailureOr<SmallVector<Tensor>> results = lowerBody(body);
  if (failed(results))
    return failure();
  ArrayRef<Tensor> next = ArrayRef(*results).drop_front(isScan ? 0 : 1);
  if (next.size() != carried.size() + outputs.size())
    return b.error() << "the body has another number of outputs";
  Value goesOn = body.getArgument(1);
  if (!isScan)
    goesOn = b.load(b.at(b.reshape(results->front(), {}), {}), b.getI1Type());
  yielded = {b.createOrFold<arith::AddIOp>(body.getArgument(0), b.index(1)),
             goesOn};
  for (auto [before, after] : llvm::zip(carried, next)) {
    if (before.rank() != after.rank() || before.element != after.element)
      return b.error() << "carried values change rank or type";
    if (joinTypes(before.type(), after.type()) != before.type())
      return false;
    yielded.push_back(castTo(b, after.value, before.type()));
  }
  slices = llvm::to_vector(next.drop_front(carried.size()));
  for (auto [slice, output] : llvm::zip(slices, outputs)) {
    FailureOr<int64_t> axis = b.normalizeAxis(output.first, slice.rank() + 1);
    if (failed(axis))
      return failure();
    output.first = *axis;
  }
  return true;
}

/// The slices of iterations up to i, from a buffer of those before it, where
/// there is no memory for all.
Tensor LoopLowering::append(Tensor buffer, Tensor slice, Value i,
                            std::pair<int64_t, bool> output) {
  auto [axis, isBackward] = output;
  Dims before = b.dims(buffer), dims = b.dims(slice);
  dims.insert(dims.begin() + axis, b.add(Dim(i), b.dim(1)));
  Value isFirst = b.compare(Compare::EQ, i, b.index(0)),
        position = isBackward ? b.index(0) : i;
  for (int64_t d = 0; d < buffer.rank(); ++d)
    if (d != axis && before[d] != dims[d])
      b.require(b.createOrFold<arith::OrIOp>(
                    isFirst, b.compare(Compare::EQ, b.index(before[d]),
                                       b.index(dims[d]))),
                "slices of a loop differ in size");
  Tensor longer = b.generate(dims, slice.element, [&](ValueRange at) {
    B::Values inSlice(at), inBuffer(at);
    inSlice.erase(inSlice.begin() + axis);
    if (isBackward)
      inBuffer[axis] = b.max(b.sub(at[axis], b.index(1)), b.index(0));
    for (auto [index, size] : llvm::zip(inBuffer, before))
      index = b.min(index, b.index(b.sub(size, b.dim(1))));
    return b.select(b.compare(Compare::EQ, at[axis], position),
                    b.at(slice, inSlice), b.at(buffer, inBuffer));
  });
  return {castTo(b, longer.value, buffer.type()), slice.element};
}

/// Makes an scf.while of the body, whose last op is to be created.
void LoopLowering::finish(Region &region) {
  Block &body = region.front();
  Location loc = b.getLoc();
  Values start = {b.index(0), condition};
  for (Tensor tensor : carried)
    start.push_back(tensor.value);
  SmallVector<Tensor> whole;
  for (auto [slice, output] : llvm::zip(slices, outputs)) {
    auto [axis, isBackward] = output;
    Dims element, dims;
    SmallVector<int64_t> shape(slice.type().getShape());
    for (int64_t size : shape)
      element.push_back(b.dim(ShapedType::isDynamic(size) ? 1 : size));
    element.insert(element.begin() + axis, b.dim(1));
    dims = element;
    bool isAllocated = fitsBuffer(slice);
    if (isAllocated)
      dims[axis] = count;
    shape.insert(shape.begin() + axis,
                 isAllocated
                     ? getConstantIntValue(count).value_or(ShapedType::kDynamic)
                     : ShapedType::kDynamic);
    Tensor buffer = isAllocated ? b.empty(dims, slice.element)
                                : b.zeros(dims, slice.element);
    buffer.value = castTo(b, buffer.value, buffer.type().clone(shape));
    whole.push_back(buffer);
    start.push_back(buffer.value);

    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToEnd(&body);
    Tensor argument = {body.addArgument(buffer.value.getType(), loc),
                       slice.element};
    if (!isAllocated) {
      yielded.push_back(
          append(argument, slice, body.getArgument(0), output).value);
      continue;
    }
    Dims offsets(dims.size(), b.dim(0));
    offsets[axis] = getPosition(body.getArgument(0), isBackward);
    yielded.push_back(
        b.insertSlice(b.reshape(slice, element), argument, offsets).value);
  }
  Value limit = b.index(count);
  auto loop = scf::WhileOp::create(
      b, ValueRange(start).getTypes(), start,
      [&](OpBuilder &nested, Location loc, ValueRange arguments) {
        Value isWithin = arith::CmpIOp::create(
            nested, loc, arith::CmpIPredicate::slt, arguments[0], limit);
        scf::ConditionOp::create(
            nested, loc,
            arith::AndIOp::create(nested, loc, isWithin, arguments[1]),
            arguments);
      },
      nullptr);
  loop.getAfter().takeBody(region);
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToEnd(&loop.getAfter().front());
    scf::YieldOp::create(b, yielded);
  }
  ValueRange results = loop.getResults().drop_front(2);
  for (Tensor tensor : carried) {
    (void)b.result({results.front(), tensor.element});
    results = results.drop_front();
  }
  for (auto [slice, tensor, output, value] :
       llvm::zip(slices, whole, outputs, results)) {
    Tensor all = {value, tensor.element};
    if (fitsBuffer(slice))
      all = b.withDims(value, b.dims(tensor), tensor.element);
    // A loop that ended early has fewer slices.
    Dims dims = b.dims(all);
    dims[output.first] = isScan ? count : loop.getResult(0);
    (void)b.result(isScan && fitsBuffer(slice)
                       ? all
                       : b.slice(all, Dims(dims.size(), b.dim(0)), dims));
  }
}

LogicalResult LoopLowering::lower() {
  // With the types that the initial values have; where they do not stay so,
  // again with all extents dynamic.
  for (bool dynamic : {false, true}) {
    carried.clear();
    for (Tensor init : inits)
      carried.push_back(dynamic ? makeDynamic(b, init) : init);
    B::Knowledge before = b.getKnowledge();
    Region region;
    FailureOr<bool> isStable = false;
    {
      OpBuilder::InsertionGuard guard(b);
      isStable = build(region.emplaceBlock());
    }
    if (failed(isStable))
      return failure();
    if (*isStable) {
      finish(region);
      return success();
    }
    b.restore(std::move(before));
  }
  return b.error() << "carried values change type";
}

static LogicalResult lowerLoop(B &b) {
  Block *graph = findGraph(b, "body");
  if (!graph)
    return b.error() << "the body is missing";
  bool hasCount = b.has(0);
  Dim count = hasCount ? b.toDims(b.reshape(b.input(0), {}))[0]
                       : b.dim(std::numeric_limits<int64_t>::max());
  LoopLowering loop(b, *graph, b.max(count, b.dim(0)), /*isScan=*/false);
  loop.condition =
      b.has(1) ? b.load(b.at(b.reshape(b.input(1), {}), {}), b.getI1Type())
               : b.number(1, b.getI1Type());
  for (unsigned i = 2; i < b.numInputs(); ++i)
    loop.inits.push_back(b.input(i));
  unsigned numSlices = graph->back().getNumOperands() - 1 - loop.inits.size();
  loop.outputs.assign(numSlices, {0, false});
  return loop.lower();
}

/// Attribute `name` for number i, or 0.
static int64_t getEntry(B &b, StringRef name, unsigned i) {
  std::optional<ArrayRef<int64_t>> values = b.getInts(name);
  return values && i < values->size() ? (*values)[i] : 0;
}

static LogicalResult lowerScan(B &b) {
  Block *graph = findGraph(b, "body");
  if (!graph)
    return b.error() << "the body is missing";
  if (b.version() < 9)
    return b.error() << "Scan with batches is not supported";
  unsigned numInputs = b.getInt("num_scan_inputs", 0);
  if (numInputs == 0 || numInputs > b.numInputs())
    return b.error() << "num_scan_inputs does not fit";
  unsigned numCarried = b.numInputs() - numInputs;
  SmallVector<Scanned> inputs;
  for (unsigned i = 0; i < numInputs; ++i) {
    Tensor tensor = b.input(numCarried + i);
    FailureOr<int64_t> axis =
        b.normalizeAxis(getEntry(b, "scan_input_axes", i), tensor.rank());
    if (failed(axis))
      return failure();
    inputs.push_back(
        {tensor, *axis, getEntry(b, "scan_input_directions", i) != 0});
  }
  Dim count = b.dim(inputs[0].tensor, inputs[0].axis);
  LoopLowering loop(b, *graph, count, /*isScan=*/true);
  loop.condition = b.number(1, b.getI1Type());
  loop.inputs = inputs;
  for (unsigned i = 0; i < numCarried; ++i)
    loop.inits.push_back(b.input(i));
  unsigned numOutputs = graph->back().getNumOperands() - numCarried;
  for (unsigned i = 0; i < numOutputs; ++i) {
    loop.outputs.push_back({getEntry(b, "scan_output_axes", i),
                            getEntry(b, "scan_output_directions", i) != 0});
  }
  return loop.lower();
}

/// Of a tensor, or of nothing: optionals themselves are not supported.
static LogicalResult lowerOptionalHasElement(B &b) {
  return b.result(b.scalar(b.has(0), b.getI1Type()));
}

static LogicalResult lowerOptionalGetElement(B &b) {
  return b.result(b.input(0));
}

static const LoweringRow kRows[] = {
    {"If", lowerIf},
    {"Loop", lowerLoop},
    {"OptionalGetElement", lowerOptionalGetElement},
    {"OptionalHasElement", lowerOptionalHasElement},
    {"Scan", lowerScan},
};

ArrayRef<LoweringRow> tercet::getControlLowerings() { return kRows; }
