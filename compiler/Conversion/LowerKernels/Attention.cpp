// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"
#include "compiler/Conversion/LowerKernels/QuantizeHead.h"

#include "compiler/Support/KVCacheLayout.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

using Values = KernelBuilder::Values;

namespace {

/// One item: a few tokens and a KV head with all its query heads, which share
/// every load of a key or value. Tokens of one sequence go through the passes
/// together: scores of 16 keys in lanes, softmax, values with d in lanes. What
/// is between the passes is in scratch, one row a token and query head:
///
///   [context rounded up to 16 | 1 / l, scale and sum of q in int8, 13 unused
///    | q in int8, 4 of d in a word]
///
/// The 16 floats behind the scores also keep the rows of a power-of-two context
/// out of each other's cache sets.
///
/// Keys and values come from memory once, in address order, which is what
/// hardware prefetchers follow: a block of them meets all tokens, query heads
/// and all of d before the next. The blocks of a head are apart, so where
/// software has to fetch what follows, whatever is loaded asks for the same
/// place in the next block.
///
/// A score block is one vector, 16 keys; a block of the cache is four of them.
class AttentionKernel {
public:
  AttentionKernel(AttentionOp op, KernelBuilder &b);
  void emit();

private:
  void emitTokens(Value firstToken, Value numTokens);
  void emitQuantizedQuery(int64_t queryHead);
  void emitScores(Value firstBlock, int64_t numBlocks, int64_t firstHead,
                  int64_t numHeads);
  Values emitFloatProducts(Value firstBlock, int64_t numBlocks,
                           int64_t firstHead, int64_t numHeads);
  Values emitIntegerProducts(Value firstBlock, int64_t numBlocks,
                             int64_t firstHead, int64_t numHeads);
  void emitSoftmax(Value queryHead);
  void emitValues(Value firstKey, Value lastKey, int64_t firstHead,
                  int64_t numHeads, int64_t firstVector, int64_t numVectors);
  void emitAllScores();
  void emitAllValues();

  /// Tokens of an item, when there are enough of them for all workers.
  static constexpr int64_t kMaxTokens = 8;
  static constexpr int64_t kMinItems = 16;
  /// Heads of a register tile: more do not fit beside several vectors each.
  static constexpr int64_t kMaxHeads = 4;
  /// Values that meet all heads before the next: small enough for the hardware
  /// prefetcher to fetch what follows while later heads read these from the
  /// first-level cache, large enough for chains to stay in registers.
  static constexpr int64_t kValueBlockSizeInBytes = 16384;

  Value visible(Value block);
  /// Column of a query head's element in a row of q and outs.
  Value queryColumn(int64_t queryHead, int64_t d);
  /// In scratch, of the current token.
  Value scratchOf(int64_t queryHead, int64_t offset) {
    return b.addIndex(rows, queryHead * rowStride + offset);
  }
  int64_t normaliserOffset() { return scoreColumns; }
  int64_t queryScaleOffset() { return scoreColumns + 1; }
  int64_t querySumOffset() { return scoreColumns + 2; }
  int64_t queryOffset() { return scoreColumns + kLanes; }

  /// Of a row of cache elements.
  bool isLineStart(int64_t element) {
    return element * layout.elementSizeInBytes % 64 == 0;
  }

  Values cacheIndices(bool value, Value offset) {
    return {slot, b.addIndex(b.blockOfCache(layout, op.getLayer(), head, value),
                             offset)};
  }
  /// Of a score block's first key in units of `size` a position, from the first
  /// block of the cache, whose blocks are layout.rowSize apart.
  Value offsetOf(Value scoreBlock, int64_t size);
  int64_t offsetOf(int64_t scoreBlock, int64_t size);
  /// Of the scales of 16 keys or values.
  Value offsetOfScales(Value firstBlock, int64_t block);
  Value loadScales(bool value, Value offset);
  /// Fetches what lies at `offset` so many vectors of keys later, in the next
  /// block at least, for the first of the heads that need it.
  void prefetchNext(bool value, Value offset, int64_t firstHead,
                    int64_t numBlocks = 1);

  /// The body is emitted once; token, position and rows are its token's.
  void forEachToken(llvm::function_ref<void()> body);
  void forEachOutput(
      llvm::function_ref<void(Value column, int64_t queryHead, int64_t lanes)>
          body);
  void forEachHeadTile(
      int64_t limit,
      llvm::function_ref<void(int64_t firstHead, int64_t numHeads)> body);

