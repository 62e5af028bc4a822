// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The ternary GEMV and GEMM. One item is a tile of rows, or one of the strips
// of 16 rows that are left beyond the last tile; all tokens. 16 rows are in the
// lanes of a 64-byte vector whose bytes several planes share: groups of rows in
// a tile, of columns in a strip (docs/packings.md). Sums are exact in integers
// over all of K, or over a group of columns with scales of its own: then they
// become one fma of each row's chain. Everything that a tuner may change comes
// from the layout on the op.

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <numeric>

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

using Values = KernelBuilder::Values;

namespace {

/// Columns of a step of the dot product.
constexpr int64_t kStep = 4;

/// Blocks of tokens from which on it pays to unpack t5 beforehand (measured on
/// Zen 4: from 25 tokens on).
constexpr int64_t kMinExpandedBlocks = 8;

class PackedMatmulKernel {
public:
  PackedMatmulKernel(PackedMatmulOp op, KernelBuilder &b)
      : op(op), b(b), layout(op.getLayout()), lanes(layout.getLanes()),
        numPlanes(layout.getNumPlanes()), numColumns(getNumColumns(op.getQ())) {
  }

  void emit();

private:
  void emitItem(Value address, Value firstRowGroup, bool isStrip);
  void emitBlock(Value token, int64_t count);
  void emitParts(ArrayRef<int64_t> parts, int64_t unroll);
  void emitGroups(ArrayRef<int64_t> parts, int64_t unroll);
  Values sumGroup(Value firstCell, int64_t skipped, int64_t columns,
                  ArrayRef<int64_t> parts, int64_t unroll);
  Values sumColumns(Value firstCell, int64_t columns, ArrayRef<int64_t> parts,
                    int64_t unroll, Values sums);
  Values sumSomePlanes(Value cellIndex, int64_t firstPlane, int64_t endPlane,
                       ArrayRef<int64_t> parts);
  Values sumCells(Value firstCell, int64_t columns, ArrayRef<int64_t> parts,
                  int64_t unroll, Values sums);
  void emitCell(Value index, ArrayRef<int64_t> parts, int64_t firstPlane,
                int64_t endPlane, MutableArrayRef<Value> sums);
  void expandTile();
  Value getExpandedIndex(Value index, int64_t half, int64_t part);
  Values loadFields(Value index, int64_t part);
  Values loadExpanded(Value index, int64_t part);
  Values loadPlanes(Value index, int64_t part);
  void undoInPlace(MutableArrayRef<Value> planeSums);
  Values addPairs(ValueRange sums, ValueRange pairs);
  /// A sum for each of `parts`, plane and token, in this order.
  Values zeros(ArrayRef<int64_t> parts, VectorType type) {
    return Values(parts.size() * numPlanes * numTokens,
                  arith::ConstantOp::create(b, b.getZeroAttr(type)));
  }
  /// Whether plane 3 is left with the fields of the planes below it, which have
  /// the same q: their sums are subtracted at the end, and one AND is saved.
  /// Such codes are as large as 170, too much for 16 bits.
  bool sharesFields() const {
    return layout.getInPlace() && !isStrip && !b.options.dotSaturates;
  }
  using SumEmitter = llvm::function_ref<void(int64_t part, int64_t rowGroup,
                                             int64_t token, Value exact)>;
  void forEachSum(ValueRange planeSums, ArrayRef<int64_t> parts, Value group,
                  SumEmitter emit);
  void emitResult(int64_t part, int64_t rowGroup, int64_t token, Value exact);
  void store(int64_t part, int64_t rowGroup, int64_t token, Value result);

  VectorType bytes() { return VectorType::get(kStep * lanes, b.getI8Type()); }
  VectorType pairs() { return VectorType::get(2 * lanes, b.getI16Type()); }
  VectorType ints() { return VectorType::get(lanes, b.getI32Type()); }
  VectorType floats() { return VectorType::get(lanes, b.getF32Type()); }
  Value splat(Value scalar, VectorType type) {
    return vector::BroadcastOp::create(b, type, scalar);
  }

