// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The text half of a model, made ready for the runtime at compile time: what is
// unsupported or damaged is refused here, never at run time.

#ifndef TERCET_FRONTENDS_TOKENIZER_TOKENIZERBUILDER_H
#define TERCET_FRONTENDS_TOKENIZER_TOKENIZERBUILDER_H

#include "tercet/artifact.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <string>
#include <vector>

namespace tercet {

struct TextAssets {
  std::vector<uint8_t> tokenizer; // runtime/src/TokenizerBlob.h
  std::string chatTemplate;       // Jinja; empty if the model has none
  tercet_generation generation;
  std::vector<std::string> warnings; // what was guessed or ignored
};

/// Reads the metadata of a .gguf file, or tokenizer.json, tokenizer_config.json
/// (with special_tokens_map.json and chat_template.jinja),
/// generation_config.json and the token ids of config.json in a directory, or
/// beside a file, `model`. All are optional: without a tokenizer the blob is
/// empty, and the model takes token ids only.
llvm::Expected<TextAssets> buildTextAssets(llvm::StringRef model,
                                           uint32_t vocabSize);

} // namespace tercet

#endif // TERCET_FRONTENDS_TOKENIZER_TOKENIZERBUILDER_H
