// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_RUNTIME_NPY_H
#define TERCET_RUNTIME_NPY_H

#include "runtime/src/Error.h"

#include <cstdint>

namespace tercet {

/// Writes a float32 matrix as .npy version 1, row by row, so that the logits
/// of a long prompt never sit in memory. The file appears under its name only
/// when it is complete.
class NpyWriter {
public:
  NpyWriter() = default;
  NpyWriter(const NpyWriter &) = delete;
  /// Removes what is unfinished.
  ~NpyWriter();

  Error open(const std::string &path, uint64_t numRows, uint64_t numColumns);
  Error write(const float *values, uint64_t count);
  Error finish();

private:
  Error writeBytes(const void *data, uint64_t size);

  std::string path, temporary;
  int file = -1;
};

} // namespace tercet

#endif // TERCET_RUNTIME_NPY_H
