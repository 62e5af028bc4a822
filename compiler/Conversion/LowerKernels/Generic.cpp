// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Any linalg op: what no kernel of its own exists for. Three forms:
//
// - lanes hold results that are neighbours in the last parallel dimension, each
//   computed by a chain over the reduction; a tile of several rows of vectors
//   shares what it loads (matmuls, convolutions, elementwise), or transposes
//   it;
// - where an operand's innermost dimension is reduced by one operation, lanes
//   hold partial results of it: docs/numerics.md, "Sum over 16 lanes";
// - scalars, when the body looks at indices or memory.

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "mlir/Analysis/SliceAnalysis.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace tercet;

using Values = KernelBuilder::Values;

namespace {

/// Iterations below which a loop is not worth a call of the pool.
constexpr uint64_t kMinParallelWork = 1 << 14;
/// Elements of an item of an elementwise op, along the lanes.
constexpr int64_t kItemElements = 1024;
/// Iterations up to which short rows are one item.
constexpr uint64_t kMaxItemWork = 4096;
/// Rows from which on a transposition in registers beats loads of single lanes.
constexpr int64_t kMinTransposedRows = 4;

/// How an operand is read along the dimension that the lanes are in.
enum class Access { Broadcast, Contiguous, EveryOther, Strided };

class GenericKernel {
public:
  GenericKernel(linalg::LinalgOp op, KernelBuilder &b) : op(op), b(b) {}

  void emit();

private:
  void emitTiles();
  void emitLanes(Operation *combiner);
  void emitScalars();

  /// The one operation that folds into the result, if it has a neutral element.
  Operation *findCombiner();
  bool reducesColumns();
  bool sumsNeighbours();
  bool addsIntegers() {
    return getElementTypeOrSelf(op.getDpsInits()[0].getType()).isInteger();
  }
  bool writesVectors();
  bool hasVectorBody();
  Access getAccess(OpOperand &operand, unsigned dim);
  bool involves(OpOperand &operand, unsigned dim) {
    return op.getMatchingIndexingMap(&operand).isFunctionOfDim(dim);
  }
  /// The parallel dimension whose rows share the vectors that they read.
  std::optional<unsigned> findSharingDim();
  /// The parallel dimension that an operand is contiguous in and not in the
  /// lanes, so that rows of lanes are columns of a block of it.
  std::optional<unsigned> findTransposedDim();
  bool isTransposed(OpOperand &operand, unsigned lanesDim, unsigned rowsDim);

  Value evaluate(AffineExpr expr);
  Values getIndices(OpOperand &operand);
  Value loadScalar(OpOperand &operand);
  /// Lanes from dimension `dim` on, of which `count` are there (none: all).
  Value loadVector(OpOperand &operand, unsigned dim, Value count);
  /// What `load` loads at each lane from dimension `dim` on. Lanes that are not
  /// there repeat the last one that is.
  Values loadLanes(unsigned dim, Value count, function_ref<Value()> load);
  /// The vectors of `numRows` rows, of which the operand holds the columns.
  Values loadTransposed(OpOperand &operand, unsigned lanesDim, int64_t numRows,
                        Value count);
  Value cloneBody(ArrayRef<Value> arguments, bool isVector);

  /// A loop over items, each given as the indices of `dims` with their `sizes`.
  void forEachItem(ArrayRef<unsigned> dims, ArrayRef<Value> sizes,
                   function_ref<void()> body);
  /// Nested loops over all of `dims`.
  Values nest(ArrayRef<unsigned> dims, ValueRange inits,
              function_ref<Values(ValueRange)> body);
  void tile(unsigned lanesDim, std::optional<unsigned> rowsDim, int64_t numRows,
            int64_t numVectors, Value count);

