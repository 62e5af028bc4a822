// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A tokenizer between tokenizer.json and the blob that the runtime reads.

#ifndef TERCET_FRONTENDS_TOKENIZER_TOKENIZERMODEL_H
#define TERCET_FRONTENDS_TOKENIZER_TOKENIZERMODEL_H

#include "frontends/Tokenizer/JsonFile.h"
#include "runtime/src/TokenizerBlob.h"

#include "llvm/ADT/StringMap.h"

#include <array>
#include <string>
#include <vector>

namespace tercet {

struct TokenizerModel {
  struct Token {
    std::string bytes;         // what it decodes to
    uint8_t flags = 0;         // BlobTokenFlags
    bool inVocabulary = false; // BPE may produce it
  };
  struct AddedToken {
    std::string content; // as it is matched in the text
    int32_t token;
  };
  struct Step {
    StepKind kind;
    SplitBehavior behavior = SplitBehavior::Isolated;
    bool invert = false;
    std::string pattern = {}; // PCRE2
  };

  std::vector<Token> tokens; // by id
  std::array<int32_t, 256> byteTokens;
  std::vector<BlobMerge> merges; // by rank
  bool ignoreMerges = false;
  bool mergesCharacters = false, stripsSpace = false; // sentencepiece
  std::vector<AddedToken> addedTokens[2]; // the first are matched first
  std::vector<Step> steps;
  std::vector<int32_t> prefix, suffix;
  int32_t bosToken = noToken, eosToken = noToken;
  int32_t padToken = noToken, unknownToken = noToken;

  /// The token whose content in the JSON this is; noToken if there is none.
  int32_t find(llvm::StringRef content) const;
  llvm::StringMap<int32_t> idOfContent;
};

/// Reads the root of a tokenizer.json. An error names the field that is
/// missing, wrong, or asks for something the runtime does not do.
llvm::Expected<TokenizerModel> readTokenizerModel(const JsonField &root,
                                                  uint32_t vocabSize);

/// The bytes of runtime/src/TokenizerBlob.h.
std::vector<uint8_t> writeTokenizerBlob(const TokenizerModel &model);

} // namespace tercet

#endif // TERCET_FRONTENDS_TOKENIZER_TOKENIZERMODEL_H
