// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The tokenizer of a .gguf file: tokenizer.ggml.* of its metadata.

#ifndef TERCET_FRONTENDS_TOKENIZER_TOKENIZERMETADATA_H
#define TERCET_FRONTENDS_TOKENIZER_TOKENIZERMETADATA_H

#include "frontends/GGUF/GGUFMetadata.h"
#include "frontends/Tokenizer/TokenizerModel.h"

namespace tercet {

/// Reads byte-level BPE ("gpt2") and the BPE of sentencepiece ("llama"). An
/// error names the key that is missing, wrong, or asks for something the
/// runtime does not do; `warnings` gets what was guessed or ignored.
llvm::Expected<TokenizerModel>
readTokenizerMetadata(const GGUFMetadata &metadata, uint32_t vocabSize,
                      std::vector<std::string> &warnings);

} // namespace tercet

#endif // TERCET_FRONTENDS_TOKENIZER_TOKENIZERMETADATA_H
