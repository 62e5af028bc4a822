// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the weight-packing pass hands to the artifact writer: the weights
// section as a list of pieces that are produced on demand, so that no more
// than a few of them are ever in memory.

#ifndef TERCET_COMPILER_SUPPORT_WEIGHTPIECE_H
#define TERCET_COMPILER_SUPPORT_WEIGHTPIECE_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"
#include <cstdint>
#include <functional>

namespace tercet {

/// Bytes [offset, offset + size) of the weights section. Pieces are disjoint;
/// bytes that no piece covers are zero.
struct WeightPiece {
  uint64_t offset;
  uint64_t size;
  /// Fills `out`, which has `size` bytes, holds zeros, and is 64-byte aligned
  /// when `offset` is a multiple of 64. Called once, from any thread, at the
  /// same time as other pieces. Memory held while writing an artifact is a
  /// few times the largest piece, so cut a matrix above 16 MiB into several.
  std::function<llvm::Error(llvm::MutableArrayRef<uint8_t> out)> write;
};

} // namespace tercet

#endif // TERCET_COMPILER_SUPPORT_WEIGHTPIECE_H
