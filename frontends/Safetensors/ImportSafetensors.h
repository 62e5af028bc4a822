// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From a Hugging Face checkpoint to the module of docs/architecture.md.

#ifndef TERCET_FRONTENDS_SAFETENSORS_IMPORTSAFETENSORS_H
#define TERCET_FRONTENDS_SAFETENSORS_IMPORTSAFETENSORS_H

#include "frontends/Import.h"

namespace tercet {

/// Imports a Hugging Face directory, or a .safetensors file with its
/// config.json beside it. Every tensor of a known layer must be there, have the
/// shape that config.json implies, and be used.
llvm::Expected<mlir::OwningOpRef<mlir::ModuleOp>>
importSafetensors(mlir::MLIRContext &context, llvm::StringRef directoryOrFile,
                  const ImportOptions &options);

} // namespace tercet

#endif // TERCET_FRONTENDS_SAFETENSORS_IMPORTSAFETENSORS_H
