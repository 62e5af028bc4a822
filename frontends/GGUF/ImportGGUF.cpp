// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/GGUF/ImportGGUF.h"
#include "frontends/GGUF/GGUFReader.h"
#include "frontends/Support/InputError.h"

using namespace mlir;
using namespace tercet;

llvm::Expected<OwningOpRef<ModuleOp>>
tercet::importGGUF(MLIRContext &context, StringRef path,
                   const ImportOptions &options) {
  llvm::Expected<GGUFReader> reader = GGUFReader::open(path);
  if (!reader)
    return reader.takeError();
  return inputError(path, "gguf models are not supported yet; use the "
                          "Hugging Face directory of the model");
}
