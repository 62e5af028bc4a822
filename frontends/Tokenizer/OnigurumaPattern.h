// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Hugging Face tokenizers reads the patterns of tokenizer.json with Oniguruma,
// the runtime with PCRE2. They agree on most of the syntax; this rewrites what
// differs and refuses what has no equivalent, so that a pattern never silently
// means something else.

#ifndef TERCET_FRONTENDS_TOKENIZER_ONIGURUMAPATTERN_H
#define TERCET_FRONTENDS_TOKENIZER_ONIGURUMAPATTERN_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <string>

namespace tercet {

/// The PCRE2 pattern (UTF, UCP, multi-line) that matches what `pattern` does
/// in Oniguruma's default syntax.
llvm::Expected<std::string> translateOniguruma(llvm::StringRef pattern);

/// A pattern that matches exactly `text`.
std::string quotePattern(llvm::StringRef text);

} // namespace tercet

#endif // TERCET_FRONTENDS_TOKENIZER_ONIGURUMAPATTERN_H