  /// q[token, column .. column + 3] in every lane.
  Value broadcastQ(Value token, Value column) {
    Value four =
        vector::LoadOp::create(b, VectorType::get(kStep, b.getI8Type()),
                               op.getQ(), ValueRange{token, column});
    Value word = vector::ExtractOp::create(
        b, b.bitcast(VectorType::get(1, b.getI32Type()), four), 0);
    return b.bitcast(bytes(), splat(word, ints()));
  }

  PackedMatmulOp op;
  KernelBuilder &b;
  LayoutAttr layout;
  int64_t lanes, numPlanes, numColumns;

  // The rows of an item.
  Value address, firstRowGroup;
  bool isStrip;
  Cell cell;
  Value expanded; ///< what `expandTile` wrote, if anything
  // The tokens of a block.
  Value firstToken;
  int64_t numTokens;
};

} // namespace

void PackedMatmulKernel::emit() {
  int64_t numRows = getNumColumns(op.getOuts());
  int64_t numTiles = numRows / layout.getTileRows();
  int64_t numStrips = numRows % layout.getTileRows() / kRowGroup;
  int64_t tileBytes = layout.getTileBytes(numColumns);
  auto emitTile = [&](Value tile) {
    emitItem(b.mulIndex(tile, tileBytes), b.mulIndex(tile, numPlanes),
             /*isStrip=*/false);
  };
  auto emitStrip = [&](Value item) {
    Value strip = b.subIndex(item, b.index(numTiles));
    emitItem(b.addIndex(b.mulIndex(strip, layout.getStripBytes(numColumns)),
                        numTiles * tileBytes),
             b.addIndex(strip, numTiles * numPlanes), /*isStrip=*/true);
  };
  b.parallel(b.index(numTiles + numStrips), [&](Value item) {
    if (numStrips == 0)
      return emitTile(item);
    if (numTiles == 0)
      return emitStrip(item);
    Value isTile = arith::CmpIOp::create(b, arith::CmpIPredicate::ult, item,
                                         b.index(numTiles));
    auto choice = scf::IfOp::create(b, isTile, /*withElseRegion=*/true);
    OpBuilder::InsertionGuard insertion(b);
    b.setInsertionPointToStart(choice.thenBlock());
    emitTile(item);
    b.setInsertionPointToStart(choice.elseBlock());
    emitStrip(item);
  });
}

