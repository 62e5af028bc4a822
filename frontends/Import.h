// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The one entrance to all frontends.

#ifndef TERCET_FRONTENDS_IMPORT_H
#define TERCET_FRONTENDS_IMPORT_H

#include "dialect/Ternary/Ternary.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/Support/Error.h"

namespace tercet {

struct ImportOptions {
  /// Positions the compiled model can hold; 0: those it was trained for. More
  /// than that is warned about.
  int64_t context = 0;
  /// What the KV cache stores.
  ternary::KVElement kv = ternary::KVElement::F32;
};

/// Imports MODEL, whatever it is: a Hugging Face directory, a .safetensors, a
/// .gguf or an .onnx file.
llvm::Expected<mlir::OwningOpRef<mlir::ModuleOp>>
importModel(mlir::MLIRContext &context, llvm::StringRef model,
            const ImportOptions &options);

} // namespace tercet

#endif // TERCET_FRONTENDS_IMPORT_H