  AttentionOp op;
  KernelBuilder &b;
  KVCacheLayout layout;
  int64_t numKVHeads, headDim, groupSize, scoreColumns, rowStride;
  int64_t keysPerValueBlock;
  Value cache, scratch;
  Value head;
  Value firstToken, numTokens, slot, lastPosition; ///< of several tokens
  Value token, position, rows;                     ///< of one
};

} // namespace

static constexpr int64_t kVectorsPerBlock = kKeysPerBlock / kLanes;

AttentionKernel::AttentionKernel(AttentionOp op, KernelBuilder &b)
    : op(op), b(b), layout(op.getCache().getType()) {
  KVCacheType type = op.getCache().getType();
  numKVHeads = type.getHeads();
  headDim = type.getHeadDim();
  groupSize = getNumColumns(op.getQ()) / (numKVHeads * headDim);
  scoreColumns = llvm::alignTo(type.getCapacity(), kLanes);
  rowStride = scoreColumns + kLanes;
  if (layout.isInt8)
    rowStride += llvm::alignTo(layout.numGroups, kLanes);
  int64_t rowBytes = layout.valueSize * layout.elementSizeInBytes;
  keysPerValueBlock = std::clamp<int64_t>(
      llvm::bit_floor<uint64_t>(kValueBlockSizeInBytes / rowBytes), 1,
      kKeysPerBlock);
}

//===----------------------------------------------------------------------===//
// Addresses and loops
//===----------------------------------------------------------------------===//

/// Lanes of a block whose key is not after the token.
Value AttentionKernel::visible(Value block) {
  Value first = b.toI32(b.mulIndex(block, kLanes));
  Value keys = b.addInt(b.broadcast(first), b.laneNumbers());
  return b.lessOrEqual(keys, b.broadcast(b.toI32(position)));
}

Value AttentionKernel::queryColumn(int64_t queryHead, int64_t d) {
  return b.addIndex(b.mulIndex(head, groupSize * headDim),
                    queryHead * headDim + d);
}

Value AttentionKernel::offsetOf(Value scoreBlock, int64_t size) {
  return b.addIndex(
      b.mulIndex(b.divIndex(scoreBlock, kVectorsPerBlock), layout.rowSize),
      b.mulIndex(b.remIndex(scoreBlock, kVectorsPerBlock), kLanes * size));
}

int64_t AttentionKernel::offsetOf(int64_t scoreBlock, int64_t size) {
  return scoreBlock / kVectorsPerBlock * layout.rowSize +
         scoreBlock % kVectorsPerBlock * kLanes * size;
}

Value AttentionKernel::offsetOfScales(Value firstBlock, int64_t block) {
  return b.addIndex(offsetOf(firstBlock, sizeof(float)),
                    layout.scalesOffset + offsetOf(block, sizeof(float)));
}

Value AttentionKernel::loadScales(bool value, Value offset) {
  return b.loadBytes(b.floats(), cache, cacheIndices(value, offset));
}

void AttentionKernel::prefetchNext(bool value, Value offset, int64_t firstHead,
                                   int64_t numBlocks) {
  if (!b.options.prefetchesKeys || firstHead > 0)
    return;
  int64_t rows = llvm::divideCeil(numBlocks, kVectorsPerBlock);
  b.prefetch(cache,
             cacheIndices(value, b.addIndex(offset, rows * layout.rowSize)),
             KernelBuilder::SecondLevel);
}

void AttentionKernel::forEachToken(llvm::function_ref<void()> body) {
  auto emitToken = [&](Value i) {
    token = b.addIndex(firstToken, i);
    position = b.toIndex(b.loadScalar(op.getPositions(), token));
    rows = b.mulIndex(i, groupSize * rowStride);
    body();
  };
  b.loop(b.index(0), numTokens, 1, emitToken, /*hoist=*/false);
}

void AttentionKernel::forEachHeadTile(
    int64_t limit, llvm::function_ref<void(int64_t, int64_t)> body) {
  int64_t firstHead = 0;
  for (int64_t numHeads : splitEvenly(groupSize, limit)) {
    body(firstHead, numHeads);
    firstHead += numHeads;
  }
}

