// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// `tercet inspect`: what a model is, matrix by matrix.

#ifndef TERCET_COMPILER_INSPECT_INSPECTMODEL_H
#define TERCET_COMPILER_INSPECT_INSPECTMODEL_H

#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/raw_ostream.h"

namespace tercet {

/// Recognises the BitLinears of an ONNX graph, a phase that lies above this
/// library. Its remarks are reported.
using RecognizeGraph = llvm::function_ref<llvm::Error(mlir::ModuleOp)>;

/// Imports `model`, checks its values and prints a report: as text, or as one
/// JSON object. Fails, after the report, when the weights cannot be right.
llvm::Error inspectModel(llvm::StringRef model, bool json,
                         RecognizeGraph recognize, llvm::raw_ostream &os);

/// The same for an imported language model.
llvm::Error inspectModule(mlir::ModuleOp module, bool json,
                          llvm::raw_ostream &os);

} // namespace tercet

#endif // TERCET_COMPILER_INSPECT_INSPECTMODEL_H
