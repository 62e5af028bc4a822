// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What can be wrong with a checkpoint and is seen only by reading all of it.

#ifndef TERCET_COMPILER_INSPECT_CHECKPARAMETERS_H
#define TERCET_COMPILER_INSPECT_CHECKPARAMETERS_H

#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/Error.h"

namespace tercet {

/// Reads the bytes behind every parameter once, in parallel. Refuses code 3 in
/// packed weights, packed weights without zeros (only the signs of a latent
/// matrix were kept), and floats that are NaN or infinite.
llvm::Error checkParameters(mlir::ModuleOp module);

} // namespace tercet

#endif // TERCET_COMPILER_INSPECT_CHECKPARAMETERS_H
