// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_FRONTENDS_TOKENIZER_GGUFTEXT_H
#define TERCET_FRONTENDS_TOKENIZER_GGUFTEXT_H

#include "frontends/Tokenizer/TokenizerBuilder.h"

namespace tercet {

/// Reads tokenizer.* and general.sampling.* of a .gguf file.
llvm::Expected<TextAssets> readGGUFText(llvm::StringRef path,
                                        uint32_t vocabSize);

} // namespace tercet

#endif // TERCET_FRONTENDS_TOKENIZER_GGUFTEXT_H
