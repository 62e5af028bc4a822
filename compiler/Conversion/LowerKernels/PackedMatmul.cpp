// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The ternary GEMV and GEMM by dot products. One item is a tile of rows, or one
// of the strips of 16 rows that are left beyond the last tile; all tokens. 16
// rows are in the lanes of a 64-byte vector whose bytes several planes share:
// groups of rows in a tile, of columns in a strip (docs/packings.md). Sums are
// exact in integers over all of K, or over a group of columns with scales of
// its own: then they become one fma of each row's chain. Everything that a
// tuner may change comes from the layout on the op.

#include "compiler/Conversion/LowerKernels/PackedMatmul.h"

#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <numeric>
#include <optional>

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

using Values = KernelBuilder::Values;

namespace {

/// Columns of a step of the dot product.
constexpr int64_t kStep = 4;

/// Steps whose q is one vector, where a dot product takes a lane of it.
constexpr int64_t kLanesOfQ = 4;

/// Tokens of a strip's register tile beside one of tiles.
constexpr int64_t kMaxStripTokens = 4;

/// Tokens from which on blocks are faster than dot products of vectors, and
/// those that are multiplied before their sums are rescaled (Sapphire Rapids).
constexpr int64_t kMinBlockTokens = 8;
constexpr int64_t kBlockTokens = 128;

/// Tokens from which on it pays to unpack t5 or t3 beforehand (measured on
/// Zen 4).
constexpr int64_t kMinExpandedTokens = 24;

class PackedMatmulKernel {
public:
  PackedMatmulKernel(PackedMatmulOp op, KernelBuilder &b)
      : op(op), b(b), layout(op.getLayout()), lanes(layout.getLanes()),
        numPlanes(layout.getNumPlanes()), numColumns(getNumColumns(op.getQ())) {
  }

  void emit();

private:
  void emitItem(Value address, Value firstRowGroup, bool isStrip);
  void emitTokens();
  void emitBlock(Value token, int64_t count);
  void emitDotBlocks();
  void unpackPanels(Value codes);
  void prefetchCell(Value index, int64_t columns);
  void emitParts(ArrayRef<int64_t> parts, int64_t unroll);
  void emitGroups(ArrayRef<int64_t> parts, int64_t unroll);
  Values sumGroup(Value firstCell, int64_t skipped, int64_t columns,
                  ArrayRef<int64_t> parts, int64_t unroll);
  Values sumColumns(Value firstCell, int64_t columns, ArrayRef<int64_t> parts,
                    int64_t unroll, Values sums);
  Values sumSomeColumns(Value cellIndex, int64_t begin, int64_t end,
                        ArrayRef<int64_t> parts);
  Values sumTiles(Value firstCell, int64_t columns, ArrayRef<int64_t> parts,
                  Values sums);
  void emitTileStep(Value step, bool hasSecond, ArrayRef<int64_t> parts,
                    MutableArrayRef<Value> sums);
  Value addTile(Value sums, Value codes, Value q);
  Value loadTokenPair(Value token, Value column, int64_t words);
  Values splitTiles(ValueRange sums);
  int64_t getNumSets(ValueRange set, int64_t unroll);
  Values sumCells(Value firstCell, int64_t columns, ArrayRef<int64_t> parts,
                  int64_t unroll, Values sums);
  /// Columns `begin` .. `end` - 1 of a cell, or of a step of it.
  struct CellRange {
    Value index;
    int64_t begin, end;
    /// Which of `kLanesOfQ` steps in a row it is, if it is one of them.
    std::optional<int64_t> laneOfQ = {};
  };
  /// A step: one vector of codes for each plane, and of t3 half a byte of each.
  /// `emit` gets the fields of each part, and the sums of the set of
  /// accumulators whose turn it is.
  using StepEmitter = llvm::function_ref<void(
      CellRange step, ArrayRef<Values> fields, MutableArrayRef<Value> sums)>;
  void forEachStep(CellRange range, ArrayRef<int64_t> parts,
                   MutableArrayRef<Value> sums, StepEmitter emit);
  void forEachStepOfT3(CellRange range, ArrayRef<int64_t> parts,
                       MutableArrayRef<Value> sums, StepEmitter emit);
  void emitCell(CellRange range, ArrayRef<int64_t> parts,
                MutableArrayRef<Value> sums);
  void emitStep(CellRange step, ArrayRef<Values> fields,
                MutableArrayRef<Value> sums);
  void expandTile();
  Value getExpandedIndex(Value step, int64_t half, int64_t part);
  Value loadPacked(Value first, int64_t part);
  Values loadFields(Value index, int64_t part);
  Values getPlanes(ArrayRef<Value> fields);
  Value getPlane(Value fields, int64_t plane);
  void undoInPlace(MutableArrayRef<Value> planeSums);
  Values addPairs(ValueRange sums, ValueRange pairs);
  /// A sum for each of `parts`, plane and token, in this order.
  int64_t getNumSums(ArrayRef<int64_t> parts) const {
    return parts.size() * numPlanes * numTokens;
  }
  Values zeros(ArrayRef<int64_t> parts, VectorType type) {
    return Values(getNumSums(parts),
                  arith::ConstantOp::create(b, b.getZeroAttr(type)));
  }
  bool isGemv() const { return numTokens == 1 && !expanded; }
  /// Planes that are fields of one byte; t5 has another plane beside them.
  int64_t getNumFields() const { return std::min<int64_t>(numPlanes, 4); }
  /// Whether fields may be left with others, which have the same q: their sums
  /// are subtracted at the end.
  bool sharesFields() const { return layout.getInPlace() && !isStrip; }
  /// Whether the dot product takes all fields of a byte from a plane on, of
  /// which each is at most 2.
  bool fitsDot(int64_t plane) const {
    int64_t largest = 0;
    for (int64_t above = plane; above < getNumFields(); ++above)
      largest = 4 * largest + 2;
    return largest <= b.options.maxDotCode;
  }
  /// Whether a field is shifted down with those above it: one shift.
  bool hasHigherFields(int64_t plane) const {
    return sharesFields() && b.options.shiftsBytes && fitsDot(plane);
  }
  /// Whether a field is left with those below it: the last one, no instruction.
  bool hasLowerFields(int64_t plane) const {
    return sharesFields() && !b.options.shiftsBytes && fitsDot(0) &&
           plane == getNumFields() - 1;
  }
  /// Whether a field by itself stays where it is: one AND.
  bool isInPlace(int64_t plane) const {
    return layout.getInPlace() && (2 << 2 * plane) <= b.options.maxDotCode;
  }
  /// Whether dot products are of two rows by two tokens and eight columns: the
  /// steps of a tile, each a vector of every plane, in pairs.
  bool usesTiles() const {
    return b.options.dotsTiles && !isStrip && cell.columns == kStep &&
           layout.getChain() == 1 && numTokens % 2 == 0;
  }
  int64_t getStepColumns() const { return cell.columns / cell.steps; }
  /// Vectors that a step becomes in the scratch.
  int64_t getNumHalves() const { return llvm::divideCeil(numPlanes, 4); }
  using SumEmitter = llvm::function_ref<void(int64_t part, int64_t rowGroup,
                                             int64_t token, Value exact)>;
  void forEachSum(ValueRange planeSums, ArrayRef<int64_t> parts, Value group,
                  SumEmitter emit);

