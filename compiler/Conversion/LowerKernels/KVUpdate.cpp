// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"
#include "compiler/Conversion/LowerKernels/QuantizeHead.h"

#include "compiler/Support/KVCacheLayout.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

namespace {

/// Items: pairs (token, KV head). A key is scattered into its lane of a block,
/// a value is one row.
class KVUpdateKernel {
public:
  KVUpdateKernel(KVUpdateOp op, KernelBuilder &b)
      : op(op), b(b), type(op.getCache().getType()), layout(type) {}
  void emit();

private:
  void emitFloats();
  void emitInt8();
  Value convert(Value floats) {
    return type.getElement() == KVElement::BF16 ? b.roundToBF16(floats)
                                                : floats;
  }
  /// The element at `offset` into the block of the item's position and head.
  KernelBuilder::Values at(bool value, Value offset) {
    Value block = b.blockOfCache(layout, op.getLayer(), head, value);
    return {slot, b.addIndex(row, b.addIndex(block, offset))};
  }

  KVUpdateOp op;
  KernelBuilder &b;
  KVCacheType type;
  KVCacheLayout layout;
  Value cache, token, head, slot;
  Value column;    ///< of the head in keys and values
  Value row, lane; ///< of the position
};

} // namespace

void KVUpdateKernel::emitFloats() {
  b.forEachVector(type.getHeadDim(), [&](Value d, int64_t lanes) {
    Value key =
        convert(b.load(op.getKeys(), {token, b.addIndex(column, d)}, lanes));
    for (int64_t i = 0; i < lanes; ++i) {
      Value offset = b.mulIndex(b.addIndex(d, i), kKeysPerBlock);
      b.storeScalar(b.extract(key, i), cache,
                    at(false, b.addIndex(offset, lane)));
    }
    Value value =
        convert(b.load(op.getValues(), {token, b.addIndex(column, d)}, lanes));
    Value first = b.mulIndex(lane, layout.valueSize);
    b.store(value, cache, at(true, b.addIndex(first, d)), lanes);
  });
}

/// Keys are biased to unsigned codes, what ternary.dot takes.
void KVUpdateKernel::emitInt8() {
  auto storeScale = [&](bool value, QuantizedHead quantized) {
    Value scale = b.fromElements(quantized.scale);
    Value offset =
        b.addIndex(b.mulIndex(lane, sizeof(float)), layout.scalesOffset);
    b.storeBytes(scale, cache, at(value, offset));
  };
  int64_t headDim = type.getHeadDim();
  storeScale(false,
             quantizeHead(
                 b, op.getKeys(), token, column, headDim,
                 [&](Value d, int64_t lanes, Value codes) {
                   Value biased =
                       b.truncateToI8(b.addInt(codes, b.splatInt(128)));
                   for (int64_t i = 0; i < lanes; i += layout.groupSize) {
                     Value group = vector::ExtractStridedSliceOp::create(
                         b, biased, i, layout.groupSize, 1);
                     Value offset =
                         b.addIndex(b.mulIndex(b.addIndex(d, i), kKeysPerBlock),
                                    b.mulIndex(lane, layout.groupSize));
                     b.storeBytes(group, cache, at(false, offset));
                   }
                 }));
  storeScale(true,
             quantizeHead(b, op.getValues(), token, column, headDim,
                          [&](Value d, int64_t lanes, Value codes) {
                            Value first = b.mulIndex(lane, layout.valueSize);
                            b.store(b.truncateToI8(codes), cache,
                                    at(true, b.addIndex(first, d)), lanes);
                          }));
}

void KVUpdateKernel::emit() {
  int64_t numHeads = type.getHeads();
  cache = b.castCache(op.getCache(), getKVMemRefType(type));
  Value numItems = b.mulIndex(b.dim(op.getKeys(), 0), numHeads);
  b.parallel(numItems, [&](Value item) {
    token = b.divIndex(item, numHeads);
    head = b.remIndex(item, numHeads);
    slot = b.toIndex(b.loadScalar(op.getSlots(), token));
    Value position = b.toIndex(b.loadScalar(op.getPositions(), token));
    column = b.mulIndex(head, type.getHeadDim());
    row = b.mulIndex(b.divIndex(position, kKeysPerBlock), layout.rowSize);
    lane = b.remIndex(position, kKeysPerBlock);
    layout.isInt8 ? emitInt8() : emitFloats();
  });
}

void tercet::populateKVUpdatePatterns(RewritePatternSet &patterns) {
  patterns.add<KernelPattern<KVUpdateOp>>(
      patterns.getContext(),
      +[](KVUpdateOp op, KernelBuilder &b) { KVUpdateKernel(op, b).emit(); });
}
