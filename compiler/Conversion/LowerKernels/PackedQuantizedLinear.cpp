// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The quantised head. One item is a tile of rows, all tokens; 16 rows are in
// the lanes of a vector (docs/packings.md). Both digits of an activation are
// multiplied with the codes of a group in int32, exactly; the sums of a group
// become one fma of each row's chain.

#include "compiler/Conversion/LowerKernels/BlockWeights.h"

#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

using Values = KernelBuilder::Values;

namespace {

/// Columns of a step of the dot product.
constexpr int64_t kStep = 4;
/// Codes of 16 rows in a step.
constexpr int64_t kVectorBytes = kStep * kRowGroup;
/// Steps whose digits are one vector, where a dot product takes a lane of it.
constexpr int64_t kLanesOfDigits = 4;
/// Vectors of bytes that are loaded before the first of them is multiplied: an
/// in-order core waits for those that come just before their dot products.
constexpr int64_t kBytesAhead = 4;

class PackedQuantizedLinearKernel {
public:
  PackedQuantizedLinearKernel(PackedQuantizedLinearOp op, KernelBuilder &b)
      : op(op), b(b), layout(op.getLayout()),
        info(getCodeFormatInfo(layout.getFormat())),
        numColumns(getNumColumns(op.getHigh())),
        numRows(getNumColumns(op.getOuts())), lanes(layout.getLanes()),
        rowGroups(layout.getTileRows() / kRowGroup) {}

  void emit() {
    Value numTiles = b.index(llvm::divideCeil(numRows, layout.getTileRows()));
    b.parallel(numTiles, [&](Value item) {
      tile = item;
      b.blockedLoop(
          b.dim(op.getHigh(), 0), layout.getTokens(),
          [&](Value token, int64_t count) { emitTokens(token, count); });
    });
  }

private:
  /// Accumulators of `parts` vectors of a tile by part, token and digit.
  struct Sums {
    Value &of(int64_t part, int64_t token, int64_t digit) {
      return values[(part * numTokens + token) * 2 + digit];
    }
    int64_t firstRow, numTokens;
    Values values;
  };

  void emitTokens(Value token, int64_t count);
  Values emitGroup(Value group, int64_t columns, ValueRange chains);
  Values sumGroup(Value address, Value column, int64_t columns);
  void emitChunks(Value address, Value column, ArrayRef<int64_t> parts,
                  Sums &sums);
  void emitBytes(Value address, Value column, Sums &sums);
  void prefetchRows(Value address, int64_t first, int64_t end);
  Value loadStep(Value address, int64_t step, int64_t row);
  Values loadDigits(Value column, int64_t step);
  Value addDot(Value sum, Value codes, Value digits);

  /// Whether codes are signed bytes, less their zero.
  bool isCentred() const {
    return info.bits == 8 && b.options.maxDotCode == 127;
  }
  /// Whether codes are whole bytes, and their digits lanes.
  bool takesBytesAhead() const {
    return b.options.dotsLanes && info.planes() == 1;
  }
  /// Vectors of rows that are summed at a time. The fields of several tokens'
  /// codes are taken apart in the registers of some.
  int64_t getParts() const {
    bool hasFewRegisters =
        b.options.dotsLanes && info.planes() > 2 && numTokens > 1;
    return hasFewRegisters ? std::max<int64_t>(1, layout.getParts() / 2)
                           : layout.getParts();
  }
  /// As many as there are lanes of digits in a vector.
  int64_t getChunksAtOnce() const {
    return b.options.dotsLanes ? kLanesOfDigits / info.planes() : 1;
  }

  /// Of all rows.
  int64_t getChunkBytes() const { return rowGroups * info.chunkSize(); }

  /// Where a row's codes are in a chunk of a tile.
  int64_t getOffset(int64_t row) {
    return row / kRowGroup * info.chunkSize() + row % kRowGroup * kStep;
  }

  VectorType bytes() { return VectorType::get(kStep * lanes, b.getI8Type()); }
  VectorType ints() { return VectorType::get(lanes, b.getI32Type()); }