  linalg::LinalgOp op;
  KernelBuilder &b;
  SmallVector<Value> extents; // of the loops
  SmallVector<Value> ivs;     // their indices, where the code is now
  SmallVector<unsigned> parallelDims, reductionDims;
  uint64_t work = 1; // iterations; many, if not static
};

//===----------------------------------------------------------------------===//
// Analysis
//===----------------------------------------------------------------------===//

std::optional<int64_t> getConstant(Value value) {
  return getConstantIntValue(value);
}

Operation *GenericKernel::findCombiner() {
  if (reductionDims.empty())
    return nullptr;
  SmallVector<Operation *> combiners;
  if (!matchReduction(op.getRegionOutputArgs(), 0, combiners) ||
      combiners.size() != 1 || !arith::getNeutralElement(combiners[0]))
    return nullptr;
  return combiners[0];
}

/// Whether the last reduction is over the innermost dimension of the operand
/// that each iteration has an element of. Integers, which add up in any order,
/// may be windows of it.
bool GenericKernel::reducesColumns() {
  SmallVector<OpOperand *> operands = op.getDpsInputOperands();
  auto isFull = [&](OpOperand *operand) {
    return llvm::all_of(llvm::seq<unsigned>(0, op.getNumLoops()),
                        [&](unsigned dim) { return involves(*operand, dim); });
  };
  auto *found = llvm::find_if(operands, isFull);
  if (found == operands.end())
    return false;
  OpOperand *x = *found;
  AffineMap map = op.getMatchingIndexingMap(x);
  AffineExpr column = getAffineDimExpr(reductionDims.back(), op.getContext());
  return map.getNumResults() > 0 &&
         (map.getResults().back() == column || addsIntegers()) &&
         getAccess(*x, reductionDims.back()) == Access::Contiguous;
}

/// Whether lanes are better filled by results although columns are reduced:
/// integers, which add up in any order, and fewer columns than lanes.
bool GenericKernel::sumsNeighbours() {
  std::optional<int64_t> columns = getConstant(extents[reductionDims.back()]);
  if (!columns || *columns >= kLanes || !writesVectors() || !addsIntegers())
    return false;
  return llvm::all_of(op.getDpsInputOperands(), [&](OpOperand *operand) {
    return !op.payloadUsesValueFromOperand(operand) ||
           getAccess(*operand, parallelDims.back()) != Access::Strided;
  });
}

/// Whether results that are neighbours in the last parallel dimension, of which
/// there are several, are neighbours in memory.
bool GenericKernel::writesVectors() {
  return getConstant(extents[parallelDims.back()]) != 1 &&
         getAccess(*op.getDpsInitsMutable().begin(), parallelDims.back()) ==
             Access::Contiguous;
}

bool GenericKernel::hasVectorBody() {
  auto isMemory = [](Type type) {
    unsigned width = type.isIntOrFloat() ? type.getIntOrFloatBitWidth() : 0;
    return width >= 8;
  };
  for (OpOperand &operand : op->getOpOperands())
    if (!isMemory(getElementTypeOrSelf(operand.get().getType())))
      return false;
  return llvm::all_of(op.getBlock()->without_terminator(), [](Operation &op) {
    return OpTrait::hasElementwiseMappableTraits(&op) ||
           op.hasTrait<OpTrait::ConstantLike>();
  });
}

Access GenericKernel::getAccess(OpOperand &operand, unsigned dim) {
  AffineMap map = op.getMatchingIndexingMap(&operand);
  if (!map.isFunctionOfDim(dim))
    return Access::Broadcast;
  auto type = cast<MemRefType>(operand.get().getType());
  SmallVector<int64_t> strides;
  int64_t offset;
  if (failed(type.getStridesAndOffset(strides, offset)) || strides.back() != 1)
    return Access::Strided;
  for (AffineExpr expr : map.getResults().drop_back())
    if (expr.isFunctionOfDim(dim))
      return Access::Strided;
  // d or 2 d, plus what does not depend on it
  auto hasFactor = [&](int64_t factor) {
    AffineExpr rest = map.getResults().back() -
                      getAffineDimExpr(dim, map.getContext()) * factor;
    return !simplifyAffineExpr(rest, map.getNumDims(), 0).isFunctionOfDim(dim);
  };
  return hasFactor(1)   ? Access::Contiguous
         : hasFactor(2) ? Access::EveryOther
                        : Access::Strided;
}

std::optional<unsigned> GenericKernel::findSharingDim() {
  if (reductionDims.empty())
    return std::nullopt;
  unsigned lanesDim = parallelDims.back();
  for (OpOperand *operand : op.getDpsInputOperands()) {
    if (!involves(*operand, lanesDim) ||
        !op.payloadUsesValueFromOperand(operand))
      continue;
    for (unsigned dim : llvm::reverse(parallelDims))
      if (dim != lanesDim && !involves(*operand, dim) &&
          getConstant(extents[dim]) != 1)
        return dim;
  }
  return std::nullopt;
}

bool GenericKernel::isTransposed(OpOperand &operand, unsigned lanesDim,
                                 unsigned rowsDim) {
  return !op.isScalar(&operand) &&
         getAccess(operand, lanesDim) == Access::Strided &&
         getAccess(operand, rowsDim) == Access::Contiguous;
}

std::optional<unsigned> GenericKernel::findTransposedDim() {
  if (!reductionDims.empty())
    return std::nullopt;
  for (OpOperand *operand : op.getDpsInputOperands())
    for (unsigned dim : ArrayRef(parallelDims).drop_back())
      if (op.payloadUsesValueFromOperand(operand) &&
          isTransposed(*operand, parallelDims.back(), dim) &&
          getConstant(extents[dim]).value_or(kLanes) >= kMinTransposedRows)
        return dim;
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Pieces of code
//===----------------------------------------------------------------------===//

Value GenericKernel::evaluate(AffineExpr expr) {
  if (auto dim = dyn_cast<AffineDimExpr>(expr))
    return ivs[dim.getPosition()];
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return b.index(constant.getValue());
  auto binary = cast<AffineBinaryOpExpr>(expr);
  Value left = evaluate(binary.getLHS()), right = evaluate(binary.getRHS());
  assert((expr.getKind() == AffineExprKind::Add ||
          expr.getKind() == AffineExprKind::Mul) &&
         "maps of graphs are sums of multiples");
  return expr.getKind() == AffineExprKind::Add ? b.addIndex(left, right)
                                               : b.mulIndex(left, right);
}

Values GenericKernel::getIndices(OpOperand &operand) {
  Values indices;
  for (AffineExpr expr : op.getMatchingIndexingMap(&operand).getResults())
    indices.push_back(evaluate(expr));
  return indices;
}

Value GenericKernel::loadScalar(OpOperand &operand) {
  if (op.isScalar(&operand))
    return operand.get();
  return b.loadScalar(operand.get(), getIndices(operand));
}

Value GenericKernel::loadVector(OpOperand &operand, unsigned dim, Value count) {
  if (op.isScalar(&operand))
    return b.broadcast(operand.get());
  Access access = getAccess(operand, dim);
  if (access == Access::Broadcast)
    return b.broadcast(loadScalar(operand));
  if (access == Access::Contiguous)
    return count ? b.loadFirst(count, operand.get(), getIndices(operand))
                 : b.load(operand.get(), getIndices(operand));
  if (access == Access::EveryOther) {
    // The second vector begins one element early, as the element after the
    // last one need not exist.
    Values indices = getIndices(operand);
    auto loadHalf = [&](int64_t offset) {
      Values from = indices;
      from.back() = b.addIndex(from.back(), offset);
      if (!count)
        return b.load(operand.get(), from);
      Value last = b.subIndex(b.mulIndex(count, 2), b.index(1 + offset));
      return b.loadFirst(last, operand.get(), from);
    };
    SmallVector<int64_t> lanes;
    for (int64_t lane = 0; lane < kLanes; ++lane)
      lanes.push_back(2 * lane + (2 * lane >= kLanes));
    return vector::ShuffleOp::create(b, loadHalf(0), loadHalf(kLanes - 1),
                                     lanes);
  }
  return b.fromElements(
      loadLanes(dim, count, [&] { return loadScalar(operand); }));
}

Values GenericKernel::loadLanes(unsigned dim, Value count,
                                function_ref<Value()> load) {
  Values loaded;
  Value first = ivs[dim];
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    Value offset = b.index(lane);
    if (count)
      offset = b.minIndex(offset, b.subIndex(count, b.index(1)));
    ivs[dim] = b.addIndex(first, offset);
    loaded.push_back(load());
  }
  ivs[dim] = first;
  return loaded;
}

Values GenericKernel::loadTransposed(OpOperand &operand, unsigned lanesDim,
                                     int64_t numRows, Value count) {
  Values vectors = loadLanes(lanesDim, count, [&] {
    return b.load(operand.get(), getIndices(operand), numRows);
  });
  // A step moves the top bit of a vector's number to the bottom of its lanes'
  // numbers, and the top bit of those to the bottom of the vectors'.
  SmallVector<int64_t> low, high;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    low.push_back(lane / 2 + lane % 2 * kLanes);
    high.push_back(low.back() + kLanes / 2);
  }
  for (int64_t step = 1; step < kLanes; step *= 2) {
    Values next;
    for (int64_t i = 0; i < kLanes / 2; ++i)
      for (ArrayRef<int64_t> lanes : {low, high})
        next.push_back(vector::ShuffleOp::create(
            b, vectors[i], vectors[i + kLanes / 2], lanes));
    vectors = next;
  }
  return vectors;
}