/// The vectors of outs that the token's query heads write.
void AttentionKernel::forEachOutput(
    llvm::function_ref<void(Value column, int64_t queryHead, int64_t lanes)>
        body) {
  for (int64_t h = 0; h < groupSize; ++h)
    b.forEachVector(headDim, [&](Value d, int64_t lanes) {
      body(b.addIndex(queryColumn(h, 0), d), h, lanes);
    });
}

//===----------------------------------------------------------------------===//
// Scores
//===----------------------------------------------------------------------===//

void AttentionKernel::emitQuantizedQuery(int64_t queryHead) {
  QuantizedHead quantized = quantizeHead(
      b, op.getQ(), token, queryColumn(queryHead, 0), headDim,
      [&](Value d, int64_t, Value codes) {
        auto words = VectorType::get(kLanes / layout.groupSize, b.getF32Type());
        b.store(b.bitcast(words, b.truncateToI8(codes)), scratch,
                b.addIndex(scratchOf(queryHead, queryOffset()),
                           b.divIndex(d, layout.groupSize)));
      });
  Value scale =
      b.mul(quantized.scale, b.scalar(op.getScale().convertToFloat()));
  b.storeScalar(scale, scratch, scratchOf(queryHead, queryScaleOffset()));
  b.storeScalar(b.bitcast(b.getF32Type(), quantized.sum), scratch,
                scratchOf(queryHead, querySumOffset()));
}

/// Chains over d, for each head and block. Where an fma takes a lane of the
/// query, one register of keys meets all heads before the next: few of them
/// wait for their keys on an in-order core.
Values AttentionKernel::emitFloatProducts(Value firstBlock, int64_t numBlocks,
                                          int64_t firstHead, int64_t numHeads) {
  Value first = offsetOf(firstBlock, 1);
  int64_t lanes = b.options.multipliesLanes ? b.numBroadcastLanes() : kLanes;
  int64_t numSlices = kLanes / lanes;
  auto slice = [&](Value v, int64_t number) -> Value {
    if (numSlices == 1)
      return v;
    return vector::ExtractStridedSliceOp::create(b, v, number * lanes, lanes,
                                                 1);
  };
  Values slices = b.forEachLane(
      b.index(0), b.index(headDim),
      Values(numHeads * numBlocks * numSlices, slice(b.zeros(), 0)),
      [&](Value d, int64_t lane, int64_t numLanes, ValueRange carried) {
        Values keys, sums(carried);
        Value offset =
            b.addIndex(first, b.mulIndex(b.addIndex(d, lane), kKeysPerBlock));
        for (int64_t i = 0; i < numBlocks; ++i) {
          Value key = b.addIndex(offset, offsetOf(i, 1));
          keys.push_back(b.widen(b.load(cache, cacheIndices(false, key))));
          if (isLineStart(i * kLanes))
            prefetchNext(false, key, firstHead, numBlocks);
        }
        for (int64_t number = 0; number < numSlices; ++number)
          for (int64_t h = 0; h < numHeads; ++h) {
            Value column = b.addIndex(queryColumn(firstHead + h, 0), d);
            Value query = slice(
                b.broadcastLane(op.getQ(), {token, column}, lane, numLanes),
                number);
            for (int64_t i = 0; i < numBlocks; ++i) {
              Value &sum = sums[(h * numBlocks + i) * numSlices + number];
              sum = b.fma(query, slice(keys[i], number), sum);
            }
          }
        return sums;
      });
  Values chains(numHeads * numBlocks, b.zeros());
  for (auto [i, part] : llvm::enumerate(slices))
    chains[i / numSlices] =
        numSlices == 1
            ? part
            : vector::InsertStridedSliceOp::create(
                  b, part, chains[i / numSlices], i % numSlices * lanes, 1)
                  .getResult();
  Value scale = b.splat(op.getScale().convertToFloat());
  for (Value &chain : chains)
    chain = b.mul(chain, scale);
  return chains;
}

