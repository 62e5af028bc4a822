// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Npy.h"

using namespace tercet;

Error NpyWriter::open(const std::string &path, uint64_t numRows,
                      uint64_t numColumns) {
  if (Error error = file.open(path))
    return error;
  // Magic, version 1.0, length of the rest; padded so that data starts at 128.
  std::string header("\x93NUMPY\x01\x00\x76\x00", 10);
  header += format("{'descr': '<f4', 'fortran_order': False, 'shape': "
                   "(%llu, %llu), }",
                   (unsigned long long)numRows, (unsigned long long)numColumns);
  header.resize(127, ' ');
  header += '\n';
  return file.write(header.data(), header.size());
}

Error NpyWriter::write(const float *values, uint64_t count) {
  return file.write(values, count * sizeof(float));
}
