// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The metadata of a GGUF file, as far as arithmetic depends on it.

#ifndef TERCET_FRONTENDS_GGUF_GGUFCONFIG_H
#define TERCET_FRONTENDS_GGUF_GGUFCONFIG_H

#include "frontends/GGUF/GGUFReader.h"
#include "frontends/LanguageModel/LanguageModel.h"

namespace tercet {

struct GGUFConfig : TransformerConfig {
  /// bitnet*: norms before attn_output and ffn_down, and floats that are not
  /// ternary are latent weights. Otherwise llama.
  bool isBitNet;

  static llvm::Expected<GGUFConfig> read(const GGUFReader &reader,
                                         llvm::StringRef path);
};

} // namespace tercet

#endif // TERCET_FRONTENDS_GGUF_GGUFCONFIG_H
