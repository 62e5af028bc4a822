// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The ternary GEMV and GEMM by dot products. One item is a tile of rows, or one
// of the strips of 16 rows that are left beyond the last tile; all tokens. 16
// rows are in the lanes of a 64-byte vector whose bytes several planes share:
// groups of rows in a tile, of columns in a strip (docs/packings.md). Sums are
// exact in integers over all of K, or over a group of columns with scales of
// its own: then they become one fma of each row's chain. Everything that a
// tuner may change comes from the layout on the op.

#include "compiler/Conversion/LowerKernels/PackedMatmulKernel.h"

#include "mlir/Dialect/SCF/IR/SCF.h"

#include <numeric>

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

using Values = KernelBuilder::Values;

/// Tokens and parts of a strip's register tile where q is a lane: one for each
/// plane. Where it is shuffled, each plane's waits in a register of its own.
static constexpr int64_t kMaxStripTokens = 4, kMaxStripParts = 2;
static constexpr int64_t kMaxShuffledStripTokens = 2;

/// Tokens of a register tile while t5 is unpacked: its tables and masks take a
/// third of 32 registers, and leave 5 planes x 3 tokens if one plane of codes
/// is alive at a time.
static constexpr int64_t kMaxTokensOfT5 = 3;

/// Tokens from which on blocks are faster than dot products of vectors
/// (Sapphire Rapids).
static constexpr int64_t kMinBlockTokens = 8;

/// Tokens from which on it pays to unpack a tile beforehand; i2, where a dot
/// product is one instruction and takes codes in place (Emerald Rapids).
static constexpr int64_t kMinExpandedTokens = 24, kMinExpandedTokensI2 = 96;

/// Columns whose codes, a byte each, a first-level cache holds beside q: 16 KB
/// of i2. Chains end there anyway. A register tile of few tokens asks for codes
/// faster than a second-level cache gives them (AVX2 on Zen 4 loses 40 %,
/// AVX-VNNI on Zen 5 25 %).
static constexpr int64_t kMaxPanelColumns = 256, kMaxTokensOfPanel = 4;

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
  if (isMatrix())
    return b.parallel({{numTiles, emitTile}, {numStrips, emitStrip}});
  emitWindows([&] {
    b.loop(b.index(0), b.index(numTiles), 1, emitTile);
    b.loop(b.index(0), b.index(numStrips), 1, emitStrip);
  });
}

/// Positions of windows, of which there are many, of few rows of weights. An
/// item is one line of them, or a block.
void PackedMatmulKernel::emitWindows(llvm::function_ref<void()> emitRows) {
  auto countItems = [&](int64_t numDims) {
    Value count = b.index(1);
    for (int64_t i = 0; i < numDims; ++i)
      count = b.mulIndex(count, b.dim(op.getQ(), i));
    return count;
  };
  if (usesDotBlocks())
    return emitWindowBlocks(countItems(numTokenDims), emitRows);
  b.parallel(countItems(numTokenDims - 1), [&](Value line) {
    outerToken = locate(line, numTokenDims - 1);
    emitRows();
  });
}

/// Whether a line of windows has one scale.
bool PackedMatmulKernel::sharesScale() {
  auto type = cast<MemRefType>(op.getScale().getType());
  return !isMatrix() && !usesDotBlocks() &&
         type.getStridesAndOffset().first.back() == 0;
}

/// The first `numDims` indices of the tokens with this number.
Values PackedMatmulKernel::locate(Value number, int64_t numDims) {
  Values indices(numDims);
  for (int64_t i = numDims - 1; i >= 0; --i) {
    Value size = i > 0 ? b.dim(op.getQ(), i) : Value();
    indices[i] = size ? b.remIndex(number, size) : number;
    if (size)
      number = b.divIndex(number, size);
  }
  return indices;
}

/// The indices of a token, of which `token` is the last, and some more.
Values PackedMatmulKernel::at(Value token, ValueRange more) {
  Values indices(outerToken);
  indices.push_back(token);
  llvm::append_range(indices, more);
  return indices;
}

