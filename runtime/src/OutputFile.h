// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_RUNTIME_OUTPUTFILE_H
#define TERCET_RUNTIME_OUTPUTFILE_H

#include "runtime/src/Error.h"

#include <cstdint>

namespace tercet {

/// A file that appears under its name only when it is complete: it is written
/// beside it and renamed. Devices are written in place.
class OutputFile {
public:
  OutputFile() = default;
  OutputFile(const OutputFile &) = delete;
  /// Removes what is unfinished.
  ~OutputFile();

  Error open(const std::string &path);
  Error write(const void *data, uint64_t size);
  Error finish();

private:
  std::string path, temporary;
  int file = -1;
};

} // namespace tercet

#endif // TERCET_RUNTIME_OUTPUTFILE_H
