// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// `tercet inspect`: what a model is, matrix by matrix.

#ifndef TERCET_COMPILER_INSPECT_INSPECTMODEL_H
#define TERCET_COMPILER_INSPECT_INSPECTMODEL_H

#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/raw_ostream.h"

namespace tercet {

/// Imports `model`, checks its values and prints a report: as text, or as one
/// JSON object. Fails, after the report, when the weights cannot be right.
llvm::Error inspectModel(llvm::StringRef model, bool json,
                         llvm::raw_ostream &os);

/// The same for an imported module.
llvm::Error inspectModule(mlir::ModuleOp module, bool json,
                          llvm::raw_ostream &os);

} // namespace tercet

#endif // TERCET_COMPILER_INSPECT_INSPECTMODEL_H