/// Codes of keys are biased by 128, so the sums start at -128 * sum of q.
Values AttentionKernel::emitIntegerProducts(Value firstBlock, int64_t numBlocks,
                                            int64_t firstHead,
                                            int64_t numHeads) {
  int64_t groupBytes = kKeysPerBlock * layout.groupSize;
  auto vectorType = VectorType::get(kLanes * layout.groupSize, b.getI8Type());
  auto broadcastScratch = [&](int64_t h, int64_t offset) {
    return b.broadcast(b.loadScalar(scratch, scratchOf(firstHead + h, offset)));
  };
  Values inits;
  for (int64_t h = 0; h < numHeads; ++h) {
    Value sum = b.bitcast(b.ints(), broadcastScratch(h, querySumOffset()));
    inits.append(numBlocks, b.subInt(b.splatInt(0), b.shiftLeft(sum, 7)));
  }
  Value first = offsetOf(firstBlock, layout.groupSize);
  Values sums = b.loop(
      b.index(0), b.index(layout.numGroups), 1, inits,
      [&](Value group, ValueRange carried) {
        Values keys, sums;
        Value offset = b.addIndex(first, b.mulIndex(group, groupBytes));
        for (int64_t i = 0; i < numBlocks; ++i) {
          Value key = b.addIndex(offset, offsetOf(i, layout.groupSize));
          keys.push_back(
              b.loadBytes(vectorType, cache, cacheIndices(false, key)));
          prefetchNext(false, key, firstHead, numBlocks);
        }
        for (int64_t h = 0; h < numHeads; ++h) {
          Value word = b.loadScalar(
              scratch,
              b.addIndex(scratchOf(firstHead + h, queryOffset()), group));
          Value query = b.bitcast(vectorType, b.broadcast(word));
          for (int64_t i = 0; i < numBlocks; ++i)
            sums.push_back(b.dot(carried[h * numBlocks + i], keys[i], query));
        }
        return sums;
      });
  Values keyScales, products;
  for (int64_t i = 0; i < numBlocks; ++i) {
    Value offset = offsetOfScales(firstBlock, i);
    keyScales.push_back(loadScales(false, offset));
    prefetchNext(false, offset, firstHead, numBlocks);
    prefetchNext(true, offset, firstHead);
  }
  for (int64_t h = 0; h < numHeads; ++h) {
    Value scale = broadcastScratch(h, queryScaleOffset());
    for (int64_t i = 0; i < numBlocks; ++i)
      products.push_back(b.mul(b.toFloat(sums[h * numBlocks + i]),
                               b.mul(keyScales[i], scale)));
  }
  return products;
}

void AttentionKernel::emitScores(Value firstBlock, int64_t numBlocks,
                                 int64_t firstHead, int64_t numHeads) {
  Values scores =
      layout.isInt8
          ? emitIntegerProducts(firstBlock, numBlocks, firstHead, numHeads)
          : emitFloatProducts(firstBlock, numBlocks, firstHead, numHeads);
  Value hidden = b.splat(-std::numeric_limits<float>::infinity());
  for (int64_t i = 0; i < numBlocks; ++i) {
    Value block = b.addIndex(firstBlock, i);
    Value mask = visible(block);
    for (int64_t h = 0; h < numHeads; ++h)
      b.store(
          b.select(mask, scores[h * numBlocks + i], hidden), scratch,
          b.addIndex(scratchOf(firstHead + h, 0), b.mulIndex(block, kLanes)));
  }
}

void AttentionKernel::emitAllScores() {
  int64_t limit = std::min(kMaxHeads, b.options.accumulators);
  int64_t maxHeads = splitEvenly(groupSize, limit).back();
  int64_t tileBlocks = std::min<int64_t>(
      8, llvm::bit_floor<uint64_t>(b.options.accumulators / maxHeads));
  Value numBlocks = b.addIndex(b.divIndex(lastPosition, kLanes), 1);
  b.blockedLoop(numBlocks, tileBlocks, [&](Value block, int64_t count) {
    forEachToken([&] {
      Value firstKey = b.mulIndex(block, kLanes);
      b.ifThen(b.isLess(firstKey, b.addIndex(position, 1)), [&] {
        forEachHeadTile(limit, [&](int64_t firstHead, int64_t numHeads) {
          emitScores(block, count, firstHead, numHeads);
        });
      });
    });
  });
}

//===----------------------------------------------------------------------===//
// Softmax and values
//===----------------------------------------------------------------------===//

