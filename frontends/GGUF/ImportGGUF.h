// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From a GGUF file to the module of docs/architecture.md.

#ifndef TERCET_FRONTENDS_GGUF_IMPORTGGUF_H
#define TERCET_FRONTENDS_GGUF_IMPORTGGUF_H

#include "frontends/Import.h"

namespace tercet {

/// Imports a .gguf file, or the first of a split one.
llvm::Expected<mlir::OwningOpRef<mlir::ModuleOp>>
importGGUF(mlir::MLIRContext &context, llvm::StringRef path,
           const ImportOptions &options);

} // namespace tercet

#endif // TERCET_FRONTENDS_GGUF_IMPORTGGUF_H
