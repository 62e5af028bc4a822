// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_RUNTIME_NPY_H
#define TERCET_RUNTIME_NPY_H

#include "runtime/src/Memory.h"
#include "runtime/src/OutputFile.h"

#include <span>
#include <string_view>
#include <vector>

namespace tercet {

/// Writes an array as .npy version 1 in C order, piece by piece, so that the
/// logits of a long prompt never sit in memory. The file appears under its name
/// only when it is complete.
class NpyWriter {
public:
  /// `descr` is NumPy's name of the element type: "<f4".
  Error open(const std::string &path, std::string_view descr,
             std::span<const int64_t> shape);
  Error write(const void *data, uint64_t size) {
    return file.write(data, size);
  }
  Error finish() { return file.finish(); }

private:
  OutputFile file;
};

/// A little-endian array in C order.
struct NpyArray {
  std::string descr;
  std::vector<int64_t> shape;
  PageMemory data;
};

/// "-" is stdin.
Error readNpy(const std::string &path, NpyArray &result);

} // namespace tercet

#endif // TERCET_RUNTIME_NPY_H
