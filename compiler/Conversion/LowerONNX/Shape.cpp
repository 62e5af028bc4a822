// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operators that arrange elements and compute none, and those that tell shapes.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

#include "mlir/Dialect/Utils/IndexingUtils.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Compare = GraphBuilder::Compare;

//===----------------------------------------------------------------------===//
// Reshapes
//===----------------------------------------------------------------------===//

/// The products of extents but for those that are in both, so that they are
/// numbers more often.
static std::pair<Dim, Dim> getProducts(B &b, Dims from, Dims to) {
  for (Dim &extent : to)
    if (auto *same = llvm::find(from, extent);
        same != from.end() && isa<Value>(extent)) {
      from.erase(same);
      extent = b.dim(1);
    }
  return {b.product(from), b.product(to)};
}

static LogicalResult lowerReshape(B &b) {
  Tensor x = b.input(0), shape = b.input(1);
  bool allowsZero = b.getInt("allowzero", 0);
  Dims from = b.dims(x), to = b.toDims(shape);
  std::optional<size_t> inferred;
  for (auto [i, size] : llvm::enumerate(to)) {
    if (B::isConstant(size, -1)) {
      if (inferred)
        return b.error() << "two extents are -1";
      inferred = i;
    } else if (B::isConstant(size, 0) && !allowsZero) {
      if (i >= from.size())
        return b.error() << "extent " << i << " is that of no dimension";
      size = from[i];
    }
  }
  if (inferred) {
    Dims others = to;
    others[*inferred] = b.dim(1);
    auto [all, known] = getProducts(b, from, others);
    to[*inferred] = b.div(all, b.max(known, b.dim(1)));
  } else {
    // An extent computed at run time may be -1 or 0 as well.
    for (auto [i, size] : llvm::enumerate(to)) {
      auto value = dyn_cast<Value>(size);
      if (!value || llvm::is_contained(from, size))
        continue;
      if (i < from.size() && !allowsZero)
        size = b.select(b.compare(Compare::EQ, value, b.index(0)),
                        b.index(from[i]), value);
    }
    Dim rest = b.product(to);
    for (Dim &size : to) {
      auto value = dyn_cast<Value>(size);
      if (!value || llvm::is_contained(from, size))
        continue;
      Value isInferred = b.compare(Compare::LT, value, b.index(0));
      Dim others = b.max(b.sub(b.dim(0), rest), b.dim(1));
      size = getAsOpFoldResult(
          b.select(isInferred, b.index(b.div(b.product(from), others)), value));
    }
  }
  std::optional<int64_t> before = getConstantIntValue(b.product(from)),
                         after = getConstantIntValue(b.product(to));
  if (before && after && *before != *after)
    return b.error() << *before << " elements do not make " << *after;
  auto [left, right] = getProducts(b, from, to);
  b.requireEqual(left, right, "numbers of elements differ");
  return b.result(b.reshape(x, to));
}

static LogicalResult lowerFlatten(B &b) {
  Tensor x = b.input(0);
  int64_t axis = b.getInt("axis", 1);
  if (axis < 0)
    axis += x.rank();
  if (axis < 0 || axis > x.rank())
    return b.error() << "axis " << axis << " is not supported";
  Dims dims = b.dims(x);
  return b.result(b.reshape(x, {b.product(ArrayRef(dims).take_front(axis)),
                                b.product(ArrayRef(dims).drop_front(axis))}));
}

/// Whether input 1 holds axes that only a run tells; how many is known.
static bool hasRuntimeAxes(B &b) {
  return !b.getInts("axes") && b.has(1) && !b.getConstantInts(b.input(1));
}

/// Whether `axis` is among `axes`, as i1.
static Value isAmong(B &b, ArrayRef<Value> axes, int64_t axis) {
  Value found = b.number(0, b.getI1Type());
  for (Value other : axes)
    found = b.createOrFold<arith::OrIOp>(
        found, b.compare(Compare::EQ, other, b.index(axis)));
  return found;
}

