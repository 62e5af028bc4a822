// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products of tiles: two rows by two tokens of an instruction, and the blocks
// of a matrix unit.

#include "compiler/Conversion/LowerKernels/PackedMatmulKernel.h"

#include "mlir/Dialect/Utils/IndexingUtils.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

using Values = KernelBuilder::Values;

/// Tokens that are multiplied before their sums are rescaled (Sapphire Rapids).
static constexpr int64_t kBlockTokens = 128;

/// Windows of an item, which share the codes that are unpacked for them.
static constexpr int64_t kBlockWindows = 64;

/// Columns that are multiplied while the next ones are unpacked. Fewer read and
/// write sums more often, more leave a larger part of the first ones alone (on
/// an Intel core with AMX, K = 2560: 320 columns 1300, 512 and 640 1350 and
/// 1290, all of them 1010 GMAC/s).
static constexpr int64_t kMaxBlockColumns = 640;

/// Blocks of columns are equally wide; where K has no such part, all of it is
/// one.
int64_t PackedMatmulKernel::getBlockColumns() {
  int64_t fewest = llvm::divideCeil(numColumns, kMaxBlockColumns);
  for (int64_t blocks = fewest; blocks < 2 * fewest; ++blocks)
    if (numColumns % blocks == 0 && numColumns / blocks % kPanelColumns == 0 &&
        numColumns / blocks % cell.columns == 0)
      return numColumns / blocks;
  return numColumns;
}

/// Where the columns of the windows of an item follow each other: the first
/// bytes of the worker's scratch.
Value PackedMatmulKernel::getWindows(Value scratch) {
  return b.view(MemRefType::get({kBlockWindows, numColumns}, b.getI8Type()),
                scratch, 0);
}