Value GenericKernel::cloneBody(ArrayRef<Value> arguments, bool isVector) {
  IRMapping mapping;
  for (auto [argument, value] :
       llvm::zip(op.getBlock()->getArguments(), arguments))
    if (value)
      mapping.map(argument, value);
  for (Operation &inner : op.getBlock()->without_terminator()) {
    if (auto index = dyn_cast<linalg::IndexOp>(inner)) {
      mapping.map(index.getResult(), ivs[index.getDim()]);
      continue;
    }
    if (isVector && !inner.hasTrait<OpTrait::ConstantLike>())
      for (Value operand : inner.getOperands())
        if (Value scalar = mapping.lookupOrDefault(operand);
            !isa<VectorType>(scalar.getType()))
          mapping.map(operand, b.broadcast(scalar));
    Operation *clone = b.clone(inner, mapping);
    if (isVector && !inner.hasTrait<OpTrait::ConstantLike>())
      for (Value result : clone->getResults())
        result.setType(VectorType::get(kLanes, result.getType()));
  }
  Value result =
      mapping.lookupOrDefault(op.getBlock()->getTerminator()->getOperand(0));
  if (isVector && !isa<VectorType>(result.getType()))
    result = b.broadcast(result);
  return result;
}

void GenericKernel::forEachItem(ArrayRef<unsigned> dims, ArrayRef<Value> sizes,
                                function_ref<void()> body) {
  Value items = b.index(1);
  for (Value size : sizes)
    items = b.mulIndex(items, size);
  auto emitItem = [&](Value item) {
    for (auto [i, pair] :
         llvm::enumerate(llvm::reverse(llvm::zip(dims, sizes)))) {
      auto [dim, size] = pair;
      bool isFirst = i + 1 == dims.size();
      ivs[dim] = isFirst ? item : b.remIndex(item, size);
      if (!isFirst)
        item = b.divIndex(item, size);
    }
    body();
  };
  if (work < kMinParallelWork)
    b.loop(b.index(0), items, 1, emitItem);
  else
    b.parallel(items, emitItem);
}

