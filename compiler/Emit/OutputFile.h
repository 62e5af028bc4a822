// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A file that appears under its name only when it is complete.

#ifndef TERCET_COMPILER_EMIT_OUTPUTFILE_H
#define TERCET_COMPILER_EMIT_OUTPUTFILE_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <string>

namespace tercet {

/// A temporary file beside its final name. It is renamed by commit() and
/// removed otherwise: by the destructor, or by the handler of a fatal signal.
class OutputFile {
public:
  /// Fails with one clear line when `path` cannot be written.
  static llvm::Expected<OutputFile> create(llvm::StringRef path);

  OutputFile(OutputFile &&other);
  OutputFile &operator=(OutputFile &&) = delete;
  ~OutputFile();

  /// Of the temporary; another program may replace it.
  llvm::StringRef temporaryPath() const { return temporary; }
  llvm::StringRef finalPath() const { return path; }

  llvm::Error commit();

private:
  OutputFile(llvm::StringRef path, llvm::StringRef temporary);

  std::string path, temporary;
};

/// Writes `bytes` to `path` through an OutputFile; "-" is stdout.
llvm::Error writeOutput(llvm::StringRef path, llvm::StringRef bytes);

/// A file in the system's temporary directory, removed with this object.
class ScratchFile {
public:
  static llvm::Expected<ScratchFile> create(llvm::StringRef suffix,
                                            llvm::StringRef bytes);
  ScratchFile(ScratchFile &&other);
  ScratchFile &operator=(ScratchFile &&) = delete;
  ~ScratchFile();

  const std::string &path() const { return name; }

private:
  explicit ScratchFile(std::string name) : name(std::move(name)) {}

  std::string name;
};

} // namespace tercet

#endif // TERCET_COMPILER_EMIT_OUTPUTFILE_H