  Value splatByte(int64_t value) {
    return arith::ConstantOp::create(
        b, DenseElementsAttr::get(bytes(), b.getI8IntegerAttr(value)));
  }

  /// Digits of four columns in every lane: those of a lane of `numLanes` times
  /// four from `column` on.
  Value broadcastDigits(Value digits, Value token, Value column,
                        int64_t numLanes, int64_t lane) {
    Value vector = vector::LoadOp::create(
        b, VectorType::get(numLanes * kStep, b.getI8Type()), digits,
        ValueRange{token, column});
    Value word = vector::ExtractOp::create(
        b, b.bitcast(VectorType::get(numLanes, b.getI32Type()), vector), lane);
    return b.bitcast(bytes(), vector::BroadcastOp::create(b, ints(), word));
  }

  PackedQuantizedLinearOp op;
  KernelBuilder &b;
  CodeLayoutAttr layout;
  CodeFormatInfo info;
  int64_t numColumns, numRows, lanes, rowGroups;

  Value tile;
  Value firstToken;
  int64_t numTokens;
};

} // namespace

/// All of K for some tokens: a chain for each row group and token, in this
/// order.
void PackedQuantizedLinearKernel::emitTokens(Value token, int64_t count) {
  firstToken = token;
  numTokens = count;
  int64_t numGroups = numColumns / info.group;
  Values chains = b.loop(b.index(0), b.index(numGroups), 1,
                         Values(rowGroups * numTokens, b.zeros()),
                         [&](Value group, ValueRange carried) {
                           return emitGroup(group, info.group, carried);
                         });
  if (int64_t rest = numColumns % info.group)
    chains = emitGroup(b.index(numGroups), rest, chains);

  for (int64_t r = 0; r < rowGroups; ++r) {
    Value row =
        b.addIndex(b.mulIndex(tile, layout.getTileRows()), r * kRowGroup);
    for (int64_t t = 0; t < numTokens; ++t) {
      Value index = b.addIndex(firstToken, t);
      Value scale = b.broadcast(b.loadScalar(op.getScale(), index));
      Value y = b.mul(chains[r * numTokens + t], scale);
      if (numRows % layout.getTileRows() == 0)
        b.store(y, op.getOuts(), {index, row});
      else
        b.storeFirst(y, b.subIndex(b.index(numRows), row), op.getOuts(),
                     {index, row});
    }
  }
}

/// Adds a group's products to the chains.
Values PackedQuantizedLinearKernel::emitGroup(Value group, int64_t columns,
                                              ValueRange chains) {
  int64_t tileRows = layout.getTileRows();
  Value address =
      b.addIndex(b.mulIndex(tile, layout.getTileSize(numColumns)),
                 b.mulIndex(group, layout.getGroupSize(info.group)));
  Values sums = sumGroup(b.addIndex(address, tileRows * info.scaleSize()),
                         b.mulIndex(group, info.group), columns);

  Values next;
  for (int64_t r = 0; r < rowGroups; ++r) {
    Value offset = b.addIndex(address, r * kRowGroup * info.scaleSize());
    Value scale, minimum;
    if (info.hasMinimum) {
      Value both = b.loadBytes(b.ints(), op.getWeights(), offset);
      scale = b.bitcast(b.floats(), b.shiftLeft(both, 16));
      minimum = b.bitcast(b.floats(),
                          b.andInt(both, b.splatInt(int32_t(0xffff0000))));
    } else {
      auto halves = VectorType::get(kRowGroup, b.getI16Type());
      Value narrow = b.loadBytes(halves, op.getWeights(), offset);
      Value wide = arith::ExtUIOp::create(b, b.ints(), narrow);
      scale = b.bitcast(b.floats(), b.shiftLeft(wide, 16));
    }
    for (int64_t t = 0; t < numTokens; ++t) {
      Value sum = sums[r * numTokens + t];
      Value sumOfQ =
          b.loadScalar(op.getSums(), {b.addIndex(firstToken, t), group});
      Value chain = chains[r * numTokens + t];
      auto toFloats = [&](Value ints) -> Value {
        return arith::SIToFPOp::create(b, b.floats(), ints);
      };
      if (info.hasMinimum) {
        chain = b.fma(toFloats(sum), scale, chain);
        chain = b.fma(toFloats(b.broadcast(sumOfQ)), minimum, chain);
      } else {
        Value exact = sum;
        if (!isCentred()) {
          Value zeros = arith::MulIOp::create(
              b, sumOfQ,
              arith::ConstantIntOp::create(b, b.getI32Type(), info.zero()));
          exact = arith::SubIOp::create(b, sum, b.broadcast(zeros));
        }
        chain = b.fma(toFloats(exact), scale, chain);
      }
      next.push_back(chain);
    }
  }
  return next;
}

