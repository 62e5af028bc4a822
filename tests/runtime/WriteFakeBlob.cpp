// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// write-fake-blob FILE CPU_FEATURES [--graph | DIRECTORY of tokenizer.json]

#include "frontends/Tokenizer/TokenizerBuilder.h"
#include "tests/runtime/FakeBlob.h"

#include <cstdio>
#include <cstdlib>

using namespace tercet::test;

int main(int argc, char **argv) {
  FakeBlobOptions options;
  options.cpuFeatures = strtoull(argv[2], nullptr, 0);
  if (argc > 3 && argv[3] == std::string("--graph")) {
    options.signature = makeFakeSignature();
  } else if (argc > 3) {
    tercet::TextAssets assets =
        llvm::cantFail(tercet::buildTextAssets(argv[3], FakeVocab));
    options.tokenizer.assign(assets.tokenizer.begin(), assets.tokenizer.end());
    options.chatTemplate = assets.chatTemplate;
  }
  std::string blob = makeFakeBlob(options);
  FILE *file = fopen(argv[1], "wb");
  bool good = file && fwrite(blob.data(), blob.size(), 1, file) == 1;
  return good && fclose(file) == 0 ? 0 : 1;
}
