// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/tools/ModelFiles.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/xxhash.h"

using namespace llvm;
using namespace tercet;

static StringRef getModelDirectory(StringRef model) {
  if (sys::fs::is_directory(model))
    return model;
  StringRef parent = sys::path::parent_path(model);
  return parent.empty() ? "." : parent;
}

std::string tercet::getModelName(StringRef model) {
  SmallString<128> path;
  if (sys::fs::real_path(model, path))
    path = model;
  return sys::fs::is_directory(path) ? sys::path::filename(path).str()
                                     : sys::path::stem(path).str();
}

/// Whether a file beside the file `model` is part of it: what configures it, or
/// the other parts of a split .gguf, called NAME-00001-of-00003.gguf.
static bool belongsTo(StringRef name, StringRef model) {
  if (sys::path::extension(model) != ".gguf")
    return name.ends_with(".json");
  auto [stem, numParts] = model.rsplit("-00001-of-");
  return name.size() == model.size() && name.starts_with((stem + "-").str()) &&
         name.ends_with(("-of-" + numParts).str());
}

Expected<std::vector<ModelFile>> tercet::listModelFiles(StringRef model) {
  if (!sys::fs::exists(model))
    return createStringError("no such model: '" + model + "'");
  bool isDirectory = sys::fs::is_directory(model);
  std::vector<ModelFile> files;
  std::error_code code;
  for (sys::fs::directory_iterator it(getModelDirectory(model), code), end;
       !code && it != end; it.increment(code)) {
    StringRef name = sys::path::filename(it->path());
    StringRef modelName = sys::path::filename(model);
    if (!isDirectory && name != modelName && !belongsTo(name, modelName))
      continue;
    sys::fs::file_status status;
    if (sys::fs::status(it->path(), status) || !is_regular_file(status))
      continue;
    SmallString<128> path;
    if (sys::fs::real_path(it->path(), path))
      path = it->path();
    files.push_back(
        {path.str().str(), status.getSize(), status.getLastModificationTime()});
  }
  if (code)
    return createFileError(model, code);
  llvm::sort(files, [](auto &a, auto &b) { return a.path < b.path; });
  return files;
}

Expected<uint64_t> tercet::hashModel(StringRef model) {
  auto files = listModelFiles(model);
  if (!files)
    return files.takeError();
  std::string identity;
  for (const ModelFile &file : *files) {
    identity += sys::path::filename(file.path).str() + '\0' +
                std::to_string(file.sizeInBytes);
    // In pieces, so that no more than one is in memory.
    constexpr uint64_t kPiece = 16 << 20;
    for (uint64_t at = 0; at < file.sizeInBytes; at += kPiece) {
      auto piece = MemoryBuffer::getFileSlice(
          file.path, std::min(kPiece, file.sizeInBytes - at), at);
      if (!piece)
        return createFileError(file.path, piece.getError());
      identity += '\0' + std::to_string(xxh3_64bits((*piece)->getBuffer()));
    }
    identity += '\n';
  }
  return xxh3_64bits(identity);
}