/// The worker's scratch gets windows, the codes of every plane of two blocks of
/// columns, and the sums of some tokens. A strip is one plane.
void PackedMatmulKernel::emitDotBlocks() {
  int64_t numRowGroups = isStrip ? 1 : numPlanes;
  int64_t columns = getBlockColumns(), numBlocks = numColumns / columns;
  int64_t numVectors =
      llvm::divideCeil(columns, kPanelColumns) * kPanelColumns / kStep;
  auto codesType =
      MemRefType::get({numRowGroups, numVectors, 64}, b.getI8Type());
  auto accType =
      MemRefType::get({numRowGroups, kBlockTokens, kRowGroup}, b.getI32Type());
  int64_t codesSize = codesType.getNumElements();
  int64_t allCodesSize = std::min<int64_t>(numBlocks, 2) * codesSize;
  int64_t windowsSize = isMatrix() ? 0 : kBlockWindows * numColumns;
  Value scratch = b.workerBytes(windowsSize + allCodesSize +
                                accType.getNumElements() * sizeof(int32_t));
  Value acc = b.view(accType, scratch, windowsSize + allCodesSize);
  auto codesOf = [&](Value block) {
    return b.view(
        codesType, scratch,
        b.addIndex(b.mulIndex(b.remIndex(block, 2), codesSize), windowsSize));
  };
  int64_t numCells = columns / cell.columns;

  Value none = b.index(0);
  auto unpackFirst = [&] {
    b.loop(none, b.index(numCells), 1, [&](Value index) {
      unpackCell(index, cell.columns, codesOf(none), none, columns);
    });
    if (int64_t rest = columns % cell.columns)
      unpackCell(b.index(numCells), rest, codesOf(none), none, columns);
  };
  if (numBlocks == 1) {
    clearOverlap(codesOf(none), columns);
    unpackFirst();
  }
  Value q = isMatrix() ? Value(op.getQ()) : getWindows(scratch);
  Value tokens = isMatrix() ? countTokens() : numWindows;
  b.loop(none, tokens, kBlockTokens, [&](Value first) {
    Value count = b.minIndex(b.subIndex(tokens, first), b.index(kBlockTokens));
    if (numBlocks > 1)
      unpackFirst();
    auto multiply = [&](Value block) {
      return DotBlockOp::create(b, q, first, b.mulIndex(block, columns), count,
                                codesOf(block), acc);
    };
    Value last = b.index(numBlocks - 1);
    if (numBlocks > 1)
      b.loop(none, last, 1, [&](Value block) {
        Value next = b.addIndex(block, 1);
        Value codes = codesOf(next);
        DotBlockOp product = multiply(block);
        product.setWork(numCells);
        OpBuilder::InsertionGuard guard(b);
        b.setInsertionPointToStart(&product.getMeanwhile().emplaceBlock());
        Value index = product.getMeanwhile().addArgument(b.getIndexType(),
                                                         product.getLoc());
        Value first = b.mulIndex(next, numCells);
        unpackCell(b.addIndex(first, index), cell.columns, codes, first,
                   columns);
      });
    multiply(last);
    b.loop(none, count, 1, [&](Value i) {
      Value number = b.addIndex(first, i);
      if (!isMatrix())
        number = b.addIndex(firstWindow, number);
      Values token = locate(number, numTokenDims);
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

/// Items: blocks of windows, which are copied to have their columns in a row.
void PackedMatmulKernel::emitWindowBlocks(Value count,
                                          llvm::function_ref<void()> emitRows) {
  Value numItems = b.ceilDivIndex(count, b.index(kBlockWindows));
  b.parallel(numItems, [&](Value item) {
    firstWindow = b.mulIndex(item, kBlockWindows);
    numWindows =
        b.minIndex(b.subIndex(count, firstWindow), b.index(kBlockWindows));
    copyWindows();
    emitRows();
  });
}

void PackedMatmulKernel::copyWindows() {
  Value windows = getWindows(b.workerBytes(kBlockWindows * numColumns));
  SmallVector<int64_t> strides = computeStrides(columnDims);
  b.loop(b.index(0), numWindows, 1, [&](Value i) {
    Values token = locate(b.addIndex(firstWindow, i), numTokenDims);
    int64_t left = columnDims.back();
    for (int64_t column = 0, size; column < numColumns; column += size) {
      size = std::min<int64_t>(llvm::bit_floor<uint64_t>(left), 64);
      left = left == size ? columnDims.back() : left - size;
      Values place(token);
      for (int64_t index : delinearize(column, strides))
        place.push_back(b.index(index));
      Value bytes = vector::LoadOp::create(
          b, VectorType::get(size, b.getI8Type()), op.getQ(), place);
      vector::StoreOp::create(b, bytes, windows,
                              ValueRange{i, b.index(column)});
    }
  });
}

/// The last panel may overlap the one before: its first vectors are zero.
static int64_t getNumOverlapping(int64_t columns) {
  constexpr int64_t kPanelVectors = kPanelColumns / kStep;
  int64_t rest = columns / kStep % kPanelVectors;
  return rest ? kPanelVectors - rest : 0;
}

void PackedMatmulKernel::clearOverlap(Value codes, int64_t columns) {
  int64_t whole = columns / kPanelColumns * kPanelColumns / kStep;
  auto type = cast<MemRefType>(codes.getType());
  for (int64_t plane = 0; plane < type.getDimSize(0); ++plane)
    for (int64_t i = 0; i < getNumOverlapping(columns); ++i)
      for (int64_t part : getAllParts())
        storeCodes(b.splatInt(0, bytes()), codes, plane, b.index(whole + i),
                   part);
}

void PackedMatmulKernel::storeCodes(Value vector, Value codes, int64_t plane,
                                    Value row, int64_t part) {
  vector::StoreOp::create(
      b, vector, codes,
      ValueRange{b.index(plane), row, b.index(part * kStep * lanes)});
}

/// The first columns of a cell, to the codes of a block of `columns` that
/// begins with `firstCell`: the vectors of each plane one after the other.
void PackedMatmulKernel::unpackCell(Value index, int64_t cellColumns,
                                    Value codes, Value firstCell,
                                    int64_t columns) {
  int64_t whole = columns / kPanelColumns * kPanelColumns / kStep;
  int64_t numOverlapping = getNumOverlapping(columns);
  auto parts = getAllParts();
  auto unpackStep = [&](CellRange step, ArrayRef<Values> fields,
                        MutableArrayRef<Value>) {
    int64_t endPlane = isStrip ? step.end / kStep : numPlanes;
    for (int64_t plane = isStrip ? step.begin / kStep : 0; plane < endPlane;
         ++plane) {
      // The planes of a strip are groups of columns.
      Value row = b.subIndex(step.index, b.mulIndex(firstCell, cell.steps));
      if (isStrip)
        row = b.addIndex(b.mulIndex(row, numPlanes), plane);
      if (numOverlapping)
        row = b.addIndex(row, b.select(b.isLess(row, b.index(whole)),
                                       b.index(0), b.index(numOverlapping)));
      for (int64_t part : parts) {
        Value vector = plane < getNumFields()
                           ? UnpackOp::create(b, fields[part][0], plane,
                                              /*inPlace=*/false)
                                 .getResult()
                           : fields[part][1];
        storeCodes(vector, codes, isStrip ? 0 : plane, row, part);
      }
    }
  };
  if (cellColumns == cell.columns)
    prefetchCell(index, cellColumns);
  forEachStep({index, 0, cellColumns}, parts, /*sums=*/{}, unpackStep);
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