/// sum c * q of a group, for each row group and token, of as many vectors at a
/// time as the layout says: the group stays in the first-level cache.
Values PackedQuantizedLinearKernel::sumGroup(Value address, Value column,
                                             int64_t columns) {
  int64_t numChunks = llvm::divideCeil(columns, info.chunkColumns());
  int64_t parts = getParts();
  Value zero = arith::ConstantOp::create(b, b.getZeroAttr(ints()));
  Value eight = arith::ConstantOp::create(
      b, DenseElementsAttr::get(ints(), b.getI32IntegerAttr(8)));
  Values totals(rowGroups * numTokens, b.splatInt(0));
  for (int64_t firstRow = 0; firstRow < layout.getTileRows();
       firstRow += parts * lanes) {
    Sums sums = {firstRow, numTokens, Values(parts * numTokens * 2, zero)};
    // A loop, not straight code: LLVM would start all of its loads at once.
    sums.values =
        b.loop(b.index(0), b.index(numChunks), getChunksAtOnce(), sums.values,
               [&](Value chunk, ValueRange carried) {
                 Sums next = {firstRow, numTokens, llvm::to_vector(carried)};
                 Value first =
                     b.addIndex(address, b.mulIndex(chunk, getChunkBytes()));
                 Value firstColumn =
                     b.addIndex(column, b.mulIndex(chunk, info.chunkColumns()));
                 auto all = llvm::to_vector(llvm::seq<int64_t>(0, parts));
                 if (takesBytesAhead())
                   emitBytes(first, firstColumn, next);
                 else if (!b.options.dotsLanes)
                   emitChunks(first, firstColumn, all, next);
                 else
                   for (int64_t part : all)
                     emitChunks(first, firstColumn, part, next);
                 return next.values;
               });
    for (int64_t part = 0; part < parts; ++part)
      for (int64_t t = 0; t < numTokens; ++t) {
        int64_t row = firstRow + part * lanes;
        Value high = arith::ShLIOp::create(b, sums.of(part, t, 0), eight);
        Value sum = b.addInt(high, sums.of(part, t, 1));
        Value &total = totals[row / kRowGroup * numTokens + t];
        total = lanes == kRowGroup ? sum
                                   : vector::InsertStridedSliceOp::create(
                                         b, sum, total, row % kRowGroup, 1)
                                         .getResult();
      }
  }
  return totals;
}

/// Whole bytes of codes: one dot product for each plane, part, token and digit.
/// Planes are the outer loop: the digits of one are alive at a time. Where they
/// are lanes of one vector, there is one part after the other.
void PackedQuantizedLinearKernel::emitChunks(Value address, Value column,
                                             ArrayRef<int64_t> parts,
                                             Sums &sums) {
  int64_t firstRow = sums.firstRow + parts.front() * lanes;
  int64_t endRow = sums.firstRow + (parts.back() + 1) * lanes;
  prefetchRows(address, firstRow, endRow);
  int64_t numSteps = getChunksAtOnce() * info.planes();
  int64_t stepsAtOnce = b.options.dotsLanes ? info.planes() : 1;
  for (int64_t first = 0; first < numSteps; first += stepsAtOnce) {
    auto steps = llvm::seq(first, first + stepsAtOnce);
    SmallVector<Values> digits;
    for (int64_t step : steps)
      digits.push_back(loadDigits(column, step));
    for (int64_t part : parts) {
      Values codes;
      for (int64_t step : steps)
        codes.push_back(loadStep(address, step, sums.firstRow + part * lanes));
      for (int64_t t = 0; t < numTokens; ++t)
        for (int64_t digit = 0; digit < 2; ++digit)
          for (auto [stepDigits, stepCodes] : llvm::zip_equal(digits, codes)) {
            Value &sum = sums.of(part, t, digit);
            sum = addDot(sum, stepCodes, stepDigits[2 * t + digit]);
          }
    }
  }
}