/// Probabilities in place of scores; with int8, times the scales of the values.
void AttentionKernel::emitSoftmax(Value queryHead) {
  Value row = b.addIndex(rows, b.mulIndex(queryHead, rowStride));
  Value numBlocks = b.addIndex(b.divIndex(position, kLanes), 1);
  auto scoresOf = [&](Value block) {
    return b.addIndex(row, b.mulIndex(block, kLanes));
  };
  Value largest = b.loop(
      b.index(0), numBlocks, 1,
      b.splat(-std::numeric_limits<float>::infinity()),
      [&](Value block, ValueRange carried) {
        return Values{b.max(b.load(scratch, scoresOf(block)), carried[0])};
      })[0];
  Value m = b.broadcast(b.maxLanes(largest));
  Value l =
      b.loop(b.index(0), numBlocks, 1, b.zeros(),
             [&](Value block, ValueRange carried) {
               // The scores of hidden keys are -infinity.
               Value x = b.sub(b.load(scratch, scoresOf(block)), m);
               Value p = b.select(b.isAtLeast(x, b.splat(kLeastExponent)),
                                  b.exp(x), b.zeros());
               Value weight =
                   layout.isInt8
                       ? b.mul(p, loadScales(true, offsetOfScales(block, 0)))
                       : p;
               b.store(weight, scratch, scoresOf(block));
               return Values{b.add(carried[0], p)};
             })[0];
  b.storeScalar(b.div(b.scalar(1), b.sumLanes(l)), scratch,
                b.addIndex(row, normaliserOffset()));
}

/// Adds keys [firstKey, lastKey) to the chains of some heads and vectors of d,
/// which wait in outs between blocks.
void AttentionKernel::emitValues(Value firstKey, Value lastKey,
                                 int64_t firstHead, int64_t numHeads,
                                 int64_t firstVector, int64_t numVectors) {
  auto lanesOf = [&](int64_t v) {
    return std::min(kLanes, headDim - (firstVector + v) * kLanes);
  };
  auto outIndices = [&](int64_t h, int64_t v) -> Values {
    return {token, queryColumn(firstHead + h, (firstVector + v) * kLanes)};
  };
  Values chains;
  for (int64_t h = 0; h < numHeads; ++h)
    for (int64_t v = 0; v < numVectors; ++v)
      chains.push_back(b.load(op.getOuts(), outIndices(h, v), lanesOf(v)));
  // The keys are in one block of the cache.
  Value block = b.mulIndex(b.divIndex(firstKey, kKeysPerBlock),
                           layout.rowSize - kKeysPerBlock * layout.valueSize);
  chains = b.forEachLane(
      firstKey, lastKey, chains,
      [&](Value key, int64_t lane, int64_t numLanes, ValueRange carried) {
        // One vector of values at a time: registers are for the chains.
        Value row = b.addIndex(
            block, b.mulIndex(b.addIndex(key, lane), layout.valueSize));
        Values weights, sums(carried.begin(), carried.end());
        for (int64_t h = 0; h < numHeads; ++h)
          weights.push_back(b.broadcastLane(
              scratch, b.addIndex(scratchOf(firstHead + h, 0), key), lane,
              numLanes));
        for (int64_t v = 0; v < numVectors; ++v) {
          Value offset = b.addIndex(row, (firstVector + v) * kLanes);
          Value values = b.load(cache, cacheIndices(true, offset), lanesOf(v));
          if (isLineStart((firstVector + v) * kLanes))
            prefetchNext(true, offset, firstHead);
          values =
              layout.isInt8 ? b.toFloat(b.extendI8(values)) : b.widen(values);
          for (int64_t h = 0; h < numHeads; ++h) {
            Value &sum = sums[h * numVectors + v];
            sum = b.fma(weights[h], values, sum);
          }
        }
        return sums;
      });
  for (int64_t h = 0; h < numHeads; ++h)
    for (int64_t v = 0; v < numVectors; ++v)
      b.store(chains[h * numVectors + v], op.getOuts(), outIndices(h, v),
              lanesOf(v));
}

