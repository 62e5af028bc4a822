// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where keys and values live in memory. The order follows from the canonical
// evaluation order (docs/numerics.md): scores have 16 keys in lanes, values
// have d in lanes, and neither needs a shuffle. docs/packings.md has the
// formulas.

#ifndef TERCET_COMPILER_SUPPORT_KVCACHELAYOUT_H
#define TERCET_COMPILER_SUPPORT_KVCACHELAYOUT_H

#include "dialect/Ternary/Ternary.h"

namespace tercet {

/// Positions of a block of keys or values.
inline constexpr int64_t kKeysPerBlock = 64;

/// Sizes in elements of the cache. A slot is rows of `rowSize`, one for each 64
/// positions: what a sequence uses is the beginning of its slot. A row is
/// blocks of keys and of values of each layer and head. Keys lie in groups of
/// `groupSize` elements of d, [group][position]; values are `valueSize` each.
/// The scales of int8, f32, end a block.
struct KVCacheLayout {
  explicit KVCacheLayout(ternary::KVCacheType cache);

  int64_t numHeads;
  bool isInt8;
  int64_t elementSizeInBytes;
  int64_t groupSize, valueSize, numGroups;
  /// Of the 64 scales in a block.
  int64_t scalesOffset;
  int64_t blockSize, rowSize;
};

/// memref<?xSxT>, the leading dimension being slots.
mlir::MemRefType getKVMemRefType(ternary::KVCacheType cache);

int64_t getKVSlotSizeInBytes(ternary::KVCacheType cache);

} // namespace tercet

#endif // TERCET_COMPILER_SUPPORT_KVCACHELAYOUT_H
