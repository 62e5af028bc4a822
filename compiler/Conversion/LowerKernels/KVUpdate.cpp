// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "compiler/Support/KVCacheLayout.h"
#include "dialect/Ternary/Ternary.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

/// Items: pairs (token, KV head). A key is scattered into its lane of a block,
/// a value is one row.
static void emitKVUpdate(KVUpdateOp op, KernelBuilder &b) {
  KVCacheType type = op.getCache().getType();
  int64_t numHeads = type.getHeads(), headDim = type.getHeadDim();
  Value keys = op.getKeys(), values = op.getValues(), layer = op.getLayer();
  Value cache = b.castCache(op.getCache(), getKVMemRefType(type));
  Value numItems = b.mulIndex(b.dim(keys, 0), numHeads);
  b.parallel(numItems, [&](Value item) {
    Value token = b.divIndex(item, numHeads), head = b.remIndex(item, numHeads);
    Value slot = b.toIndex(b.loadScalar(op.getSlots(), token));
    Value position = b.toIndex(b.loadScalar(op.getPositions(), token));
    Value column = b.mulIndex(head, headDim);

    Value block = b.addIndex(b.mulIndex(b.divIndex(position, kKeysPerBlock),
                                        headDim * kKeysPerBlock),
                             b.remIndex(position, kKeysPerBlock));
    b.loop(b.index(0), b.index(headDim), 1, [&](Value d) {
      Value key = b.loadScalar(keys, {token, b.addIndex(column, d)});
      Value offset = b.addIndex(block, b.mulIndex(d, kKeysPerBlock));
      b.storeScalar(key, cache, {slot, layer, head, b.index(0), offset});
    });

    Value row = b.mulIndex(position, headDim);
    b.forEachVector(headDim, [&](Value d, int64_t lanes) {
      Value value = b.load(values, {token, b.addIndex(column, d)}, lanes);
      b.store(value, cache, {slot, layer, head, b.index(1), b.addIndex(row, d)},
              lanes);
    });
  });
}

void tercet::populateKVUpdatePatterns(RewritePatternSet &patterns) {
  patterns.add<KernelPattern<KVUpdateOp>>(patterns.getContext(), emitKVUpdate);
}
