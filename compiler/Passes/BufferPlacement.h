// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Places for buffers in one arena.

#ifndef TERCET_COMPILER_PASSES_BUFFERPLACEMENT_H
#define TERCET_COMPILER_PASSES_BUFFERPLACEMENT_H

#include "mlir/Dialect/MemRef/IR/MemRef.h"

namespace tercet {

inline constexpr int64_t kBufferAlignment = 64;

/// Makes copies into allocations views of their sources, with strides that may
/// overlap or be 0, if all that reads them is tokens of packed_matmuls, whose
/// kernel takes any strides: windows, and what is broadcast.
void elideCopies(mlir::Operation *function);

/// A buffer to be placed: alive from op number `begin` to `end` of the block.
struct Buffer {
  mlir::memref::AllocOp alloc;
  int64_t begin, end, size, offset;
};

/// Last op of the block that uses `value`, directly, through a view of it, or
/// in a region.
int64_t getLastUse(mlir::Value value, mlir::Block &body,
                   const llvm::DenseMap<mlir::Operation *, int64_t> &order);

/// Greedy by size: the biggest buffer first, each at the lowest offset where it
/// overlaps nothing that is alive at the same time. Returns the arena's size.
int64_t assignOffsets(llvm::MutableArrayRef<Buffer> buffers);

} // namespace tercet

#endif // TERCET_COMPILER_PASSES_BUFFERPLACEMENT_H
