// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Bytes as a .gguf file. Whatever they are, the answer is an error, or tensors
// and values that lie in the file.

#include "frontends/GGUF/GGUFReader.h"

using namespace llvm;
using namespace tercet;

static void check(const GGUFReader &reader, StringRef file) {
  for (const GGUFTensor &tensor : reader.getTensors()) {
    auto *data = reinterpret_cast<const char *>(tensor.bytes.data());
    if (data < file.begin() || data + tensor.bytes.size() > file.end() ||
        file.data() + tensor.offset != data ||
        reader.findTensor(tensor.name) != &tensor)
      __builtin_trap();
  }
  for (StringRef key : {"k", "general.architecture", "general.alignment"}) {
    const GGUFValue *value = reader.findValue(key);
    if (!value)
      continue;
    (void)value->print();
    (void)value->getNumbers();
    if (auto strings = value->getStrings())
      for (StringRef string : *strings)
        if (!string.empty() && (string.data() < file.begin() ||
                                string.data() + string.size() > file.end()))
          __builtin_trap();
  }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::unique_ptr<MemoryBuffer> buffer = MemoryBuffer::getMemBufferCopy(
      StringRef(reinterpret_cast<const char *>(data), size), "fuzz");
  StringRef file = buffer->getBuffer();
  GGUFReader reader;
  if (Error error = reader.addFile(std::move(buffer)))
    consumeError(std::move(error));
  else
    check(reader, file);
  return 0;
}
