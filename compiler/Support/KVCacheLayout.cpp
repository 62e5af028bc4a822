// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Support/KVCacheLayout.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace tercet;

MemRefType tercet::getKVMemRefType(ternary::KVCacheType cache) {
  int64_t elements =
      llvm::alignTo(cache.getCapacity(), kKeysPerBlock) * cache.getHeadDim();
  return MemRefType::get(
      {ShapedType::kDynamic, cache.getLayers(), cache.getHeads(), 2, elements},
      Float32Type::get(cache.getContext()));
}

int64_t tercet::getKVSlotSizeInBytes(ternary::KVCacheType cache) {
  int64_t elements = 1;
  for (int64_t size : getKVMemRefType(cache).getShape().drop_front())
    elements *= size;
  return elements * int64_t(sizeof(float));
}