Values GenericKernel::nest(ArrayRef<unsigned> dims, ValueRange inits,
                           function_ref<Values(ValueRange)> body) {
  if (dims.empty())
    return body(inits);
  return b.loop(b.index(0), extents[dims.front()], 1, inits,
                [&](Value iv, ValueRange carried) {
                  ivs[dims.front()] = iv;
                  return nest(dims.drop_front(), carried, body);
                });
}

//===----------------------------------------------------------------------===//
// Neighbouring results in lanes
//===----------------------------------------------------------------------===//

/// `numRows` by `numVectors` vectors of results from the current indices on.
/// With `count` there is one vector, of so many lanes.
void GenericKernel::tile(unsigned lanesDim, std::optional<unsigned> rowsDim,
                         int64_t numRows, int64_t numVectors, Value count) {
  Value firstRow = rowsDim ? ivs[*rowsDim] : Value(), firstLane = ivs[lanesDim];
  OpOperand &init = *op.getDpsInitsMutable().begin();
  auto moveTo = [&](int64_t row, int64_t vector) {
    if (rowsDim)
      ivs[*rowsDim] = b.addIndex(firstRow, row);
    ivs[lanesDim] = b.addIndex(firstLane, vector * kLanes);
  };
  bool readsInit = op.payloadUsesValueFromOperand(&init);
  Values inits;
  for (int64_t row = 0; row < numRows; ++row)
    for (int64_t vector = 0; vector < numVectors; ++vector) {
      moveTo(row, vector);
      if (readsInit)
        inits.push_back(loadVector(init, lanesDim, count));
    }

  Values results = nest(reductionDims, inits, [&](ValueRange carried) {
    // What several vectors of the tile read is loaded once.
    llvm::DenseMap<std::tuple<OpOperand *, int64_t, int64_t>, Value> loaded;
    if (rowsDim && reductionDims.empty() && numRows >= kMinTransposedRows)
      for (OpOperand *operand : op.getDpsInputOperands())
        if (op.payloadUsesValueFromOperand(operand) &&
            isTransposed(*operand, lanesDim, *rowsDim)) {
          moveTo(0, 0);
          Values rows = loadTransposed(*operand, lanesDim, numRows, count);
          for (int64_t row = 0; row < numRows; ++row)
            loaded[{operand, row, 0}] = rows[row];
        }
    Values results;
    for (int64_t row = 0; row < numRows; ++row)
      for (int64_t vector = 0; vector < numVectors; ++vector) {
        moveTo(row, vector);
        Values arguments;
        for (OpOperand *operand : op.getDpsInputOperands()) {
          Value value;
          if (op.payloadUsesValueFromOperand(operand)) {
            bool hasRows = rowsDim && involves(*operand, *rowsDim);
            bool hasLanes = involves(*operand, lanesDim);
            Value &entry =
                loaded[{operand, hasRows ? row : 0, hasLanes ? vector : 0}];
            if (!entry)
              entry = loadVector(*operand, lanesDim, count);
            value = entry;
          }
          arguments.push_back(value);
        }
        arguments.push_back(readsInit ? carried[row * numVectors + vector]
                                      : Value());
        results.push_back(cloneBody(arguments, /*isVector=*/true));
      }
    return results;
  });

  for (int64_t row = 0; row < numRows; ++row)
    for (int64_t vector = 0; vector < numVectors; ++vector) {
      moveTo(row, vector);
      Value result = results[row * numVectors + vector];
      if (count)
        b.storeFirst(result, count, init.get(), getIndices(init));
      else
        b.store(result, init.get(), getIndices(init));
    }
  moveTo(0, 0);
}

