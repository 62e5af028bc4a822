// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_COMPILER_TOOLS_MODELFILES_H
#define TERCET_COMPILER_TOOLS_MODELFILES_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Chrono.h"
#include "llvm/Support/Error.h"
#include <string>
#include <vector>

namespace tercet {

struct ModelFile {
  std::string path;
  uint64_t sizeInBytes;
  llvm::sys::TimePoint<> modified;
};

/// The files that MODEL is made of, by name: those of a directory, or the file
/// and the JSON files (of a .gguf file, its other parts) beside it.
llvm::Expected<std::vector<ModelFile>> listModelFiles(llvm::StringRef model);

/// The model's own name: of its directory, or of the file without extension.
std::string getModelName(llvm::StringRef model);

/// Identifies a model wherever it lies: names and contents of its files.
llvm::Expected<uint64_t> hashModel(llvm::StringRef model);

} // namespace tercet

#endif // TERCET_COMPILER_TOOLS_MODELFILES_H
