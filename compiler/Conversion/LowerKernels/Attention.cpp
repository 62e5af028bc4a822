// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "compiler/Support/KVCacheLayout.h"
#include "dialect/Ternary/Ternary.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

using Values = KernelBuilder::Values;

namespace {

/// One item: a token and a KV head with all its query heads, which share every
/// load of a key or value. Three passes: scores of 16 keys in lanes, softmax,
/// values with d in lanes. Scores pass through scratch, one row a query head:
///
///   [query head of the group][context rounded up to 16 | 1 / l, 15 unused]
///
/// The 16 floats at the end also keep the rows of a power-of-two context out of
/// each other's cache sets.
///
/// Keys and values come from memory once, in address order, which is what
/// hardware prefetchers follow at full speed (software prefetch was slower): a
/// block of them meets all query heads and all of d before the next.
///
/// A score block is one vector, 16 keys; a block of the cache is four of them.
class AttentionKernel {
public:
  AttentionKernel(AttentionOp op, KernelBuilder &b);
  void emit();

private:
  void emitScores(Value firstBlock, int64_t numBlocks, int64_t firstHead,
                  int64_t numHeads);
  void emitSoftmax(Value queryHead);
  void emitValues(Value firstKey, Value lastKey, int64_t firstHead,
                  int64_t numHeads, int64_t firstVector, int64_t numVectors);
  void emitAllScores();
  void emitAllValues();

  /// Heads of a register tile: more do not fit beside several vectors each.
  static constexpr int64_t kMaxHeads = 4;
  /// Values that meet all heads before the next: small enough for the hardware
  /// prefetcher to fetch the next block while later heads read this one from
  /// the first-level cache.
  static constexpr int64_t kValueBlockSizeInBytes = 8192;

  Value visible(Value block);
  /// Column of a query head's element in a row of q and outs.
  Value queryColumn(int64_t queryHead, int64_t d);
  Values cacheIndices(bool value, Value offset) {
    return {slot, op.getLayer(), head, b.index(value), offset};
  }
  void forEachOutput(
      llvm::function_ref<void(Value column, int64_t queryHead, int64_t lanes)>
          body);
  void forEachHeadTile(
      int64_t limit,
      llvm::function_ref<void(int64_t firstHead, int64_t numHeads)> body);

  AttentionOp op;
  KernelBuilder &b;
  int64_t numKVHeads, headDim, groupSize, scoreColumns, scoreStride;
  int64_t keysPerValueBlock;
  Value cache, scratch;
  Value token, head, slot, position, numBlocks;
};

} // namespace

AttentionKernel::AttentionKernel(AttentionOp op, KernelBuilder &b)
    : op(op), b(b) {
  KVCacheType type = op.getCache().getType();
  numKVHeads = type.getHeads();
  headDim = type.getHeadDim();
  groupSize = getNumColumns(op.getQ()) / (numKVHeads * headDim);
  scoreColumns = llvm::alignTo(type.getCapacity(), kLanes);
  scoreStride = scoreColumns + kLanes;
  keysPerValueBlock = std::max<int64_t>(
      1, kValueBlockSizeInBytes / (headDim * int64_t(sizeof(float))));
}

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

void AttentionKernel::forEachHeadTile(
    int64_t limit, llvm::function_ref<void(int64_t, int64_t)> body) {
  int64_t firstHead = 0;
  for (int64_t numHeads : splitEvenly(groupSize, limit)) {
    body(firstHead, numHeads);
    firstHead += numHeads;
  }
}

void AttentionKernel::emitScores(Value firstBlock, int64_t numBlocks,
                                 int64_t firstHead, int64_t numHeads) {
  constexpr int64_t vectorsPerBlock = kKeysPerBlock / kLanes;
  Value first =
      b.addIndex(b.mulIndex(b.divIndex(firstBlock, vectorsPerBlock),
                            headDim * kKeysPerBlock),
                 b.mulIndex(b.remIndex(firstBlock, vectorsPerBlock), kLanes));
  auto offsetOf = [&](int64_t i) {
    return i / vectorsPerBlock * headDim * kKeysPerBlock +
           i % vectorsPerBlock * kLanes;
  };
  Values chains = b.loop(
      b.index(0), b.index(headDim), 1, Values(numHeads * numBlocks, b.zeros()),
      [&](Value d, ValueRange carried) {
        Values keys, sums;
        Value offset = b.addIndex(first, b.mulIndex(d, kKeysPerBlock));
        for (int64_t i = 0; i < numBlocks; ++i)
          keys.push_back(b.load(
              cache, cacheIndices(false, b.addIndex(offset, offsetOf(i)))));
        for (int64_t h = 0; h < numHeads; ++h) {
          Value column = b.addIndex(queryColumn(firstHead + h, 0), d);
          Value query = b.broadcast(b.loadScalar(op.getQ(), {token, column}));
          for (int64_t i = 0; i < numBlocks; ++i)
            sums.push_back(b.fma(query, keys[i], carried[h * numBlocks + i]));
        }
        return sums;
      });
  Value hidden = b.splat(-std::numeric_limits<float>::infinity());
  for (int64_t i = 0; i < numBlocks; ++i) {
    Value block = b.addIndex(firstBlock, i);
    Value mask = visible(block);
    for (int64_t h = 0; h < numHeads; ++h) {
      Value scores = b.mul(chains[h * numBlocks + i],
                           b.splat(op.getScale().convertToFloat()));
      Value offset =
          b.addIndex(b.mulIndex(block, kLanes), (firstHead + h) * scoreStride);
      b.store(b.select(mask, scores, hidden), scratch, offset);
    }
  }
}

