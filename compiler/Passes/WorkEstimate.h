// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How much there is to do in an item of a parallel loop, for a runtime that
// should not wake threads for less than waking them costs.

#ifndef TERCET_COMPILER_PASSES_WORKESTIMATE_H
#define TERCET_COMPILER_PASSES_WORKESTIMATE_H

#include "mlir/Dialect/SCF/IR/SCF.h"

namespace tercet {

/// About how many vector instructions an item of `loop` takes, as an index that
/// is computed before it. Null where that depends on what the item reads.
mlir::Value estimateWork(mlir::scf::ParallelOp loop);

} // namespace tercet

#endif // TERCET_COMPILER_PASSES_WORKESTIMATE_H
