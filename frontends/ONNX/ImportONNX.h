// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From an ONNX file to a module whose @graph has one operation for each node
// (dialect/ONNX).

#ifndef TERCET_FRONTENDS_ONNX_IMPORTONNX_H
#define TERCET_FRONTENDS_ONNX_IMPORTONNX_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/Support/Error.h"

namespace tercet {

namespace onnx {
class ONNXReader;
} // namespace onnx

/// Imports an .onnx file. Model-local functions are inlined, an If whose
/// condition is constant is the branch taken, and nodes are in topological
/// order.
llvm::Expected<mlir::OwningOpRef<mlir::ModuleOp>>
importONNX(mlir::MLIRContext &context, llvm::StringRef path);

/// The same for a file that has been read.
llvm::Expected<mlir::OwningOpRef<mlir::ModuleOp>>
importONNX(mlir::MLIRContext &context, onnx::ONNXReader &reader);

} // namespace tercet

#endif // TERCET_FRONTENDS_ONNX_IMPORTONNX_H