/// Items: tiles, those of one block of lanes after each other.
void GenericKernel::emitTiles() {
  unsigned lanesDim = parallelDims.back();
  std::optional<unsigned> rowsDim = findSharingDim();
  std::optional<unsigned> transposedDim = findTransposedDim();
  bool isReduction = !reductionDims.empty();
  int64_t numVectors = isReduction && b.options.accumulators >= 16 ? 2 : 1;
  std::optional<int64_t> lanes = getConstant(extents[lanesDim]);
  // Without rows that share them, more vectors hide the latency of the chains.
  if (isReduction && !rowsDim && lanes)
    numVectors = std::max(numVectors, b.options.accumulators / 2);
  if (lanes)
    numVectors = std::clamp<int64_t>(*lanes / kLanes, 1, numVectors);
  int64_t numRows = rowsDim ? b.options.accumulators / numVectors : 1;
  if (transposedDim) {
    rowsDim = transposedDim;
    numRows = kLanes;
  }
  if (rowsDim)
    if (std::optional<int64_t> rows = getConstant(extents[*rowsDim]))
      numRows = std::min(numRows, *rows);
  // An elementwise item is a loop over vectors.
  int64_t itemLanes = isReduction ? numVectors * kLanes : kItemElements;

  SmallVector<unsigned> dims;
  SmallVector<Value> sizes;
  for (unsigned dim : ArrayRef(parallelDims).drop_back())
    if (dim != rowsDim) {
      dims.push_back(dim);
      sizes.push_back(extents[dim]);
    }
  // Short rows are not worth an item each.
  SmallVector<unsigned> innerDims;
  uint64_t itemWork = lanes.value_or(kMaxItemWork);
  for (unsigned dim : reductionDims)
    itemWork = llvm::SaturatingMultiply<uint64_t>(
        itemWork, getConstant(extents[dim]).value_or(kMaxItemWork));
  while (!rowsDim && !dims.empty()) {
    std::optional<int64_t> extent = getConstant(extents[dims.back()]);
    if (!extent ||
        llvm::SaturatingMultiply<uint64_t>(itemWork, *extent) > kMaxItemWork)
      break;
    itemWork *= *extent;
    innerDims.insert(innerDims.begin(), dims.pop_back_val());
    sizes.pop_back();
  }
  dims.push_back(lanesDim);
  sizes.push_back(b.ceilDivIndex(extents[lanesDim], b.index(itemLanes)));
  if (rowsDim) {
    dims.push_back(*rowsDim);
    sizes.push_back(b.ceilDivIndex(extents[*rowsDim], b.index(numRows)));
  }

  auto emitItem = [&] {
    Value firstLane = b.mulIndex(ivs[lanesDim], itemLanes);
    Value endLane =
        b.minIndex(b.addIndex(firstLane, itemLanes), extents[lanesDim]);
    Value firstRow, endRow;
    if (rowsDim) {
      firstRow = b.mulIndex(ivs[*rowsDim], numRows);
      endRow = b.minIndex(b.addIndex(firstRow, numRows), extents[*rowsDim]);
    }
    auto forEachRow = [&](int64_t vectors, Value count) {
      if (!rowsDim)
        return tile(lanesDim, rowsDim, 1, vectors, count);
      std::optional<int64_t> rows = getConstant(extents[*rowsDim]);
      bool divides = rows && *rows % numRows == 0;
      auto emitRows = [&](Value row, int64_t size) {
        ivs[*rowsDim] = row;
        tile(lanesDim, rowsDim, size, vectors, count);
      };
      if (divides)
        return emitRows(firstRow, numRows);
      // The last item has fewer rows.
      Value numLeft = b.subIndex(endRow, firstRow);
      b.blockedLoop(numLeft, numRows, [&](Value row, int64_t size) {
        emitRows(b.addIndex(firstRow, row), size);
      });
    };
    // Whole blocks of vectors, single vectors, and what is left.
    int64_t block = numVectors * kLanes;
    Value numLanes = b.subIndex(endLane, firstLane);
    auto roundDown = [&](int64_t size) {
      return b.addIndex(firstLane,
                        b.mulIndex(b.divIndex(numLanes, size), size));
    };
    Value endBlocks = roundDown(block), endVectors = roundDown(kLanes);
    auto emitLoop = [&](Value begin, Value end, int64_t vectors) {
      b.loop(begin, end, vectors * kLanes, [&](Value lane) {
        ivs[lanesDim] = lane;
        forEachRow(vectors, {});
      });
    };
    if (!lanes || *lanes >= block)
      emitLoop(firstLane, endBlocks, numVectors);
    if (numVectors > 1 && (!lanes || *lanes % block >= kLanes))
      emitLoop(endBlocks, endVectors, 1);
    if (!lanes || *lanes % kLanes != 0) {
      Value count = b.subIndex(endLane, endVectors);
      b.ifThen(b.isLess(b.index(0), count), [&] {
        ivs[lanesDim] = endVectors;
        forEachRow(1, count);
      });
    }
  };
  forEachItem(dims, sizes, [&] {
    nest(innerDims, {}, [&](ValueRange) {
      emitItem();
      return Values();
    });
  });
}

