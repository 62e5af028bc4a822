// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_RUNTIME_NPY_H
#define TERCET_RUNTIME_NPY_H

#include "runtime/src/OutputFile.h"

namespace tercet {

/// Writes a float32 matrix as .npy version 1, row by row, so that the logits
/// of a long prompt never sit in memory. The file appears under its name only
/// when it is complete.
class NpyWriter {
public:
  Error open(const std::string &path, uint64_t numRows, uint64_t numColumns);
  Error write(const float *values, uint64_t count);
  Error finish() { return file.finish(); }

private:
  OutputFile file;
};

} // namespace tercet

#endif // TERCET_RUNTIME_NPY_H
