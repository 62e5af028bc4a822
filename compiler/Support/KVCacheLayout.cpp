// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Support/KVCacheLayout.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace tercet;

/// A bf16 is kept as its bits: targets whose vectors have no bf16 would take
/// one out of a vector through f32, and a routine that rounds it again.
static Type getElementType(ternary::KVCacheType cache) {
  MLIRContext *context = cache.getContext();
  switch (cache.getElement()) {
  case ternary::KVElement::F32:
    return Float32Type::get(context);
  case ternary::KVElement::BF16:
    return IntegerType::get(context, 16);
  case ternary::KVElement::Int8:
    return IntegerType::get(context, 8);
  }
  llvm_unreachable("no such element");
}

KVCacheLayout::KVCacheLayout(ternary::KVCacheType cache)
    : numHeads(cache.getHeads()),
      isInt8(cache.getElement() == ternary::KVElement::Int8),
      elementSizeInBytes(getElementType(cache).getIntOrFloatBitWidth() / 8),
      groupSize(isInt8 ? 4 : 1),
      valueSize(llvm::alignTo(cache.getHeadDim(), groupSize)),
      numGroups(valueSize / groupSize), scalesOffset(kKeysPerBlock * valueSize),
      blockSize(scalesOffset +
                (isInt8 ? kKeysPerBlock * int64_t(sizeof(float)) : 0)),
      // One block more than there are, an odd number: else those of one head
      // would share the sets of a cache.
      rowSize((2 * cache.getLayers() * numHeads + 1) * blockSize) {}

MemRefType tercet::getKVMemRefType(ternary::KVCacheType cache) {
  int64_t numRows = llvm::divideCeil(cache.getCapacity(), kKeysPerBlock);
  return MemRefType::get(
      {ShapedType::kDynamic, numRows * KVCacheLayout(cache).rowSize},
      getElementType(cache));
}

int64_t tercet::getKVSlotSizeInBytes(ternary::KVCacheType cache) {
  return getKVMemRefType(cache).getDimSize(1) *
         KVCacheLayout(cache).elementSizeInBytes;
}