void AttentionKernel::emitSoftmax(Value queryHead) {
  Value row = b.mulIndex(queryHead, scoreStride);
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
  Value l = b.loop(b.index(0), numBlocks, 1, b.zeros(),
                   [&](Value block, ValueRange carried) {
                     Value t = b.load(scratch, scoresOf(block));
                     Value p = b.select(visible(block), b.exp(b.sub(t, m)),
                                        b.zeros());
                     b.store(p, scratch, scoresOf(block));
                     return Values{b.add(carried[0], p)};
                   })[0];
  b.storeScalar(b.div(b.scalar(1), b.sumLanes(l)), scratch,
                b.addIndex(row, scoreColumns));
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
  chains =
      b.loop(firstKey, lastKey, 1, chains, [&](Value key, ValueRange carried) {
        // One vector of values at a time: registers are for the chains.
        Value row = b.mulIndex(key, headDim);
        Values weights, sums(carried.begin(), carried.end());
        for (int64_t h = 0; h < numHeads; ++h)
          weights.push_back(b.broadcast(b.loadScalar(
              scratch, b.addIndex(key, (firstHead + h) * scoreStride))));
        for (int64_t v = 0; v < numVectors; ++v) {
          Value offset = b.addIndex(row, (firstVector + v) * kLanes);
          Value values = b.load(cache, cacheIndices(true, offset), lanesOf(v));
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

void AttentionKernel::emitAllScores() {
  int64_t limit = std::min(kMaxHeads, b.options.accumulators);
  int64_t maxHeads = splitEvenly(groupSize, limit).back();
  int64_t tileBlocks = std::min<int64_t>(
      8, llvm::bit_floor<uint64_t>(b.options.accumulators / maxHeads));
  b.blockedLoop(numBlocks, tileBlocks, [&](Value block, int64_t count) {
    forEachHeadTile(limit, [&](int64_t firstHead, int64_t numHeads) {
      emitScores(block, count, firstHead, numHeads);
    });
  });
}

void AttentionKernel::emitAllValues() {
  forEachOutput([&](Value column, int64_t, int64_t lanes) {
    b.store(b.zeros(), op.getOuts(), {token, column}, lanes);
  });
  Value numKeys = b.addIndex(position, 1);
  auto emitBlock = [&](Value firstKey) {
    Value lastKey =
        b.minIndex(b.addIndex(firstKey, keysPerValueBlock), numKeys);
    // All of d before further heads: whole rows in address order.
    int64_t firstVector = 0;
    for (int64_t numVectors :
         splitEvenly(llvm::divideCeil(headDim, kLanes),
                     std::max<int64_t>(1, b.options.accumulators / 2))) {
      forEachHeadTile(b.options.accumulators / numVectors,
                      [&](int64_t firstHead, int64_t numHeads) {
                        emitValues(firstKey, lastKey, firstHead, numHeads,
                                   firstVector, numVectors);
                      });
      firstVector += numVectors;
    }
  };
  b.loop(b.index(0), numKeys, keysPerValueBlock, emitBlock, /*hoist=*/false);
  forEachOutput([&](Value column, int64_t queryHead, int64_t lanes) {
    Value factor = b.broadcast(
        b.loadScalar(scratch, b.index(queryHead * scoreStride + scoreColumns)));
    Value sum = b.load(op.getOuts(), {token, column}, lanes);
    b.store(b.mul(sum, factor), op.getOuts(), {token, column}, lanes);
  });
}

/// The vectors of outs that the item's query heads write.
void AttentionKernel::forEachOutput(
    llvm::function_ref<void(Value column, int64_t queryHead, int64_t lanes)>
        body) {
  for (int64_t h = 0; h < groupSize; ++h)
    b.forEachVector(headDim, [&](Value d, int64_t lanes) {
      body(b.addIndex(queryColumn(h, 0), d), h, lanes);
    });
}

void AttentionKernel::emit() {
  Value numTokens = b.dim(op.getQ(), 0);
  Value numItems = b.mulIndex(numTokens, numKVHeads);
  cache = b.castCache(op.getCache(), getKVMemRefType(op.getCache().getType()));
  // Items of one KV head are neighbours: in a prefill, a worker reads the same
  // keys and values again from its own cache.
  b.parallel(numItems, [&](Value item) {
    token = b.remIndex(item, numTokens);
    head = b.divIndex(item, numTokens);
    slot = b.toIndex(b.loadScalar(op.getSlots(), token));
    position = b.toIndex(b.loadScalar(op.getPositions(), token));
    numBlocks = b.addIndex(b.divIndex(position, kLanes), 1);
    scratch = b.workerScratch(groupSize * scoreStride);
    emitAllScores();
    b.loop(b.index(0), b.index(groupSize), 1,
           [&](Value queryHead) { emitSoftmax(queryHead); });
    emitAllValues();
  });
}

void tercet::populateAttentionPatterns(RewritePatternSet &patterns,
                                       KernelOptions options) {
  patterns.add<KernelPattern<AttentionOp>>(
      patterns.getContext(),
      +[](AttentionOp op, KernelBuilder &b) { AttentionKernel(op, b).emit(); },
      options);
}