static LogicalResult squeezeAtRunTime(B &b, Tensor x) {
  B::Values axes = b.getRuntimeAxes(x.rank(), 1);
  if (int64_t(axes.size()) > x.rank())
    return b.error() << "more axes than dimensions";
  Dims from = b.dims(x), to(x.rank() - axes.size(), b.dim(1));
  Value position = b.index(0); // of the next that is kept
  for (auto [i, size] : llvm::enumerate(from)) {
    Value isKept =
        b.compare(Compare::EQ, isAmong(b, axes, i), b.number(0, b.getI1Type()));
    for (auto [j, kept] : llvm::enumerate(to)) {
      Value isHere = b.createOrFold<arith::AndIOp>(
          isKept, b.compare(Compare::EQ, position, b.index(j)));
      kept = getAsOpFoldResult(b.select(isHere, b.index(size), b.index(kept)));
    }
    position = b.select(isKept, b.add(position, b.index(1)), position);
  }
  return b.result(b.reshape(x, to));
}

static LogicalResult lowerSqueeze(B &b) {
  Tensor x = b.input(0);
  if (hasRuntimeAxes(b))
    return squeezeAtRunTime(b, x);
  FailureOr<SmallVector<int64_t>> axes = b.getAxes(x.rank(), 1);
  if (failed(axes))
    return failure();
  bool areGiven = b.getInts("axes") || b.has(1);
  Dims kept;
  for (auto [i, size] : llvm::enumerate(b.dims(x)))
    if (!llvm::is_contained(*axes, int64_t(i)) ||
        (!areGiven && !B::isConstant(size, 1)))
      kept.push_back(size);
  return b.result(b.reshape(x, kept));
}

static LogicalResult unsqueezeAtRunTime(B &b, Tensor x) {
  int64_t rank = x.rank() + b.input(1).type().getNumElements();
  B::Values axes = b.getRuntimeAxes(rank, 1);
  Dims from = b.dims(x), to;
  Value position = b.index(0); // of the next dimension of x
  for (int64_t i = 0; i < rank; ++i) {
    Value isNew = isAmong(b, axes, i), size = b.index(1);
    for (auto [j, extent] : llvm::enumerate(from))
      size = b.select(b.compare(Compare::EQ, position, b.index(j)),
                      b.index(extent), size);
    to.push_back(getAsOpFoldResult(b.select(isNew, b.index(1), size)));
    position = b.select(isNew, position, b.add(position, b.index(1)));
  }
  return b.result(b.reshape(x, to));
}

static LogicalResult lowerUnsqueeze(B &b) {
  Tensor x = b.input(0);
  if (hasRuntimeAxes(b))
    return unsqueezeAtRunTime(b, x);
  int64_t count = 0;
  if (std::optional<ArrayRef<int64_t>> axes = b.getInts("axes"))
    count = axes->size();
  else if (b.has(1))
    count = b.input(1).type().getNumElements();
  FailureOr<SmallVector<int64_t>> axes = b.getAxes(x.rank() + count, 1);
  return failed(axes) ? failure() : b.result(b.unsqueeze(x, *axes));
}

//===----------------------------------------------------------------------===//
// Permutations and parts
//===----------------------------------------------------------------------===//

static LogicalResult lowerTranspose(B &b) {
  Tensor x = b.input(0);
  SmallVector<int64_t> permutation =
      llvm::to_vector(llvm::reverse(llvm::seq(x.rank())));
  if (std::optional<ArrayRef<int64_t>> given = b.getInts("perm"))
    permutation = llvm::to_vector(*given);
  if (int64_t(permutation.size()) != x.rank() ||
      !isPermutationVector(permutation))
    return b.error() << "perm is no permutation of the dimensions";
  return b.result(b.transpose(x, permutation));
}

