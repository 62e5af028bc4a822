// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A tokenizer between the file that describes it and the blob that the runtime
// reads.

#ifndef TERCET_FRONTENDS_TOKENIZER_TOKENIZERMODEL_H
#define TERCET_FRONTENDS_TOKENIZER_TOKENIZERMODEL_H

#include "runtime/src/TokenizerBlob.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <array>
#include <string>
#include <vector>

namespace tercet {

/// The split of GPT-2, and of a ByteLevel with use_regex.
inline constexpr llvm::StringLiteral kGPT2SplitPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// Sentencepiece's visible space, U+2581.
inline constexpr llvm::StringLiteral kVisibleSpace = "\xE2\x96\x81";

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

  TokenizerModel() { byteTokens.fill(noToken); }

  /// The token whose content in the file this is; noToken if there is none.
  int32_t find(llvm::StringRef content) const;

  /// What a token decodes to whose content in the file this is: GPT-2's
  /// printable stand-ins mean bytes, sentencepiece's visible space a space.
  std::string decode(llvm::StringRef content) const;

  /// Makes a token one of the vocabulary, and of its byte if it is a single
  /// one, unless its content is none that BPE could produce.
  void spell(int32_t token, llvm::StringRef content);

  /// Appends the merge of the next rank. An error names the token that is
  /// missing.
  llvm::Error addMerge(llvm::StringRef left, llvm::StringRef right);

  /// Appends a split by a pattern in the syntax of Oniguruma.
  llvm::Error addSplit(llvm::StringRef pattern, SplitBehavior behavior,
                       bool invert);

  std::vector<Token> tokens; // by id
  llvm::StringMap<int32_t> idOfContent;
  std::array<int32_t, 256> byteTokens;
  std::vector<BlobMerge> merges;
  bool ignoreMerges = false;
  bool mergesCharacters = false, stripsSpace = false; // sentencepiece
  std::vector<AddedToken> addedTokens[2]; // the first are matched first
  std::vector<Step> steps;
  std::vector<int32_t> prefix, suffix;
  int32_t bosToken = noToken, eosToken = noToken;
  int32_t padToken = noToken, unknownToken = noToken;
  std::vector<int32_t> endTokens; // of generation, if the file says
};

/// The bytes of runtime/src/TokenizerBlob.h.
std::vector<uint8_t> writeTokenizerBlob(const TokenizerModel &model);

} // namespace tercet

#endif // TERCET_FRONTENDS_TOKENIZER_TOKENIZERMODEL_H
