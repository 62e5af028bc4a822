// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The tokenizer.json of Hugging Face tokenizers.

#ifndef TERCET_FRONTENDS_TOKENIZER_TOKENIZERJSON_H
#define TERCET_FRONTENDS_TOKENIZER_TOKENIZERJSON_H

#include "frontends/Tokenizer/JsonFile.h"
#include "frontends/Tokenizer/TokenizerModel.h"

namespace tercet {

/// Reads the root of a tokenizer.json. An error names the field that is
/// missing, wrong, or asks for something the runtime does not do.
llvm::Expected<TokenizerModel> readTokenizerJson(const JsonField &root,
                                                 uint32_t vocabSize);

} // namespace tercet

#endif // TERCET_FRONTENDS_TOKENIZER_TOKENIZERJSON_H
