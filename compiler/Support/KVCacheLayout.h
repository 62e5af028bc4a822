// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where keys and values live in memory. Both orders follow from the canonical
// evaluation order (docs/numerics.md): scores have 16 keys in lanes, values
// have d in lanes, and neither needs a shuffle.
//
// A slot is f32 [layer][head][0: keys, 1: values][S], S = context rounded up to
// 16, times head_dim. Keys are blocked: position p, element d is at
// (p / 16) * head_dim * 16 + d * 16 + p mod 16. Values are rows: p * head_dim +
// d.

#ifndef TERCET_COMPILER_SUPPORT_KVCACHELAYOUT_H
#define TERCET_COMPILER_SUPPORT_KVCACHELAYOUT_H

#include "dialect/Ternary/Ternary.h"

namespace tercet {

inline constexpr int64_t kKeysPerBlock = 64;

/// memref<?xLxHx2xSxf32>, the leading dimension being slots.
mlir::MemRefType getKVMemRefType(ternary::KVCacheType cache);

int64_t getKVSlotSizeInBytes(ternary::KVCacheType cache);

} // namespace tercet

#endif // TERCET_COMPILER_SUPPORT_KVCACHELAYOUT_H
