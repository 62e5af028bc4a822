// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The ternary GEMV and GEMM. One item is a tile of rows, or one of the strips
// of 16 rows that are left beyond the last tile; all tokens. 16 rows are in the
// lanes of a 64-byte vector whose bytes several planes share: groups of rows in
// a tile, of columns in a strip (docs/packings.md). Everything that a tuner may
// change comes from the layout on the op.

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

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
  void emitItem(Value address, Value firstGroup, bool isStrip);
  void emitBlock(Value token, int64_t count);
  void emitParts(ArrayRef<int64_t> parts, int64_t unroll);
  Values sumCells(Value firstCell, int64_t columns, ArrayRef<int64_t> parts,
                  int64_t unroll, VectorType type);
  void emitCell(Value index, ArrayRef<int64_t> parts, int64_t numPlanes,
                MutableArrayRef<Value> sums);
  void expandTile();
  Value getExpandedIndex(Value index, int64_t half, int64_t part);
  Values loadFields(Value index, int64_t part);
  Values loadExpanded(Value index, int64_t part);
  Values loadPlanes(Value index, int64_t part);
  void undoInPlace(MutableArrayRef<Value> planeSums);
  /// Whether plane 3 is left with the fields of the planes below it, which have
  /// the same q: their sums are subtracted at the end, and one AND is saved.
  /// Such codes are as large as 170, too much for 16 bits.
  bool sharesFields() const {
    return layout.getInPlace() && !isStrip && !b.options.dotSaturates;
  }
  void emitResult(int64_t part, int64_t group, int64_t token, Value sum);

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
  Value address, firstGroup;
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

void PackedMatmulKernel::emitItem(Value itemAddress, Value itemGroup,
                                  bool itemIsStrip) {
  address = itemAddress;
  firstGroup = itemGroup;
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

/// All of K for some parts and tokens. Chains in i16 are widened one after the
/// other; the sums in i32 are touched between them only, and so may be in
/// memory where registers are few.
void PackedMatmulKernel::emitParts(ArrayRef<int64_t> parts, int64_t unroll) {
  int64_t chain = layout.getChain(), chainColumns = chain * cell.columns;
  Values sums;
  if (chain == 1) {
    sums = sumCells(b.index(0), numColumns, parts, unroll, ints());
  } else {
    auto addChain = [&](ValueRange sums, Value firstCell, int64_t columns) {
      Values next;
      for (auto [sum, chained] : llvm::zip_equal(
               sums, sumCells(firstCell, columns, parts, unroll, pairs())))
        next.push_back(AddPairsOp::create(b, sum, chained));
      return next;
    };
    Value zero = arith::ConstantOp::create(b, b.getZeroAttr(ints()));
    int64_t end = numColumns / chainColumns * chain;
    sums = b.loop(b.index(0), b.index(end), chain,
                  Values(parts.size() * numPlanes * numTokens, zero),
                  [&](Value firstCell, ValueRange sums) {
                    return addChain(sums, firstCell, chainColumns);
                  });
    if (int64_t rest = numColumns % chainColumns)
      sums = addChain(sums, b.index(end), rest);
  }
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
      for (auto [group, sum] : llvm::enumerate(planeSums))
        emitResult(part, group, token, sum);
    }
}

/// The dot products of `columns` columns: a sum of `type` for each part, plane
/// and token, in this order.
Values PackedMatmulKernel::sumCells(Value firstCell, int64_t columns,
                                    ArrayRef<int64_t> parts, int64_t unroll,
                                    VectorType type) {
  int64_t setSize = parts.size() * numPlanes * numTokens;
  int64_t numWholeCells = columns / cell.columns;
  int64_t unrolledEnd = numWholeCells / unroll * unroll;
  Value zero = arith::ConstantOp::create(b, b.getZeroAttr(type));
  // A set of sums for each cell in flight.
  Values sums = b.loop(
      firstCell, b.addIndex(firstCell, unrolledEnd), unroll,
      Values(unroll * setSize, zero), [&](Value index, ValueRange carried) {
        Values sums(carried.begin(), carried.end());
        for (int64_t u = 0; u < unroll; ++u)
          emitCell(b.addIndex(index, u), parts, numPlanes,
                   MutableArrayRef(sums).slice(u * setSize, setSize));
        return sums;
      });
  for (int64_t i = unrolledEnd; i < numWholeCells; ++i)
    emitCell(b.addIndex(firstCell, i), parts, numPlanes,
             MutableArrayRef(sums).take_front(setSize));
  // The last cell of a strip may have planes beyond K.
  if (int64_t rest = columns % cell.columns)
    emitCell(b.addIndex(firstCell, numWholeCells), parts, rest / kStep,
             MutableArrayRef(sums).take_front(setSize));

  // Integer sums: the order does not matter.
  for (int64_t u = 1; u < unroll; ++u)
    for (int64_t i = 0; i < setSize; ++i)
      sums[i] = arith::AddIOp::create(b, sums[i], sums[u * setSize + i]);
  sums.truncate(setSize);
  return sums;
}

/// The first `numPlanes` planes of a vector of packed bytes: one dot product a
/// plane and token. Plane-major order keeps the q of all tokens alive beside
/// one plane of codes, the other all planes beside one vector of q.
void PackedMatmulKernel::emitCell(Value index, ArrayRef<int64_t> parts,
                                  int64_t numPlanes,
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
      Value &sum = sums[(part * this->numPlanes + plane) * numTokens + token];
      if (layout.getChain() == 1)
        sum = DotOp::create(b, sum, planes[plane], q);
      else
        sum = DotPairsOp::create(b, sum, planes[plane], q);
    }
  };
  if (layout.getPlaneMajor()) {
    for (int64_t plane = 0; plane < numPlanes; ++plane)
      for (int64_t token = 0; token < numTokens; ++token)
        addDots(plane, token, loadQ(plane, token));
  } else {
    for (int64_t token = 0; token < numTokens; ++token)
      for (int64_t plane = 0; plane < numPlanes; ++plane)
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

/// Codes are w + 1: subtract the sum of q, then rescale.
void PackedMatmulKernel::emitResult(int64_t part, int64_t group, int64_t token,
                                    Value sum) {
  Value tokenIndex = b.addIndex(firstToken, token);
  Value groupIndex = b.addIndex(firstGroup, group);
  Value sumOfQ = b.loadScalar(op.getSum(), tokenIndex);
  Value exact = arith::SubIOp::create(b, sum, splat(sumOfQ, ints()));
  Value factor = b.div(b.loadScalar(op.getScales(), groupIndex),
                       b.loadScalar(op.getScale(), tokenIndex));
  Value result = b.mul(arith::SIToFPOp::create(b, floats(), exact),
                       splat(factor, floats()));
  Value row = b.addIndex(b.mulIndex(groupIndex, kRowGroup), part * lanes);
  vector::StoreOp::create(b, result, op.getOuts(), ValueRange{tokenIndex, row});
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