//===----------------------------------------------------------------------===//
// Partial results in lanes
//===----------------------------------------------------------------------===//

/// Items: results. The lanes of a result go on over all rows of the reduction.
void GenericKernel::emitLanes(Operation *combiner) {
  OpOperand &init = *op.getDpsInitsMutable().begin();
  Type element = getElementTypeOrSelf(init.get().getType());
  Value neutral = arith::ConstantOp::create(
      b, cast<TypedAttr>(DenseElementsAttr::get(
             VectorType::get(kLanes, element),
             Attribute(*arith::getNeutralElement(combiner)))));
  unsigned lanesDim = reductionDims.back();
  SmallVector<Value> sizes;
  for (unsigned dim : parallelDims)
    sizes.push_back(extents[dim]);
  auto combine = [&](Value left, Value right) {
    OperationState state(b.getLoc(), combiner->getName());
    state.addOperands({left, right});
    state.addTypes(left.getType());
    state.addAttributes(combiner->getAttrs());
    return b.create(state)->getResult(0);
  };
  forEachItem(parallelDims, sizes, [&] {
    auto step = [&](Value lane, Value count, Value carried) {
      ivs[lanesDim] = lane;
      Values arguments;
      for (OpOperand *operand : op.getDpsInputOperands())
        arguments.push_back(op.payloadUsesValueFromOperand(operand)
                                ? loadVector(*operand, lanesDim, count)
                                : Value());
      arguments.push_back(carried);
      return cloneBody(arguments, /*isVector=*/true);
    };
    Value extent = extents[lanesDim];
    Value end = b.mulIndex(b.divIndex(extent, kLanes), kLanes);
    std::optional<int64_t> columns = getConstant(extent);
    Value lanes = nest(
        ArrayRef(reductionDims).drop_back(), neutral, [&](ValueRange carried) {
          Value lanes = b.loop(b.index(0), end, kLanes, carried,
                               [&](Value lane, ValueRange carried) {
                                 return Values{step(lane, {}, carried[0])};
                               })[0];
          if (columns && *columns % kLanes == 0)
            return Values{lanes};
          // Lanes beyond the row keep what they have.
          Value count = b.subIndex(extent, end);
          return Values{b.selectFirst(count, step(end, count, lanes), lanes)};
        })[0];
    Value result = b.foldLanes(lanes, combine);
    b.storeScalar(combine(loadScalar(init), result), init.get(),
                  getIndices(init));
  });
}