  VectorType bytes() { return VectorType::get(kStep * lanes, b.getI8Type()); }
  VectorType pairs() { return VectorType::get(2 * lanes, b.getI16Type()); }
  VectorType ints() { return VectorType::get(lanes, b.getI32Type()); }
  VectorType floats() { return VectorType::get(lanes, b.getF32Type()); }
  Value splat(Value scalar, VectorType type) {
    return vector::BroadcastOp::create(b, type, scalar);
  }

  /// q[token, column .. column + 3] in every lane.
  Value broadcastQ(Value token, Value column) {
    return broadcastLaneOfQ(token, column, /*numLanes=*/1, /*lane=*/0);
  }
  /// The same of column + 4 lane, from a vector of `numLanes` times four.
  Value broadcastLaneOfQ(Value token, Value column, int64_t numLanes,
                         int64_t lane) {
    Value q = vector::LoadOp::create(
        b, VectorType::get(numLanes * kStep, b.getI8Type()), op.getQ(),
        ValueRange{token, column});
    Value word = vector::ExtractOp::create(
        b, b.bitcast(VectorType::get(numLanes, b.getI32Type()), q), lane);
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
  int64_t partsAtOnce; ///< as many as have registers
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
  auto emitStrip = [&](Value strip) {
    emitItem(b.addIndex(b.mulIndex(strip, layout.getStripBytes(numColumns)),
                        numTiles * tileBytes),
             b.addIndex(strip, numTiles * numPlanes), /*isStrip=*/true);
  };
  b.parallel({{numTiles, emitTile}, {numStrips, emitStrip}});
}

void PackedMatmulKernel::emitItem(Value itemAddress, Value itemRowGroup,
                                  bool itemIsStrip) {
  address = itemAddress;
  firstRowGroup = itemRowGroup;
  isStrip = itemIsStrip;
  cell = isStrip ? layout.getStripCell() : layout.getCell();
  bool usesDotBlocks =
      layout.getBlocks() && !op.getGroup() && numColumns >= kPanelColumns;
  if (!usesDotBlocks && (isStrip || layout.getPacking() == Packing::I2))
    return emitTokens();
  Value hasMany = arith::CmpIOp::create(
      b, arith::CmpIPredicate::uge, b.dim(op.getQ(), 0),
      b.index(usesDotBlocks ? kMinBlockTokens : kMinExpandedTokens));
  auto choice = scf::IfOp::create(b, hasMany, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard insertion(b);
  b.setInsertionPointToStart(choice.thenBlock());
  if (usesDotBlocks) {
    emitDotBlocks();
  } else {
    expandTile();
    emitTokens();
    expanded = {};
    cell = layout.getCell();
  }
  b.setInsertionPointToStart(choice.elseBlock());
  emitTokens();
}

/// The rows are in the cache for every block of tokens but the first. A strip
/// has no tiles of tokens, which leave more registers than dot products.
void PackedMatmulKernel::emitTokens() {
  int64_t tokens = b.options.dotsTiles && isStrip
                       ? std::min(layout.getTokens(), kMaxStripTokens)
                       : layout.getTokens();
  b.blockedLoop(b.dim(op.getQ(), 0), tokens,
                [&](Value token, int64_t count) { emitBlock(token, count); });
}

/// The worker's scratch gets the codes of every plane, and the sums of some
/// tokens. A strip is one plane.
void PackedMatmulKernel::emitDotBlocks() {
  int64_t numRowGroups = isStrip ? 1 : numPlanes;
  int64_t numVectors =
      llvm::divideCeil(numColumns, kPanelColumns) * kPanelColumns / kStep;
  auto codesType =
      MemRefType::get({numRowGroups, numVectors, 64}, b.getI8Type());
  auto accType =
      MemRefType::get({numRowGroups, kBlockTokens, kRowGroup}, b.getI32Type());
  int64_t codesSize = codesType.getNumElements();
  Value scratch =
      b.workerBytes(codesSize + accType.getNumElements() * sizeof(int32_t));
  Value codes = b.view(codesType, scratch, 0);
  Value acc = b.view(accType, scratch, codesSize);
  unpackPanels(codes);
  Value tokens = b.dim(op.getQ(), 0);
  b.loop(b.index(0), tokens, kBlockTokens, [&](Value first) {
    Value count = b.minIndex(b.subIndex(tokens, first), b.index(kBlockTokens));
    DotBlockOp::create(b, op.getQ(), first, count, codes, acc);
    b.loop(b.index(0), count, 1, [&](Value i) {
      Value token = b.addIndex(first, i);
      Value sumOfQ = splat(b.loadScalar(op.getSum(), token), ints());
      for (int64_t rowGroup = 0; rowGroup < numRowGroups; ++rowGroup)
        for (int64_t lane = 0; lane < kRowGroup; lane += lanes) {
          Value sum = vector::LoadOp::create(
              b, ints(), acc, ValueRange{b.index(rowGroup), i, b.index(lane)});
          storeRescaled(b, op, arith::SubIOp::create(b, sum, sumOfQ), token,
                        b.addIndex(firstRowGroup, rowGroup), lane);
        }
    });
  });
}

/// The vectors of each plane one after the other. The last panel may overlap
/// the one before: its first vectors are zero.
void PackedMatmulKernel::unpackPanels(Value codes) {
  constexpr int64_t kPanelVectors = kPanelColumns / kStep;
  int64_t whole = numColumns / kPanelColumns * kPanelVectors;
  int64_t rest = numColumns / kStep % kPanelVectors;
  int64_t numOverlapping = rest ? kPanelVectors - rest : 0;
  auto storeCodes = [&](Value vector, int64_t plane, Value row, int64_t part) {
    vector::StoreOp::create(
        b, vector, codes,
        ValueRange{b.index(plane), row, b.index(part * kStep * lanes)});
  };
  auto parts = llvm::to_vector(llvm::seq<int64_t>(kRowGroup / lanes));
  int64_t numRowGroups = isStrip ? 1 : numPlanes;
  for (int64_t plane = 0; plane < numRowGroups; ++plane)
    for (int64_t i = 0; i < numOverlapping; ++i)
      for (int64_t part : parts)
        storeCodes(b.splatInt(0, bytes()), plane, b.index(whole + i), part);

  auto unpackStep = [&](CellRange step, ArrayRef<Values> fields,
                        MutableArrayRef<Value>) {
    int64_t endPlane = isStrip ? step.end / kStep : numPlanes;
    for (int64_t plane = isStrip ? step.begin / kStep : 0; plane < endPlane;
         ++plane) {
      // The planes of a strip are groups of columns.
      Value row = isStrip ? b.addIndex(b.mulIndex(step.index, numPlanes), plane)
                          : step.index;
      if (numOverlapping)
        row = b.addIndex(row, b.select(b.isLess(row, b.index(whole)),
                                       b.index(0), b.index(numOverlapping)));
      for (int64_t part : parts) {
        Value vector = plane < getNumFields()
                           ? UnpackOp::create(b, fields[part][0], plane,
                                              /*inPlace=*/false)
                                 .getResult()
                           : fields[part][1];
        storeCodes(vector, isStrip ? 0 : plane, row, part);
      }
    }
  };
  int64_t numCells = numColumns / cell.columns;
  b.loop(b.index(0), b.index(numCells), 1, [&](Value index) {
    prefetchCell(index, cell.columns);
    forEachStep({index, 0, cell.columns}, parts, /*sums=*/{}, unpackStep);
  });
  if (int64_t left = numColumns % cell.columns)
    forEachStep({b.index(numCells), 0, left}, parts, /*sums=*/{}, unpackStep);
}

/// Unpacking takes as long as the dot products of a few tokens. Many blocks of
/// tokens share it: the worker's scratch gets the fields of every step, in one
/// or two vectors, as floats. From then on a step is a cell.
void PackedMatmulKernel::expandTile() {
  Value scratch =
      b.workerScratch(llvm::divideCeil(numColumns, getStepColumns()) *
                      getNumHalves() * kRowGroup);
  auto parts = llvm::to_vector(llvm::seq<int64_t>(kRowGroup / lanes));
  auto expandCell = [&](Value index, int64_t columns) {
    forEachStep(
        {index, 0, columns}, parts, /*sums=*/{},
        [&](CellRange step, ArrayRef<Values> fields, MutableArrayRef<Value>) {
          for (int64_t part : parts)
            for (auto [half, vector] : llvm::enumerate(fields[part]))
              vector::StoreOp::create(
                  b, b.bitcast(floats(), vector), scratch,
                  ValueRange{getExpandedIndex(step.index, half, part)});
        });
  };
  int64_t numCells = numColumns / cell.columns;
  b.loop(b.index(0), b.index(numCells), 1,
         [&](Value index) { expandCell(index, cell.columns); });
  if (int64_t rest = numColumns % cell.columns)
    expandCell(b.index(numCells), rest);
  expanded = scratch;
  cell = {cell.rows, getStepColumns(), 64 * getNumHalves()};
}

Value PackedMatmulKernel::getExpandedIndex(Value step, int64_t half,
                                           int64_t part) {
  return b.addIndex(b.mulIndex(step, getNumHalves() * kRowGroup),
                    half * kRowGroup + part * lanes);
}

/// A part of the 64 bytes from `first` on.
Value PackedMatmulKernel::loadPacked(Value first, int64_t part) {
  return b.loadBytes(bytes(), op.getWeights(),
                     b.addIndex(first, part * kStep * lanes));
}

/// The fields of a cell of one step, and of t5 the codes of plane 4.
Values PackedMatmulKernel::loadFields(Value index, int64_t part) {
  if (expanded) {
    Values fields;
    for (int64_t half = 0; half < getNumHalves(); ++half)
      fields.push_back(b.bitcast(
          bytes(),
          vector::LoadOp::create(b, floats(), expanded,
                                 getExpandedIndex(index, half, part))));
    return fields;
  }
  Value packed =
      loadPacked(b.addIndex(address, b.mulIndex(index, cell.bytes)), part);
  if (layout.getPacking() == Packing::T5)
    return llvm::to_vector_of<Value>(
        UnpackT5Op::create(b, packed)->getResults());
  return {packed};
}

void PackedMatmulKernel::forEachStep(CellRange range, ArrayRef<int64_t> parts,
                                     MutableArrayRef<Value> sums,
                                     StepEmitter emit) {
  if (cell.steps > 1)
    return forEachStepOfT3(range, parts, sums, emit);
  SmallVector<Values> fields;
  for (int64_t part : parts)
    fields.push_back(loadFields(range.index, part));
  emit(range, fields, sums);
}

/// A loop over vectors of nibbles, two steps each: as many steps at once would
/// not find registers. It doubles the signs, so that each vector has its own
/// where the first has them. The steps of a part of a vector are in no loop.
void PackedMatmulKernel::forEachStepOfT3(CellRange range,
                                         ArrayRef<int64_t> parts,
                                         MutableArrayRef<Value> sums,
                                         StepEmitter emit) {
  int64_t setSize = sums.empty() ? 0 : getNumSums(parts);
  int64_t numSets = sums.empty() ? 1 : sums.size() / setSize;
  int64_t stepColumns = getStepColumns();
  Value firstStep = b.mulIndex(range.index, cell.steps);
  Value first = b.addIndex(address, b.mulIndex(range.index, cell.bytes));
  Values firstSigns;
  for (int64_t part : parts)
    firstSigns.push_back(loadPacked(first, part));

  /// Columns of the step `i` of those that begin in `vector`, whose signs have
  /// been doubled for it.
  auto emitStepOf = [&](Value vector, int64_t i, int64_t begin, int64_t end,
                        ArrayRef<Value> signs, MutableArrayRef<Value> sums) {
    Value place = b.addIndex(
        first, b.addIndex(b.mulIndex(b.addIndex(vector, i / 2), 64), 64));
    SmallVector<Values> fields;
    for (auto [part, carriedSign] : llvm::zip_equal(parts, signs)) {
      Value sign = carriedSign;
      Value nibble = loadPacked(place, part);
      if (i % 2)
        nibble = arith::ShRUIOp::create(b, nibble, b.splatInt(4, bytes()));
      // What comes from the byte below stays below bit 7.
      if (int64_t shift = i / 2 + 4 * (i % 2))
        sign = b.bitcast(bytes(), b.shiftLeft(b.bitcast(pairs(), sign), shift));
      fields.push_back({UnpackT3Op::create(b, nibble, sign)});
    }
    emit({b.addIndex(b.addIndex(firstStep, b.mulIndex(vector, 2)), i), begin,
          end},
         fields, sums.slice(i % numSets * setSize, setSize));
  };

  int64_t numVectors = std::max<int64_t>(numSets / 2, 1);
  int64_t loopColumns = 2 * numVectors * stepColumns;
  int64_t looped = range.begin ? 0 : range.end / loopColumns * numVectors;
  Values carried(sums);
  llvm::append_range(carried, firstSigns);
  carried =
      b.loop(b.index(0), b.index(looped), numVectors, carried,
             [&](Value vector, ValueRange before) {
               Values carried(before);
               auto sums = MutableArrayRef(carried).drop_back(parts.size());
               auto signs = MutableArrayRef(carried).take_back(parts.size());
               for (int64_t i = 0; i < 2 * numVectors; ++i)
                 emitStepOf(vector, i, 0, stepColumns, signs, sums);
               for (int64_t i = 0; i < numVectors; ++i)
                 for (Value &sign : signs)
                   sign = arith::AddIOp::create(b, sign, sign);
               return carried;
             });
  llvm::copy(ArrayRef(carried).drop_back(parts.size()), sums.begin());
  int64_t begin = std::max(range.begin, 2 * looped * stepColumns);
  for (int64_t i = begin / stepColumns; i * stepColumns < range.end; ++i)
    emitStepOf(b.index(0), i, std::max<int64_t>(begin - i * stepColumns, 0),
               std::min(range.end - i * stepColumns, stepColumns), firstSigns,
               sums);
}

/// The codes of every plane in the fields of a step.
Values PackedMatmulKernel::getPlanes(ArrayRef<Value> fields) {
  Values planes;
  for (int64_t plane = 0; plane < getNumFields(); ++plane)
    planes.push_back(getPlane(fields[0], plane));
  llvm::append_range(planes, llvm::drop_begin(fields));
  return planes;
}

Value PackedMatmulKernel::getPlane(Value fields, int64_t plane) {
  if (hasLowerFields(plane))
    return fields;
  if (hasHigherFields(plane))
    return plane == 0 ? fields
                      : arith::ShRUIOp::create(b, fields,
                                               b.splatInt(2 * plane, bytes()))
                            .getResult();
  return UnpackOp::create(b, fields, plane, isInPlace(plane));
}

/// A GEMV takes whole 64-byte vectors and several of them at a time, if there
/// are registers for that. Where it takes parts of them, they alternate after
/// each chain, so that memory is read steadily. A GEMM has no registers to
/// spare: one part of `lanes` rows after another.
void PackedMatmulKernel::emitBlock(Value token, int64_t count) {
  int64_t numParts = kRowGroup / lanes;
  firstToken = token;
  numTokens = count;
  // A GEMM unrolls for the lanes of q only.
  bool sharesQ = b.options.dotsLanes && cell.columns == kStep;
  int64_t unroll = isGemv() ? layout.getUnroll() : sharesQ ? kLanesOfQ : 1;
  partsAtOnce = !isGemv()           ? 1
                : layout.getParts() ? std::min(layout.getParts(), numParts)
                                    : numParts;
  int64_t step = isGemv() && layout.getChain() > 1 ? numParts : partsAtOnce;
  for (int64_t first = 0; first < numParts; first += step)
    emitParts(llvm::to_vector(
                  llvm::seq<int64_t>(first, std::min(first + step, numParts))),
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
               storeRescaled(b, op, exact, b.addIndex(firstToken, token),
                             b.addIndex(firstRowGroup, rowGroup), part * lanes);
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
  // columns are planes of t5 or t3.
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
      Value index = b.addIndex(firstToken, token);
      Value scale = b.loadScalar(op.getScale(), index);
      Value factor = splat(b.div(b.scalar(1), scale), floats());
      for (int64_t rowGroup = 0; rowGroup < numRowGroups; ++rowGroup)
        storeRows(b, op, b.mul(*chain++, factor), index,
                  b.addIndex(firstRowGroup, rowGroup), part * lanes);
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
  sums = sumSomeColumns(firstCell, skipped, skipped + begun, parts);
  if (begun == columns)
    return sums;
  return sumColumns(b.addIndex(firstCell, 1), columns - begun, parts, unroll,
                    sums);
}

/// Adds to sums in i32 whole cells, and the first columns of one more. Chains
/// in i16 are widened one after the other; the sums in i32 are touched between
/// them only, and so may be in memory where registers are few.
Values PackedMatmulKernel::sumColumns(Value firstCell, int64_t columns,
                                      ArrayRef<int64_t> parts, int64_t unroll,
                                      Values sums) {
  if (usesTiles())
    return sumTiles(firstCell, columns, parts, sums);
  if (layout.getChain() == 1)
    return sumCells(firstCell, columns, parts, unroll, sums);
  int64_t chain = llvm::divideCeil(layout.getChain(), cell.steps);
  int64_t chainColumns = chain * cell.columns;
  auto addChain = [&](ValueRange sums, Value firstCell, int64_t columns) {
    Values next;
    for (int64_t first = 0, e = parts.size(); first < e; first += partsAtOnce) {
      auto some = parts.slice(first, std::min(partsAtOnce, e - first));
      llvm::append_range(next,
                         addPairs(sums.slice(next.size(), getNumSums(some)),
                                  sumCells(firstCell, columns, some, unroll,
                                           zeros(some, pairs()))));
    }
    return next;
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

/// The sums in i32 of some columns of one cell.
Values PackedMatmulKernel::sumSomeColumns(Value cellIndex, int64_t begin,
                                          int64_t end,
                                          ArrayRef<int64_t> parts) {
  bool isChained = layout.getChain() != 1;
  Values sums = zeros(parts, isChained ? pairs() : ints());
  emitCell({cellIndex, begin, end}, parts, sums);
  return isChained ? addPairs(zeros(parts, ints()), sums) : sums;
}

/// Steps in flight have accumulators of their own, as many as stay in
/// registers, and take turns.
int64_t PackedMatmulKernel::getNumSets(ValueRange set, int64_t unroll) {
  auto type = cast<VectorType>(set[0].getType());
  int64_t bits =
      set.size() * type.getNumElements() * type.getElementTypeBitWidth();
  int64_t fitting = b.options.accumulators * kLanes * 32 / bits;
  return std::clamp<int64_t>(fitting, 1, unroll);
}

/// Adds the dot products of `columns` columns to the sum of each part, plane
/// and token.
Values PackedMatmulKernel::sumCells(Value firstCell, int64_t columns,
                                    ArrayRef<int64_t> parts, int64_t unroll,
                                    Values sums) {
  int64_t setSize = sums.size();
  int64_t numSets = cell.steps > 1 ? unroll : getNumSets(sums, unroll);
  // A set of sums for each step in flight, of few cells if they have several.
  int64_t streams = isGemv() ? layout.getStreams() : 1;
  int64_t cellsAtOnce = cell.steps > 1 ? streams : unroll;
  int64_t sumsOfCell =
      cell.steps > 1 ? unroll / cellsAtOnce * setSize : setSize;
  int64_t numWholeCells = columns / cell.columns;
  int64_t unrolledEnd = numWholeCells / cellsAtOnce * cellsAtOnce;
  int64_t cellsOfStream = unrolledEnd / streams;
  bool sharesQ =
      cell.columns == kStep && streams == 1 && unroll % kLanesOfQ == 0;
  sums.resize(numSets * setSize,
              arith::ConstantOp::create(b, b.getZeroAttr(sums[0].getType())));
  sums = b.loop(
      firstCell, b.addIndex(firstCell, cellsOfStream), cellsAtOnce / streams,
      sums, [&](Value index, ValueRange carried) {
        Values sums(carried.begin(), carried.end());
        for (int64_t u = 0; u < cellsAtOnce; ++u) {
          CellRange range = {
              b.addIndex(index, u % streams * cellsOfStream + u / streams), 0,
              cell.columns};
          if (sharesQ)
            range.laneOfQ = u % kLanesOfQ;
          emitCell(range, parts,
                   MutableArrayRef(sums).slice(
                       u * sumsOfCell % (numSets * setSize), sumsOfCell));
        }
        return sums;
      });
  for (int64_t i = unrolledEnd; i < numWholeCells; ++i)
    emitCell({b.addIndex(firstCell, i), 0, cell.columns}, parts,
             MutableArrayRef(sums).take_front(sumsOfCell));
  if (int64_t rest = columns % cell.columns)
    emitCell({b.addIndex(firstCell, numWholeCells), 0, rest}, parts,
             MutableArrayRef(sums).take_front(sumsOfCell));

  // Integer sums: the order does not matter.
  for (int64_t u = 1; u < numSets; ++u)
    for (int64_t i = 0; i < setSize; ++i)
      sums[i] = arith::AddIOp::create(b, sums[i], sums[u * setSize + i]);
  sums.truncate(setSize);
  return sums;
}

/// Sums of tiles instead. Those of two tokens are two vectors, of the first and
/// the last rows of a part.
Values PackedMatmulKernel::sumTiles(Value firstCell, int64_t columns,
                                    ArrayRef<int64_t> parts, Values sums) {
  int64_t numSteps = llvm::divideCeil(columns, kStep);
  Value pairedEnd = b.addIndex(firstCell, numSteps / 2 * 2);
  sums = b.loop(firstCell, pairedEnd, 2, sums,
                [&](Value step, ValueRange carried) {
                  Values next(carried);
                  emitTileStep(step, /*hasSecond=*/true, parts, next);
                  return next;
                });
  if (numSteps % 2)
    emitTileStep(pairedEnd, /*hasSecond=*/false, parts, sums);
  return sums;
}

/// Two steps, or one and codes of zero. The words of both side by side are 8
/// columns of half of the rows: a row's columns of a tile.
void PackedMatmulKernel::emitTileStep(Value step, bool hasSecond,
                                      ArrayRef<int64_t> parts,
                                      MutableArrayRef<Value> sums) {
  Values q;
  for (int64_t token = 0; token < numTokens; token += 2)
    q.push_back(loadTokenPair(b.addIndex(firstToken, token),
                              b.mulIndex(step, kStep), hasSecond ? 2 : 1));
  auto interleave = [&](Value first, Value second, int64_t half) {
    SmallVector<int64_t> mask;
    for (int64_t i = 0; i < lanes; ++i)
      mask.push_back(i % 2 * lanes + half * lanes / 2 + i / 2);
    return b.bitcast(
        bytes(), vector::ShuffleOp::create(b, b.bitcast(ints(), first),
                                           b.bitcast(ints(), second), mask));
  };
  for (auto [i, part] : llvm::enumerate(parts)) {
    Values first = loadFields(step, part);
    Values second = hasSecond ? loadFields(b.addIndex(step, 1), part)
                              : Values(first.size(), b.splatInt(0, bytes()));
    SmallVector<Values> planes;
    for (int64_t half : {0, 1}) {
      Values fields;
      for (auto [a, c] : llvm::zip_equal(first, second))
        fields.push_back(interleave(a, c, half));
      planes.push_back(getPlanes(fields));
    }
    // In this order the codes of few planes are alive at a time.
    for (int64_t plane = 0; plane < numPlanes; ++plane)
      for (int64_t half : {0, 1})
        for (auto [pair, tokens] : llvm::enumerate(q)) {
          Value &sum =
              sums[(i * numPlanes + plane) * numTokens + 2 * pair + half];
          sum = addTile(sum, planes[half][plane], tokens);
        }
  }
}

/// Adds the products of rows 2 i and 2 i + 1 with two tokens in each segment of
/// 16 bytes, which are 8 columns of each: the first four columns of every row
/// with every token, then the last four.
Value PackedMatmulKernel::addTile(Value sums, Value codes, Value q) {
  for (int64_t word : {0, 1}) {
    SmallVector<int64_t> rows, tokens;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      int64_t segment = lane / 4 * 4;
      rows.push_back(segment + lane % 4 / 2 * 2 + word);
      tokens.push_back(segment + lane % 2 * 2 + word);
    }
    auto select = [&](Value v, ArrayRef<int64_t> words) {
      Value whole = b.bitcast(ints(), v);
      return b.bitcast(bytes(),
                       vector::ShuffleOp::create(b, whole, whole, words));
    };
    sums = DotOp::create(b, sums, select(codes, rows), select(q, tokens));
  }
  return sums;
}

/// One or two words of q of a token and the next in every segment; one twice,
/// where codes of zero follow.
Value PackedMatmulKernel::loadTokenPair(Value token, Value column,
                                        int64_t words) {
  auto load = [&](Value row) {
    return b.bitcast(
        VectorType::get(words, b.getI32Type()),
        vector::LoadOp::create(b, VectorType::get(words * kStep, b.getI8Type()),
                               op.getQ(), ValueRange{row, column}));
  };
  SmallVector<int64_t> mask;
  for (int64_t i = 0; i < lanes; ++i)
    mask.push_back(i % 4 / 2 * words + std::min(i % 2, words - 1));
  return b.bitcast(bytes(),
                   vector::ShuffleOp::create(b, load(token),
                                             load(b.addIndex(token, 1)), mask));
}

/// The sums of each token, rows in lanes, from those of tiles.
Values PackedMatmulKernel::splitTiles(ValueRange sums) {
  Values split;
  for (size_t i = 0; i < sums.size(); i += 2)
    for (int64_t token : {0, 1}) {
      SmallVector<int64_t> mask;
      for (int64_t lane = 0; lane < lanes; ++lane)
        mask.push_back(2 * lane + token);
      split.push_back(vector::ShuffleOp::create(b, sums[i], sums[i + 1], mask));
    }
  return split;
}

/// What is so many bytes beyond the first columns of a cell.
void PackedMatmulKernel::prefetchCell(Value index, int64_t columns) {
  if (!layout.getPrefetch())
    return;
  for (int64_t line = 0; line < cell.getBytes(columns); line += 64)
    b.prefetch(op.getWeights(),
               b.addIndex(address, b.addIndex(b.mulIndex(index, cell.bytes),
                                              line + layout.getPrefetch())));
}

void PackedMatmulKernel::emitCell(CellRange range, ArrayRef<int64_t> parts,
                                  MutableArrayRef<Value> sums) {
  if (isGemv())
    prefetchCell(range.index, range.end);
  forEachStep(
      range, parts, sums,
      [&](CellRange step, ArrayRef<Values> fields,
          MutableArrayRef<Value> sums) { emitStep(step, fields, sums); });
}

/// Some columns of a step: one dot product a plane and token. Plane-major order
/// keeps the q of all tokens alive beside one plane of codes, the other all
/// planes beside one vector of q.
void PackedMatmulKernel::emitStep(CellRange step, ArrayRef<Values> fields,
                                  MutableArrayRef<Value> sums) {
  SmallVector<Values> codes = llvm::map_to_vector(
      fields, [&](const Values &fields) { return getPlanes(fields); });

  Value column = b.mulIndex(step.index, getStepColumns());
  int64_t firstPlane = isStrip ? step.begin / kStep : 0;
  int64_t endPlane = isStrip ? step.end / kStep : numPlanes;
  auto loadQ = [&](int64_t plane, int64_t token) {
    // The planes of a strip have columns of their own.
    Value first = isStrip ? b.addIndex(column, plane * kStep) : column;
    bool isWhole = isStrip && step.end - step.begin == kLanesOfQ * kStep;
    std::optional<int64_t> lane = isWhole ? plane - firstPlane : step.laneOfQ;
    Value row = b.addIndex(firstToken, token);
    if (!b.options.dotsLanes || !lane)
      return broadcastQ(row, first);
    return broadcastLaneOfQ(row, b.subIndex(first, b.index(*lane * kStep)),
                            kLanesOfQ, *lane);
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

/// Fields in place are 4^plane times the code. Each may have those above it in
/// it, the last one all the others.
void PackedMatmulKernel::undoInPlace(MutableArrayRef<Value> planeSums) {
  int64_t last = getNumFields() - 1;
  if (hasLowerFields(last))
    for (int64_t plane = 0; plane < last; ++plane)
      planeSums[last] = b.subInt(planeSums[last], planeSums[plane]);
  for (int64_t plane = 0; plane <= last; ++plane) {
    Value &sum = planeSums[plane];
    if (hasHigherFields(plane)) {
      if (plane < last)
        sum = b.subInt(sum, b.shiftLeft(planeSums[plane + 1], 2));
    } else if (plane > 0 && isInPlace(plane)) {
      sum = b.shiftRight(sum, 2 * plane);
    }
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
void PackedMatmulKernel::forEachSum(ValueRange planeAndTokenSums,
                                    ArrayRef<int64_t> parts, Value group,
                                    SumEmitter emit) {
  Values sums =
      usesTiles() ? splitTiles(planeAndTokenSums) : Values(planeAndTokenSums);
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

void tercet::storeRows(KernelBuilder &b, PackedMatmulOp op, Value result,
                       Value token, Value rowGroup, int64_t firstRow) {
  Value row = b.addIndex(b.mulIndex(rowGroup, kRowGroup), firstRow);
  vector::StoreOp::create(b, result, op.getOuts(), ValueRange{token, row});
}

void tercet::storeRescaled(KernelBuilder &b, PackedMatmulOp op, Value exact,
                           Value token, Value rowGroup, int64_t firstRow) {
  auto floats = cast<VectorType>(exact.getType()).clone(b.getF32Type());
  Value factor = b.div(b.loadScalar(op.getScales(), rowGroup),
                       b.loadScalar(op.getScale(), token));
  Value result = b.mul(arith::SIToFPOp::create(b, floats, exact),
                       vector::BroadcastOp::create(b, floats, factor));
  storeRows(b, op, result, token, rowGroup, firstRow);
}

void tercet::populatePackedMatmulPatterns(RewritePatternSet &patterns,
                                          KernelOptions options) {
  patterns.add<KernelPattern<PackedMatmulOp>>(
      patterns.getContext(),
      +[](PackedMatmulOp op, KernelBuilder &b) {
        if (op.getLayout().usesTables())
          emitLookupMatmul(op, b);
        else
          PackedMatmulKernel(op, b).emit();
      },
      options);
}