void AttentionKernel::emitAllValues() {
  forEachToken([&] {
    forEachOutput([&](Value column, int64_t, int64_t lanes) {
      b.store(b.zeros(), op.getOuts(), {token, column}, lanes);
    });
  });
  auto emitBlock = [&](Value firstKey) {
    Value lastKey = b.minIndex(b.addIndex(firstKey, keysPerValueBlock),
                               b.addIndex(position, 1));
    // All of d before further heads: whole rows in address order. What has to
    // be widened or prefetched meets more heads instead.
    bool isF32 = op.getCache().getType().getElement() == KVElement::F32;
    bool inOrder =
        isF32 && !b.options.multipliesLanes && !b.options.prefetchesKeys;
    int64_t headsPerValue =
        std::min({inOrder ? 2 : kMaxHeads, groupSize, b.options.accumulators});
    int64_t firstVector = 0;
    for (int64_t numVectors :
         splitEvenly(llvm::divideCeil(headDim, kLanes),
                     b.options.accumulators / headsPerValue)) {
      forEachHeadTile(b.options.accumulators / numVectors,
                      [&](int64_t firstHead, int64_t numHeads) {
                        emitValues(firstKey, lastKey, firstHead, numHeads,
                                   firstVector, numVectors);
                      });
      firstVector += numVectors;
    }
  };
  b.loop(
      b.index(0), b.addIndex(lastPosition, 1), keysPerValueBlock,
      [&](Value firstKey) {
        forEachToken([&] {
          b.ifThen(b.isLess(firstKey, b.addIndex(position, 1)),
                   [&] { emitBlock(firstKey); });
        });
      },
      /*hoist=*/false);
  forEachToken([&] {
    forEachOutput([&](Value column, int64_t queryHead, int64_t lanes) {
      Value factor = b.broadcast(
          b.loadScalar(scratch, scratchOf(queryHead, normaliserOffset())));
      Value sum = b.load(op.getOuts(), {token, column}, lanes);
      b.store(b.mul(sum, factor), op.getOuts(), {token, column}, lanes);
    });
  });
}

//===----------------------------------------------------------------------===//
// Items
//===----------------------------------------------------------------------===//

/// Tokens of one sequence, at any positions.
void AttentionKernel::emitTokens(Value first, Value count) {
  firstToken = first;
  numTokens = count;
  slot = b.toIndex(b.loadScalar(op.getSlots(), first));
  lastPosition = b.loop(
      b.index(0), count, 1, b.index(0), [&](Value i, ValueRange carried) {
        Value position =
            b.toIndex(b.loadScalar(op.getPositions(), b.addIndex(first, i)));
        return Values{b.maxIndex(carried[0], position)};
      })[0];
  if (layout.isInt8)
    forEachToken([&] {
      for (int64_t queryHead = 0; queryHead < groupSize; ++queryHead)
        emitQuantizedQuery(queryHead);
    });
  emitAllScores();
  forEachToken([&] {
    b.loop(b.index(0), b.index(groupSize), 1,
           [&](Value queryHead) { emitSoftmax(queryHead); });
  });
  emitAllValues();
}

void AttentionKernel::emit() {
  Value batchSize = b.dim(op.getQ(), 0);
  cache = b.castCache(op.getCache(), getKVMemRefType(op.getCache().getType()));
  Value tokensPerItem = b.maxIndex(
      b.minIndex(b.divIndex(batchSize, kMinItems), b.index(kMaxTokens)),
      b.index(1));
  Value itemsPerHead = b.ceilDivIndex(batchSize, tokensPerItem);
  // Items of one KV head are neighbours: in a prefill, a worker reads the same
  // keys and values again from its own cache.
  b.parallel(b.mulIndex(itemsPerHead, numKVHeads), [&](Value item) {
    head = b.divIndex(item, itemsPerHead);
    Value begin = b.mulIndex(b.remIndex(item, itemsPerHead), tokensPerItem);
    Value end = b.minIndex(b.addIndex(begin, tokensPerItem), batchSize);
    scratch = b.workerScratch(kMaxTokens * groupSize * rowStride);

    // All tokens at once where they are of one sequence, else one by one.
    Value firstSlot = b.loadScalar(op.getSlots(), begin);
    Value isShared =
        b.loop(begin, end, 1, b.trueBit(), [&](Value i, ValueRange carried) {
          Value same = b.isEqual(b.loadScalar(op.getSlots(), i), firstSlot);
          return Values{b.andInt(carried[0], same)};
        })[0];
    Value count = b.select(isShared, b.subIndex(end, begin), b.index(1));
    b.loop(begin, end, count, [&](Value first) { emitTokens(first, count); });
  });
}

void tercet::populateAttentionPatterns(RewritePatternSet &patterns,
                                       KernelOptions options) {
  patterns.add<KernelPattern<AttentionOp>>(
      patterns.getContext(),
      +[](AttentionOp op, KernelBuilder &b) { AttentionKernel(op, b).emit(); },
      options);
}