//===----------------------------------------------------------------------===//
// Scalars
//===----------------------------------------------------------------------===//

/// Items: rows of results.
void GenericKernel::emitScalars() {
  OpOperand &init = *op.getDpsInitsMutable().begin();
  auto emitResult = [&] {
    Value start =
        op.payloadUsesValueFromOperand(&init) ? loadScalar(init) : Value();
    Value result =
        nest(reductionDims, start ? ValueRange(start) : ValueRange(),
             [&](ValueRange carried) {
               Values arguments;
               for (OpOperand *operand : op.getDpsInputOperands())
                 arguments.push_back(op.payloadUsesValueFromOperand(operand)
                                         ? loadScalar(*operand)
                                         : Value());
               arguments.push_back(start ? carried[0] : Value());
               return Values{cloneBody(arguments, /*isVector=*/false)};
             })[0];
    b.storeScalar(result, init.get(), getIndices(init));
  };
  if (parallelDims.empty())
    return emitResult();
  SmallVector<Value> sizes;
  for (unsigned dim : parallelDims)
    sizes.push_back(extents[dim]);
  // The innermost dimension in blocks, so that an item is some work.
  unsigned inner = parallelDims.back();
  constexpr int64_t kBlock = 256;
  sizes.back() = b.ceilDivIndex(extents[inner], b.index(kBlock));
  forEachItem(parallelDims, sizes, [&] {
    Value first = b.mulIndex(ivs[inner], kBlock);
    Value end = b.minIndex(b.addIndex(first, kBlock), extents[inner]);
    b.loop(first, end, 1, [&](Value iv) {
      ivs[inner] = iv;
      emitResult();
    });
  });
}

