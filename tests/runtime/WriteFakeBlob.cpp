// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// write-fake-blob FILE [CPU_FEATURES]

#include "tests/runtime/FakeBlob.h"

#include <cstdio>
#include <cstdlib>

int main(int argc, char **argv) {
  tercet::test::FakeBlobOptions options;
  if (argc > 2)
    options.cpuFeatures = strtoull(argv[2], nullptr, 0);
  std::string blob = tercet::test::makeFakeBlob(options);
  FILE *file = fopen(argv[1], "wb");
  bool good = file && fwrite(blob.data(), blob.size(), 1, file) == 1;
  return good && fclose(file) == 0 ? 0 : 1;
}
