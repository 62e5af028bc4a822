// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Bytes as a .safetensors file, as the header of one, and as a config.json.
// Whatever they are, the answer is an error or tensors that lie in the file.

#include "frontends/Safetensors/ModelConfig.h"
#include "frontends/Safetensors/SafetensorsReader.h"

#include "llvm/Support/Endian.h"

using namespace llvm;
using namespace tercet;

static void read(StringRef file) {
  std::unique_ptr<MemoryBuffer> buffer =
      MemoryBuffer::getMemBufferCopy(file, "fuzz");
  const char *begin = buffer->getBufferStart(), *end = buffer->getBufferEnd();
  SafetensorsReader reader;
  if (Error error = reader.addFile(std::move(buffer)))
    return consumeError(std::move(error));
  for (const Tensor &tensor : reader.getTensors()) {
    auto *data = reinterpret_cast<const char *>(tensor.bytes.data());
    if (data < begin || data + tensor.bytes.size() > end ||
        begin + tensor.offset != data || reader.find(tensor.name) != &tensor)
      __builtin_trap();
  }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  StringRef text(reinterpret_cast<const char *>(data), size);
  read(text);

  // The text as a header, followed by as much data as a small tensor needs.
  std::string file(8, '\0');
  support::endian::write64le(file.data(), size);
  read(file + text.str());
  read(file + text.str() + std::string(16, '\0'));

  Expected<ModelConfig> config = ModelConfig::parse(text, "fuzz");
  if (!config)
    consumeError(config.takeError());
  else
    (void)config->isFloatModule("model.layers.0.mlp.up_proj");
  return 0;
}