void GenericKernel::emit() {
  for (auto [i, range] : llvm::enumerate(op.createLoopRanges(b, b.getLoc()))) {
    Value extent = getValueOrCreateConstantIndexOp(b, b.getLoc(), range.size);
    extents.push_back(extent);
    work = llvm::SaturatingMultiply<uint64_t>(
        work, getConstant(extent).value_or(kMinParallelWork));
    (op.getIteratorTypesArray()[i] == utils::IteratorType::parallel
         ? parallelDims
         : reductionDims)
        .push_back(i);
  }
  ivs.resize(extents.size());
  if (llvm::is_contained(
          llvm::map_range(extents, [](Value v) { return getConstant(v); }),
          std::optional<int64_t>(0)))
    work = 0;

  bool isVector = hasVectorBody();
  Operation *combiner = isVector ? findCombiner() : nullptr;
  if (combiner && reducesColumns() &&
      (parallelDims.empty() || !sumsNeighbours()))
    emitLanes(combiner);
  else if (isVector && !parallelDims.empty() && writesVectors())
    emitTiles();
  else
    emitScalars();
}

/// Parallel dimensions that all operands have after each other, in memory too,
/// as one: `op` or what replaces it. Rows of 7 pixels would fill half of the
/// lanes.
linalg::GenericOp collapseRows(linalg::GenericOp op,
                               PatternRewriter &rewriter) {
  SmallVector<AffineMap> maps = op.getIndexingMapsArray();
  auto isDense = [](Type type) {
    auto memref = dyn_cast<MemRefType>(type);
    return !memref || memref.getLayout().isIdentity();
  };
  if (op.hasIndexSemantics() || !llvm::all_of(op->getOperandTypes(), isDense) ||
      !llvm::all_of(maps,
                    [](AffineMap map) { return map.isProjectedPermutation(); }))
    return op;
  SmallVector<ReassociationIndices> groups;
  for (auto [dim, type] : llvm::enumerate(op.getIteratorTypesArray())) {
    if (!groups.empty() && type == utils::IteratorType::parallel &&
        linalg::isParallelIterator(
            op.getIteratorTypesArray()[groups.back().front()])) {
      ReassociationIndices longer = groups.back();
      longer.push_back(dim);
      if (linalg::areDimSequencesPreserved(maps, longer)) {
        groups.back() = longer;
        continue;
      }
    }
    groups.push_back({int64_t(dim)});
  }
  FailureOr<linalg::CollapseResult> collapsed =
      linalg::collapseOpIterationDims(op, groups, rewriter);
  if (failed(collapsed))
    return op;
  rewriter.eraseOp(op);
  return cast<linalg::GenericOp>(collapsed->collapsedOp);
}

struct GenericPattern : OpInterfaceRewritePattern<linalg::LinalgOp> {
  GenericPattern(MLIRContext *context, KernelOptions options)
      : OpInterfaceRewritePattern(context, /*benefit=*/0), options(options) {}

  LogicalResult matchAndRewrite(linalg::LinalgOp op,
                                PatternRewriter &rewriter) const override {
    if (!op.hasPureBufferSemantics() || op.getNumDpsInits() != 1)
      return rewriter.notifyMatchFailure(op, "not bufferised, or two results");
    auto generic = dyn_cast<linalg::GenericOp>(*op);
    if (!generic)
      generic = *linalg::generalizeNamedOp(rewriter, op);
    generic = collapseRows(generic, rewriter);
    KernelBuilder b(generic, rewriter, options);
    GenericKernel(generic, b).emit();
    rewriter.eraseOp(generic);
    return success();
  }

  KernelOptions options;
};

} // namespace

void tercet::populateGenericPatterns(RewritePatternSet &patterns,
                                     KernelOptions options) {
  patterns.add<GenericPattern>(patterns.getContext(), options);
}