static LogicalResult lowerConcat(B &b) {
  SmallVector<Tensor> operands;
  for (unsigned i = 0; i < b.numInputs(); ++i)
    operands.push_back(b.input(i));
  int64_t rank = operands[0].rank();
  FailureOr<int64_t> axis = b.getAxis(rank, 0);
  if (failed(axis))
    return failure();
  for (Tensor operand : operands) {
    if (operand.rank() != rank)
      return b.error() << "operands differ in rank";
    for (int64_t i = 0; i < rank; ++i)
      if (i != *axis)
        b.requireEqual(b.dim(operand, i), b.dim(operands[0], i),
                       "extents of operands differ");
  }
  if (rank == 1 &&
      llvm::all_of(operands, [&](Tensor t) { return b.hasElements(t); })) {
    B::Values elements;
    for (Tensor operand : operands)
      llvm::append_range(elements, b.elements(operand));
    return b.result(b.fromElements(elements, int64_t(elements.size()),
                                   operands[0].element));
  }
  return b.result(b.concat(operands, *axis));
}

/// Blocks of pixels become channels or the other way round: both are a
/// transposition of [N, b, b, C, H, W] or [N, C, b, b, H, W].
static LogicalResult moveBlocks(B &b, bool toDepth) {
  Tensor x = b.input(0);
  int64_t block = b.getInt("blocksize", 0);
  if (x.rank() != 4 || block < 1)
    return b.error() << "operand or blocksize do not fit";
  Dims dims = b.dims(x);
  Dim size = b.dim(block), area = b.dim(block * block);
  bool isCRD = b.getString("mode", "DCR") == "CRD";
  if (toDepth) {
    Dim height = b.div(dims[2], size), width = b.div(dims[3], size);
    x = b.reshape(x, {dims[0], dims[1], height, size, width, size});
    x = isCRD ? b.transpose(x, {0, 1, 3, 5, 2, 4})
              : b.transpose(x, {0, 3, 5, 1, 2, 4});
    return b.result(
        b.reshape(x, {dims[0], b.mul(dims[1], area), height, width}));
  }
  Dim depth = b.div(dims[1], area);
  if (isCRD) {
    x = b.reshape(x, {dims[0], depth, size, size, dims[2], dims[3]});
    x = b.transpose(x, {0, 1, 4, 2, 5, 3});
  } else {
    x = b.reshape(x, {dims[0], size, size, depth, dims[2], dims[3]});
    x = b.transpose(x, {0, 3, 4, 1, 5, 2});
  }
  return b.result(b.reshape(
      x, {dims[0], depth, b.mul(dims[2], size), b.mul(dims[3], size)}));
}

static LogicalResult lowerShape(B &b) {
  Tensor x = b.input(0);
  int64_t rank = x.rank();
  auto clamp = [&](int64_t i) {
    return std::clamp<int64_t>(i < 0 ? i + rank : i, 0, rank);
  };
  int64_t start = clamp(b.getInt("start", 0)),
          end = clamp(b.getInt("end", rank));
  Dims dims = b.dims(x);
  return b.result(
      b.fromDims(ArrayRef(dims).slice(start, std::max<int64_t>(end - start, 0)),
                 b.getI64Type()));
}

static LogicalResult lowerSize(B &b) {
  Tensor size = b.fromDims(b.product(b.dims(b.input(0))), b.getI64Type());
  return b.result(b.reshape(size, {}));
}

static const LoweringRow kRows[] = {
    {"Concat", lowerConcat},
    {"DepthToSpace", [](B &b) { return moveBlocks(b, false); }},
    {"Flatten", lowerFlatten},
    {"Reshape", lowerReshape},
    {"Shape", lowerShape},
    {"Size", lowerSize},
    {"SpaceToDepth", [](B &b) { return moveBlocks(b, true); }},
    {"Squeeze", lowerSqueeze},
    {"Transpose", lowerTranspose},
    {"Unsqueeze", lowerUnsqueeze},
};

ArrayRef<LoweringRow> tercet::getShapeLowerings() { return kRows; }
