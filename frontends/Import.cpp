// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/Import.h"
#include "frontends/GGUF/ImportGGUF.h"
#include "frontends/ONNX/ImportONNX.h"
#include "frontends/Safetensors/ImportSafetensors.h"
#include "frontends/Support/InputError.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace tercet;

llvm::Expected<OwningOpRef<ModuleOp>>
tercet::importModel(MLIRContext &context, StringRef model,
                    const ImportOptions &options) {
  if (!llvm::sys::fs::exists(model))
    return inputError(model, "no such file or directory");
  StringRef extension = llvm::sys::path::extension(model);
  if (llvm::sys::fs::is_directory(model) || extension == ".safetensors")
    return importSafetensors(context, model, options);
  if (extension == ".onnx")
    return importONNX(context, model);
  if (extension == ".gguf")
    return importGGUF(context, model, options);
  return inputError(model,
                    "is no model: expected a Hugging Face directory, a "
                    ".safetensors file with its config.json beside it, a .gguf "
                    "file or an .onnx file");
}
