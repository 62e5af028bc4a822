// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Emit/OutputFile.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/Signals.h"
#include "llvm/Support/raw_ostream.h"
#include <utility>

using namespace llvm;
using namespace tercet;

static void removeFile(StringRef path) {
  sys::fs::remove(path);
  sys::DontRemoveFileOnSignal(path);
}

/// Writes all of `bytes` to the descriptor and closes it.
static Error writeAndClose(int descriptor, StringRef path, StringRef bytes) {
  raw_fd_ostream out(descriptor, /*shouldClose=*/true);
  out << bytes;
  out.close();
  std::error_code code = out.error();
  out.clear_error();
  return code ? createFileError(path, code) : Error::success();
}

Expected<OutputFile> OutputFile::create(StringRef path) {
  sys::fs::file_status status;
  sys::fs::status(path, status);
  if (sys::fs::is_directory(status))
    return createStringError("'" + path +
                             "' is a directory; give the name of a file");
  if (sys::fs::exists(status) && !sys::fs::is_regular_file(status))
    return createStringError("'" + path + "' is not a regular file");

  SmallString<128> temporary;
  int descriptor;
  if (std::error_code code = sys::fs::createUniqueFile(path + ".%%%%%%.tmp",
                                                       descriptor, temporary)) {
    StringRef directory = sys::path::parent_path(path);
    return createStringError("cannot write to directory '" +
                             (directory.empty() ? "." : directory) +
                             "': " + code.message());
  }
  sys::RemoveFileOnSignal(temporary);
  sys::Process::SafelyCloseFileDescriptor(descriptor);
  return OutputFile(path, temporary);
}

OutputFile::OutputFile(StringRef path, StringRef temporary)
    : path(path), temporary(temporary) {}

OutputFile::OutputFile(OutputFile &&other)
    : path(std::move(other.path)),
      temporary(std::exchange(other.temporary, {})) {}

OutputFile::~OutputFile() {
  if (!temporary.empty())
    removeFile(temporary);
}

Error OutputFile::commit() {
  if (std::error_code code = sys::fs::rename(temporary, path))
    return createFileError(path, code);
  sys::DontRemoveFileOnSignal(temporary);
  temporary.clear();
  return Error::success();
}

Error tercet::writeOutput(StringRef path, StringRef bytes) {
  if (path == "-") {
    outs() << bytes;
    return Error::success();
  }
  Expected<OutputFile> file = OutputFile::create(path);
  if (!file)
    return file.takeError();
  int descriptor;
  if (std::error_code code =
          sys::fs::openFileForWrite(file->temporaryPath(), descriptor))
    return createFileError(path, code);
  if (Error error = writeAndClose(descriptor, path, bytes))
    return error;
  return file->commit();
}

Expected<ScratchFile> ScratchFile::create(StringRef suffix, StringRef bytes) {
  SmallString<128> path;
  int descriptor;
  if (std::error_code code =
          sys::fs::createTemporaryFile("tercet", suffix, descriptor, path))
    return createStringError(code, "cannot create a temporary file");
  sys::RemoveFileOnSignal(path);
  ScratchFile file(path.str().str());
  if (Error error = writeAndClose(descriptor, path, bytes))
    return error;
  return file;
}

ScratchFile::ScratchFile(ScratchFile &&other)
    : name(std::exchange(other.name, {})) {}

ScratchFile::~ScratchFile() {
  if (!name.empty())
    removeFile(name);
}
