// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products of tiles: two rows by two tokens of an instruction, and the blocks
// of a matrix unit.

#include "compiler/Conversion/LowerKernels/PackedMatmulKernel.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

using Values = KernelBuilder::Values;

/// Tokens that are multiplied before their sums are rescaled (Sapphire Rapids).
static constexpr int64_t kBlockTokens = 128;

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