/// Of column + offset, where `column` is the first of a cell or a step and
/// `offset` a multiple of 4.
Values PackedMatmulKernel::getPlaceInQ(Value token, Value column,
                                       int64_t offset) {
  // Within a row of columns an offset stays one.
  bool staysInRow = hasWholeCells();
  if (!staysInRow)
    column = b.addIndex(column, offset);
  Values indices;
  for (int64_t size : llvm::reverse(columnDims.drop_front())) {
    indices.push_back(b.remIndex(column, size));
    column = b.divIndex(column, size);
  }
  indices.push_back(column);
  if (staysInRow && offset)
    indices.front() = b.addIndex(indices.front(), offset);
  std::reverse(indices.begin(), indices.end());
  return at(token, indices);
}

void PackedMatmulKernel::emitItem(Value itemAddress, Value itemRowGroup,
                                  bool itemIsStrip) {
  address = itemAddress;
  firstRowGroup = itemRowGroup;
  isStrip = itemIsStrip;
  cell = isStrip ? layout.getStripCell() : layout.getCell();
  lineFactors.clear();
  if (sharesScale() && !op.getGroup())
    for (int64_t i = 0; i < (isStrip ? 1 : numPlanes); ++i)
      lineFactors.push_back(
          getFactor(b, op, at(b.index(0)), b.addIndex(firstRowGroup, i)));
  bool usesDotBlocks = this->usesDotBlocks();
  if (usesDotBlocks && !isMatrix())
    return emitDotBlocks();
  if (!usesDotBlocks && (isStrip || staysPacked()))
    return emitTokens(/*prefetchesNext=*/!isStrip && isMatrix());
  Value hasMany = arith::CmpIOp::create(
      b, arith::CmpIPredicate::uge, countTokens(),
      b.index(usesDotBlocks ? kMinBlockTokens : getMinExpandedTokens()));
  auto choice = scf::IfOp::create(b, hasMany, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard insertion(b);
  b.setInsertionPointToStart(choice.thenBlock());
  if (usesDotBlocks) {
    emitDotBlocks();
  } else {
    emitPanels();
    expands = false;
  }
  b.setInsertionPointToStart(choice.elseBlock());
  emitTokens();
}

/// Whether for many tokens too. Tiles of two rows are made of two steps, whose
/// codes, if they were four vectors each, would not find registers.
bool PackedMatmulKernel::staysPacked() const {
  return layout.getPacking() == Packing::I2 &&
         (b.options.dotsTiles || (isMaskedOnly() && b.options.masksBesideDots));
}

int64_t PackedMatmulKernel::getMinExpandedTokens() const {
  return isMaskedOnly() ? kMinExpandedTokensI2 : kMinExpandedTokens;
}

/// Panels are equally wide; where K has no such part, all of it is one.
int64_t PackedMatmulKernel::getPanelColumns() {
  bool isWholeDot = layout.getChain() == 1 && lanes == kRowGroup;
  if (isWholeDot || layout.getTokens() > kMaxTokensOfPanel || op.getGroup())
    return numColumns;
  int64_t fewest = llvm::divideCeil(numColumns, kMaxPanelColumns);
  for (int64_t panels = fewest; panels < 2 * fewest; ++panels)
    if (numColumns % (panels * cell.columns) == 0)
      return numColumns / panels;
  return numColumns;
}

/// Unpacks some columns and multiplies them with those of all tokens, then the
/// next ones. In the meantime the sums are where the results will be.
void PackedMatmulKernel::emitPanels() {
  expands = true;
  panelColumns = getPanelColumns();
  Cell packed = cell;
  int64_t cells = llvm::divideCeil(panelColumns, packed.columns);
  if (isWholePanel()) {
    expandPanel(b.index(0));
    emitTokens(/*prefetchesNext=*/true);
  } else {
    forEachToken([&] {
      auto parts = getAllParts();
      storeSums(zeros(parts, ints()), parts);
    });
    b.loop(b.index(0), b.index(numColumns / panelColumns), 1, [&](Value panel) {
      expandPanel(b.mulIndex(panel, cells));
      emitTokens();
      expanded = {};
      cell = packed;
    });
    forEachToken([&] {
      auto parts = getAllParts();
      rescaleSums(loadSums(parts), parts);
    });
  }
  expanded = {};
  cell = packed;
}

/// The rows are in the cache for every block of tokens but the first.
void PackedMatmulKernel::emitTokens(bool prefetchesNext) {
  int64_t tokens = layout.getTokens();
  if (keepsTables())
    tokens = std::min(tokens, kMaxTokensOfT5);
  if (b.options.multipliesLanes && isStrip)
    tokens = std::min(tokens, b.options.dotsLanes ? kMaxStripTokens
                                                  : kMaxShuffledStripTokens);
  b.blockedLoop(countTokens(), tokens, [&](Value token, int64_t count) {
    if (prefetchesNext && count == tokens && count > 1)
      prefetchNextTile(token, count);
    emitBlock(token, count);
  });
}

/// Many tokens keep a core so long with one tile that nothing would ask memory
/// for the next one: each block asks for its part.
void PackedMatmulKernel::prefetchNextTile(Value token, int64_t count) {
  if (!layout.getPrefetch())
    return;
  int64_t size = layout.getTileBytes(numColumns);
  int64_t numLines = llvm::divideCeil(size, 64);
  Value numTokens = countTokens();
  auto getLine = [&](Value token) {
    return b.divIndex(b.mulIndex(token, numLines), numTokens);
  };
  Value begin = getLine(token);
  Value end = b.select(b.isLess(numTokens, b.index(kMinExpandedTokens)), begin,
                       getLine(b.addIndex(token, count)));
  Value next = b.addIndex(address, size);
  b.loop(begin, end, 1, [&](Value line) {
    b.prefetch(op.getWeights(), b.addIndex(next, b.mulIndex(line, 64)));
  });
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
  if (b.options.dotsLanes && isStrip && cell.steps > 1)
    partsAtOnce = std::min(partsAtOnce, kMaxStripParts);
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
  if (expanded && !isWholePanel())
    return storeSums(
        sumColumns(firstStep, panelColumns, parts, unroll, loadSums(parts)),
        parts);
  rescaleSums(
      sumColumns(b.index(0), numColumns, parts, unroll, zeros(parts, ints())),
      parts);
}

void PackedMatmulKernel::rescaleSums(ValueRange sums, ArrayRef<int64_t> parts) {
  forEachSum(sums, parts, /*group=*/{},
             [&](int64_t part, int64_t rowGroup, int64_t token, Value exact) {
               storeRescaled(b, op, exact, at(b.addIndex(firstToken, token)),
                             b.addIndex(firstRowGroup, rowGroup), part * lanes,
                             lineFactors.empty() ? Value()
                                                 : lineFactors[rowGroup]);
             });
}

void PackedMatmulKernel::forEachToken(llvm::function_ref<void()> body) {
  b.loop(b.index(0), countTokens(), 1, [&](Value token) {
    firstToken = token;
    numTokens = 1;
    body();
  });
}

/// Where the result of each of the sums is, `getNumSums(parts)`.
SmallVector<Values> PackedMatmulKernel::getPlaces(ArrayRef<int64_t> parts) {
  SmallVector<Values> places;
  for (int64_t part : parts)
    for (int64_t plane = 0; plane < numPlanes; ++plane)
      for (int64_t token = 0; token < numTokens; ++token)
        places.push_back(at(
            b.addIndex(firstToken, token),
            b.addIndex(b.mulIndex(b.addIndex(firstRowGroup, plane), kRowGroup),
                       part * lanes)));
  return places;
}

Values PackedMatmulKernel::loadSums(ArrayRef<int64_t> parts) {
  Values sums;
  for (const Values &place : getPlaces(parts))
    sums.push_back(b.bitcast(
        ints(), vector::LoadOp::create(b, floats(), op.getOuts(), place)));
  return sums;
}

void PackedMatmulKernel::storeSums(ValueRange sums, ArrayRef<int64_t> parts) {
  for (auto [sum, place] : llvm::zip_equal(sums, getPlaces(parts)))
    vector::StoreOp::create(b, b.bitcast(floats(), sum), op.getOuts(), place);
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
      Values index = at(b.addIndex(firstToken, token));
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
/// registers, and take turns. smlal adds to what the one before it has added
/// without waiting: registers are for what it needs beside them.
int64_t PackedMatmulKernel::getNumSets(ValueRange set, int64_t unroll) {
  if (layout.getChain() > 1 && b.options.multipliesLanes)
    return 1;
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
        Value distance =
            getDistance(b.subIndex(index, firstCell), cellsOfStream, streams);
        for (int64_t u = 0; u < cellsAtOnce; ++u) {
          CellRange range = {
              b.addIndex(index, u % streams * cellsOfStream + u / streams), 0,
              cell.columns};
          range.prefetch = distance;
          if (sharesQ)
            range.laneOfQ = {u % kLanesOfQ, kLanesOfQ};
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

/// At the end of its part of a tile a stream asks for its part of the next one:
/// what follows is of another stream, which has read it.
Value PackedMatmulKernel::getDistance(Value cellOfStream, int64_t cellsOfStream,
                                      int64_t streams) {
  int64_t distance = layout.getPrefetch();
  int64_t cellsAhead = llvm::divideCeil(distance, cell.bytes);
  if (streams == 1 || op.getGroup() || isStrip || cellsAhead >= cellsOfStream)
    return b.index(distance);
  int64_t beyond = layout.getTileBytes(numColumns) - cellsOfStream * cell.bytes;
  return b.select(b.isLess(cellOfStream, b.index(cellsOfStream - cellsAhead)),
                  b.index(distance), b.index(distance + beyond));
}

/// What is so many bytes beyond the first columns of a cell.
void PackedMatmulKernel::prefetchCell(Value index, int64_t columns,
                                      Value distance) {
  if (!layout.getPrefetch())
    return;
  if (!distance)
    distance = b.index(layout.getPrefetch());
  for (int64_t line = 0; line < cell.getBytes(columns); line += 64)
    b.prefetch(op.getWeights(),
               b.addIndex(b.addIndex(address, distance),
                          b.addIndex(b.mulIndex(index, cell.bytes), line)));
}

void PackedMatmulKernel::emitCell(CellRange range, ArrayRef<int64_t> parts,
                                  MutableArrayRef<Value> sums) {
  if (isGemv())
    prefetchCell(range.index, range.end, range.prefetch);
  auto emit = [&](CellRange step, ArrayRef<Values> fields,
                  MutableArrayRef<Value> sums) {
    emitStep(step, fields, sums);
  };
  if (!takesPartsInTurn() || cell.steps > 1)
    return forEachStep(range, parts, sums, emit);
  int64_t sumsOfPart = sums.size() / parts.size();
  for (size_t i = 0; i < parts.size(); ++i)
    forEachStep(range, parts.slice(i, 1),
                sums.slice(i * sumsOfPart, sumsOfPart), emit);
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
    int64_t offset = isStrip ? plane * kStep : 0;
    bool isWhole = isStrip && step.end - step.begin == kLanesOfQ * kStep;
    std::optional<LaneOfQ> of = step.laneOfQ;
    if (isWhole)
      of = {plane - firstPlane, kLanesOfQ};
    Value row = b.addIndex(firstToken, token);
    if (!b.options.dotsLanes || !of || !isMatrix())
      return broadcastQ(row, column, offset);
    Value first =
        b.subIndex(b.addIndex(column, offset), b.index(of->lane * kStep));
    return broadcastLaneOfQ({row, first}, *of);
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
  if (layout.getPlaneMajor() || keepsTables()) {
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
      Values index = at(b.addIndex(firstToken, token));
      if (group)
        index.push_back(group);
      Value sumOfQ = splat(b.loadScalar(op.getSum(), index), ints());
      for (auto [rowGroup, sum] : llvm::enumerate(planeSums))
        emit(part, rowGroup, token, arith::SubIOp::create(b, sum, sumOfQ));
    }
}

void tercet::storeRows(KernelBuilder &b, PackedMatmulOp op, Value result,
                       ValueRange token, Value rowGroup, int64_t firstRow) {
  Values place(token);
  place.push_back(b.addIndex(b.mulIndex(rowGroup, kRowGroup), firstRow));
  vector::StoreOp::create(b, result, op.getOuts(), place);
}

Value tercet::getFactor(KernelBuilder &b, PackedMatmulOp op, ValueRange token,
                        Value rowGroup) {
  return b.div(b.loadScalar(op.getScales(), rowGroup),
               b.loadScalar(op.getScale(), token));
}

void tercet::storeRescaled(KernelBuilder &b, PackedMatmulOp op, Value exact,
                           ValueRange token, Value rowGroup, int64_t firstRow,
                           Value factor) {
  auto floats = cast<VectorType>(exact.getType()).clone(b.getF32Type());
  if (!factor)
    factor = getFactor(b, op, token, rowGroup);
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