void PackedMatmulKernel::emitItem(Value itemAddress, Value itemRowGroup,
                                  bool itemIsStrip) {
  address = itemAddress;
  firstRowGroup = itemRowGroup;
  isStrip = itemIsStrip;
  cell = isStrip ? layout.getStripCell() : layout.getCell();
  // The rows are in the cache for every block of tokens but the first.
  Value numTokens = b.dim(op.getQ(), 0);
  auto emitBlocks = [&] {
    b.blockedLoop(numTokens, layout.getTokens(),
                  [&](Value token, int64_t count) { emitBlock(token, count); });
  };
  if (isStrip || layout.getPacking() != Packing::T5 || !layout.getInPlace())
    return emitBlocks();
  Value hasMany =
      arith::CmpIOp::create(b, arith::CmpIPredicate::ugt, numTokens,
                            b.index(kMinExpandedBlocks * layout.getTokens()));
  auto choice = scf::IfOp::create(b, hasMany, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard insertion(b);
  b.setInsertionPointToStart(choice.thenBlock());
  expandTile();
  emitBlocks();
  expanded = {};
  b.setInsertionPointToStart(choice.elseBlock());
  emitBlocks();
}

/// Unpacking t5 takes as long as the dot products of a few tokens. Many blocks
/// of tokens share it: the worker's scratch gets two vectors a cell, the fields
/// of the planes 0..3 and the codes of plane 4, as floats.
void PackedMatmulKernel::expandTile() {
  int64_t numCells = llvm::divideCeil(numColumns, cell.columns);
  expanded = b.workerScratch(numCells * 2 * kRowGroup);
  b.loop(b.index(0), b.index(numCells), 1, [&](Value index) {
    for (int64_t part = 0; part < kRowGroup / lanes; ++part) {
      for (auto [half, vector] : llvm::enumerate(loadFields(index, part)))
        vector::StoreOp::create(
            b, b.bitcast(floats(), vector), expanded,
            ValueRange{getExpandedIndex(index, half, part)});
    }
  });
}

Value PackedMatmulKernel::getExpandedIndex(Value index, int64_t half,
                                           int64_t part) {
  return b.addIndex(b.mulIndex(index, 2 * kRowGroup),
                    half * kRowGroup + part * lanes);
}

/// The fields of the planes 0..3 of a cell, and the codes of plane 4 if there
/// is one.
Values PackedMatmulKernel::loadFields(Value index, int64_t part) {
  Value cellAddress = b.addIndex(address, b.mulIndex(index, cell.bytes));
  Value packed = b.loadBytes(bytes(), op.getWeights(),
                             b.addIndex(cellAddress, part * kStep * lanes));
  if (layout.getPacking() == Packing::T5)
    return llvm::to_vector_of<Value>(
        UnpackT5Op::create(b, packed)->getResults());
  return {packed};
}

/// The same from what `expandTile` wrote.
Values PackedMatmulKernel::loadExpanded(Value index, int64_t part) {
  Values fields;
  for (int64_t half = 0; half < 2; ++half)
    fields.push_back(b.bitcast(
        bytes(), vector::LoadOp::create(b, floats(), expanded,
                                        getExpandedIndex(index, half, part))));
  return fields;
}

/// The codes of every plane of a cell.
Values PackedMatmulKernel::loadPlanes(Value index, int64_t part) {
  Values fields =
      expanded ? loadExpanded(index, part) : loadFields(index, part);
  Values planes;
  for (int64_t plane = 0; plane < 4; ++plane)
    planes.push_back(
        plane == 3 && sharesFields()
            ? fields[0]
            : UnpackOp::create(b, fields[0], plane, layout.getInPlace())
                  .getResult());
  llvm::append_range(planes, llvm::drop_begin(fields));
  return planes;
}

/// A GEMV takes whole 64-byte vectors and several of them at a time, if there
/// are registers for that. A GEMM has none to spare: one part of `lanes` rows
/// after another.
void PackedMatmulKernel::emitBlock(Value token, int64_t count) {
  int64_t numParts = kRowGroup / lanes;
  firstToken = token;
  numTokens = count;
  int64_t unroll = count == 1 ? layout.getUnroll() : 1;
  int64_t maxParts = count > 1           ? 1
                     : layout.getParts() ? layout.getParts()
                                         : numParts;
  for (int64_t first = 0; first < numParts; first += maxParts)
    emitParts(llvm::to_vector(llvm::seq<int64_t>(
                  first, std::min(first + maxParts, numParts))),
              unroll);
}

/// All of K for some parts and tokens.
void PackedMatmulKernel::emitParts(ArrayRef<int64_t> parts, int64_t unroll) {
  if (op.getGroup())
    return emitGroups(parts, unroll);
  Values sums =
      sumColumns(b.index(0), numColumns, parts, unroll, zeros(parts, ints()));
  forEachSum(sums, parts, /*group=*/{},
             [&](int64_t part, int64_t rowGroup, int64_t token, Value exact) {
               emitResult(part, rowGroup, token, exact);
             });
}

/// The same, one group of columns after the other: a chain for each sum.
void PackedMatmulKernel::emitGroups(ArrayRef<int64_t> parts, int64_t unroll) {
  auto emitGroup = [&](Value group, ValueRange sums, ValueRange chains) {
    Values next;
    forEachSum(sums, parts, group,
               [&](int64_t part, int64_t rowGroup, int64_t token, Value exact) {
                 Value scales = vector::LoadOp::create(
                     b, floats(), op.getScales(),
                     ValueRange{b.addIndex(firstRowGroup, rowGroup), group,
                                b.index(part * lanes)});
                 next.push_back(
                     b.fma(arith::SIToFPOp::create(b, floats(), exact), scales,
                           chains[next.size()]));
               });
    return next;
  };
  // Groups and cells begin together every so many groups: every one, unless
  // columns are planes of t5.
  int64_t groupColumns = *op.getGroup();
  int64_t periodColumns = std::lcm(groupColumns, cell.columns);
  auto emitPeriod = [&](Value period, int64_t columns, Values chains) {
    Value firstGroup = b.mulIndex(period, periodColumns / groupColumns);
    Value firstCell = b.mulIndex(period, periodColumns / cell.columns);
    for (int64_t first = 0; first < columns; first += groupColumns)
      chains = emitGroup(b.addIndex(firstGroup, first / groupColumns),
                         sumGroup(b.addIndex(firstCell, first / cell.columns),
                                  first % cell.columns,
                                  std::min(groupColumns, columns - first),
                                  parts, unroll),
                         chains);
    return chains;
  };
  Value zero = arith::ConstantOp::create(b, b.getZeroAttr(floats()));
  int64_t numPeriods = numColumns / periodColumns;
  int64_t numRowGroups = isStrip ? 1 : numPlanes;
  Values chains =
      b.loop(b.index(0), b.index(numPeriods), 1,
             Values(parts.size() * numRowGroups * numTokens, zero),
             [&](Value period, ValueRange chains) {
               return emitPeriod(period, periodColumns, Values(chains));
             });
  if (int64_t rest = numColumns % periodColumns)
    chains = emitPeriod(b.index(numPeriods), rest, chains);

  Value *chain = chains.begin();
  for (int64_t part : parts)
    for (int64_t token = 0; token < numTokens; ++token) {
      Value scale = b.loadScalar(op.getScale(), b.addIndex(firstToken, token));
      Value factor = splat(b.div(b.scalar(1), scale), floats());
      for (int64_t rowGroup = 0; rowGroup < numRowGroups; ++rowGroup)
        store(part, rowGroup, token, b.mul(*chain++, factor));
    }
}

/// The sums of a group that begins `skipped` columns after a cell does.
Values PackedMatmulKernel::sumGroup(Value firstCell, int64_t skipped,
                                    int64_t columns, ArrayRef<int64_t> parts,
                                    int64_t unroll) {
  Values sums = zeros(parts, ints());
  if (skipped == 0)
    return sumColumns(firstCell, columns, parts, unroll, sums);
  int64_t begun = std::min(cell.columns - skipped, columns);
  sums = sumSomePlanes(firstCell, skipped / kStep, (skipped + begun) / kStep,
                       parts);
  if (begun == columns)
    return sums;
  return sumColumns(b.addIndex(firstCell, 1), columns - begun, parts, unroll,
                    sums);
}

/// Adds to sums in i32 whole cells, and the first planes of one more. Chains in
/// i16 are widened one after the other; the sums in i32 are touched between
/// them only, and so may be in memory where registers are few.
Values PackedMatmulKernel::sumColumns(Value firstCell, int64_t columns,
                                      ArrayRef<int64_t> parts, int64_t unroll,
                                      Values sums) {
  int64_t chain = layout.getChain(), chainColumns = chain * cell.columns;
  if (chain == 1)
    return sumCells(firstCell, columns, parts, unroll, sums);
  auto addChain = [&](ValueRange sums, Value firstCell, int64_t columns) {
    return addPairs(sums, sumCells(firstCell, columns, parts, unroll,
                                   zeros(parts, pairs())));
  };
  int64_t chainedCells = columns / chainColumns * chain;
  sums = b.loop(firstCell, b.addIndex(firstCell, chainedCells), chain, sums,
                [&](Value cell, ValueRange sums) {
                  return addChain(sums, cell, chainColumns);
                });
  if (int64_t rest = columns % chainColumns)
    sums = addChain(sums, b.addIndex(firstCell, chainedCells), rest);
  return sums;
}

/// The sums in i32 of some planes of one cell.
Values PackedMatmulKernel::sumSomePlanes(Value cellIndex, int64_t firstPlane,
                                         int64_t endPlane,
                                         ArrayRef<int64_t> parts) {
  bool isChained = layout.getChain() != 1;
  Values sums = zeros(parts, isChained ? pairs() : ints());
  emitCell(cellIndex, parts, firstPlane, endPlane, sums);
  return isChained ? addPairs(zeros(parts, ints()), sums) : sums;
}

/// Adds the dot products of `columns` columns to the sum of each part, plane
/// and token.
Values PackedMatmulKernel::sumCells(Value firstCell, int64_t columns,
                                    ArrayRef<int64_t> parts, int64_t unroll,
                                    Values sums) {
  int64_t setSize = sums.size();
  int64_t numWholeCells = columns / cell.columns;
  int64_t unrolledEnd = numWholeCells / unroll * unroll;
  // A set of sums for each cell in flight.
  sums.resize(unroll * setSize,
              arith::ConstantOp::create(b, b.getZeroAttr(sums[0].getType())));
  sums = b.loop(firstCell, b.addIndex(firstCell, unrolledEnd), unroll, sums,
                [&](Value index, ValueRange carried) {
                  Values sums(carried.begin(), carried.end());
                  for (int64_t u = 0; u < unroll; ++u)
                    emitCell(b.addIndex(index, u), parts, 0, numPlanes,
                             MutableArrayRef(sums).slice(u * setSize, setSize));
                  return sums;
                });
  for (int64_t i = unrolledEnd; i < numWholeCells; ++i)
    emitCell(b.addIndex(firstCell, i), parts, 0, numPlanes,
             MutableArrayRef(sums).take_front(setSize));
  // The last cell of a strip may have planes beyond K.
  if (int64_t rest = columns % cell.columns)
    emitCell(b.addIndex(firstCell, numWholeCells), parts, 0, rest / kStep,
             MutableArrayRef(sums).take_front(setSize));

  // Integer sums: the order does not matter.
  for (int64_t u = 1; u < unroll; ++u)
    for (int64_t i = 0; i < setSize; ++i)
      sums[i] = arith::AddIOp::create(b, sums[i], sums[u * setSize + i]);
  sums.truncate(setSize);
  return sums;
}

/// Some planes of a vector of packed bytes: one dot product a plane and token.
/// Plane-major order keeps the q of all tokens alive beside one plane of codes,
/// the other all planes beside one vector of q.
void PackedMatmulKernel::emitCell(Value index, ArrayRef<int64_t> parts,
                                  int64_t firstPlane, int64_t endPlane,
                                  MutableArrayRef<Value> sums) {
  if (numTokens == 1 && layout.getPrefetch())
    b.prefetch(op.getWeights(),
               b.addIndex(address, b.addIndex(b.mulIndex(index, cell.bytes),
                                              layout.getPrefetch())));
  SmallVector<Values> codes;
  for (int64_t part : parts)
    codes.push_back(loadPlanes(index, part));

  Value column = b.mulIndex(index, cell.columns);
  auto loadQ = [&](int64_t plane, int64_t token) {
    // The planes of a strip have columns of their own.
    Value first = isStrip ? b.addIndex(column, plane * kStep) : column;
    return broadcastQ(b.addIndex(firstToken, token), first);
  };
  auto addDots = [&](int64_t plane, int64_t token, Value q) {
    for (auto [part, planes] : llvm::enumerate(codes)) {
      Value &sum = sums[(part * numPlanes + plane) * numTokens + token];
      if (layout.getChain() == 1)
        sum = DotOp::create(b, sum, planes[plane], q);
      else
        sum = DotPairsOp::create(b, sum, planes[plane], q);
    }
  };
  if (layout.getPlaneMajor()) {
    for (int64_t plane = firstPlane; plane < endPlane; ++plane)
      for (int64_t token = 0; token < numTokens; ++token)
        addDots(plane, token, loadQ(plane, token));
  } else {
    for (int64_t token = 0; token < numTokens; ++token)
      for (int64_t plane = firstPlane; plane < endPlane; ++plane)
        addDots(plane, token, loadQ(plane, token));
  }
}

/// The planes 0..3 are 4^plane times the code, and the last of them may have
/// the others in it.
void PackedMatmulKernel::undoInPlace(MutableArrayRef<Value> planeSums) {
  if (!layout.getInPlace())
    return;
  if (sharesFields())
    for (int64_t plane = 0; plane < 3; ++plane)
      planeSums[3] = arith::SubIOp::create(b, planeSums[3], planeSums[plane]);
  for (int64_t plane = 1; plane < 4; ++plane) {
    Value shift = arith::ConstantOp::create(
        b, DenseElementsAttr::get(ints(), b.getI32IntegerAttr(2 * plane)));
    planeSums[plane] = arith::ShRSIOp::create(b, planeSums[plane], shift);
  }
}

Values PackedMatmulKernel::addPairs(ValueRange sums, ValueRange pairs) {
  Values next;
  for (auto [sum, chained] : llvm::zip_equal(sums, pairs))
    next.push_back(AddPairsOp::create(b, sum, chained));
  return next;
}

/// From the sums of planes those of rows. Codes are w + 1: the sum of q, of
/// `group` if there are groups, is subtracted.
void PackedMatmulKernel::forEachSum(ValueRange sums, ArrayRef<int64_t> parts,
                                    Value group, SumEmitter emit) {
  for (auto [i, part] : llvm::enumerate(parts))
    for (int64_t token = 0; token < numTokens; ++token) {
      Values planeSums;
      for (int64_t plane = 0; plane < numPlanes; ++plane)
        planeSums.push_back(sums[(i * numPlanes + plane) * numTokens + token]);
      undoInPlace(planeSums);
      if (isStrip)
        planeSums = {llvm::accumulate(
            ArrayRef(planeSums).drop_front(), planeSums[0],
            [&](Value a, Value c) { return arith::AddIOp::create(b, a, c); })};
      Values index = {b.addIndex(firstToken, token)};
      if (group)
        index.push_back(group);
      Value sumOfQ = splat(b.loadScalar(op.getSum(), index), ints());
      for (auto [rowGroup, sum] : llvm::enumerate(planeSums))
        emit(part, rowGroup, token, arith::SubIOp::create(b, sum, sumOfQ));
    }
}

/// Rescales by the scales of matrix and token.
void PackedMatmulKernel::emitResult(int64_t part, int64_t rowGroup,
                                    int64_t token, Value exact) {
  Value factor =
      b.div(b.loadScalar(op.getScales(), b.addIndex(firstRowGroup, rowGroup)),
            b.loadScalar(op.getScale(), b.addIndex(firstToken, token)));
  store(part, rowGroup, token,
        b.mul(arith::SIToFPOp::create(b, floats(), exact),
              splat(factor, floats())));
}

void PackedMatmulKernel::store(int64_t part, int64_t rowGroup, int64_t token,
                               Value result) {
  Value row = b.mulIndex(b.addIndex(firstRowGroup, rowGroup), kRowGroup);
  vector::StoreOp::create(
      b, result, op.getOuts(),
      ValueRange{b.addIndex(firstToken, token), b.addIndex(row, part * lanes)});
}

void tercet::populatePackedMatmulPatterns(RewritePatternSet &patterns,
                                          KernelOptions options) {
  patterns.add<KernelPattern<PackedMatmulOp>>(
      patterns.getContext(),
      +[](PackedMatmulOp op, KernelBuilder &b) {
        PackedMatmulKernel(op, b).emit();
      },
      options);
}