/// One dot product for each step, part, token and digit, in this order.
void PackedQuantizedLinearKernel::emitBytes(Value address, Value column,
                                            Sums &sums) {
  int64_t numParts = getParts(), numVectors = getChunksAtOnce() * numParts;
  prefetchRows(address, sums.firstRow, sums.firstRow + numParts * lanes);
  Values codes;
  for (int64_t i = 0; i < numVectors; ++i) {
    for (int64_t next = codes.size();
         next < std::min(i + kBytesAhead, numVectors); ++next)
      codes.push_back(loadStep(address, next / numParts,
                               sums.firstRow + next % numParts * lanes));
    Values digits = loadDigits(column, i / numParts);
    for (int64_t t = 0; t < numTokens; ++t)
      for (int64_t digit = 0; digit < 2; ++digit) {
        Value &sum = sums.of(i % numParts, t, digit);
        sum = addDot(sum, codes[i], digits[2 * t + digit]);
      }
  }
}

void PackedQuantizedLinearKernel::prefetchRows(Value address, int64_t first,
                                               int64_t end) {
  if (numTokens > 1 || !layout.getPrefetch())
    return;
  for (int64_t chunk = 0; chunk < getChunksAtOnce(); ++chunk)
    for (int64_t row = llvm::alignTo(first, kRowGroup); row < end;
         row += kRowGroup)
      for (int64_t line = 0; line < info.chunkSize(); line += kVectorBytes)
        b.prefetch(op.getWeights(),
                   b.addIndex(address, chunk * getChunkBytes() +
                                           getOffset(row) + line +
                                           layout.getPrefetch()));
}

/// Codes of a step from a row on, less their zero if dot products take them so.
Value PackedQuantizedLinearKernel::loadStep(Value address, int64_t step,
                                            int64_t row) {
  int64_t chunk = step / info.planes();
  Value codes =
      loadCodes(b, info, op.getWeights(),
                b.addIndex(address, chunk * getChunkBytes() + getOffset(row)),
                step % info.planes(), lanes);
  if (isCentred())
    codes = arith::XOrIOp::create(b, codes, splatByte(int8_t(info.zero())));
  return codes;
}

/// Digits of a step, by token and digit.
Values PackedQuantizedLinearKernel::loadDigits(Value column, int64_t step) {
  int64_t numLanes = b.options.dotsLanes ? kLanesOfDigits : 1;
  Values digits;
  for (int64_t t = 0; t < numTokens; ++t)
    for (Value operand : {op.getHigh(), op.getLow()})
      digits.push_back(broadcastDigits(
          operand, b.addIndex(firstToken, t),
          b.addIndex(column, step / numLanes * numLanes * kStep), numLanes,
          step % numLanes));
  return digits;
}

Value PackedQuantizedLinearKernel::addDot(Value sum, Value codes,
                                          Value digits) {
  if (isCentred())
    return DotSignedOp::create(b, sum, codes, digits);
  return DotOp::create(b, ints(), sum, codes, digits,
                       /*wide=*/info.bits == 8);
}

void tercet::populatePackedQuantizedLinearPatterns(RewritePatternSet &patterns,
                                                   KernelOptions options) {
  patterns.add<KernelPattern<PackedQuantizedLinearOp>>(
      patterns.getContext(),
      +[](PackedQuantizedLinearOp op, KernelBuilder &b) {
        PackedQuantizedLinearKernel(op, b).emit();
      },
      options);
}
