// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Byte-level BPE and the BPE of sentencepiece, token for token what Hugging
// Face tokenizers does with the tokenizer.json that the blob was made from.

#ifndef TERCET_RUNTIME_TOKENIZER_H
#define TERCET_RUNTIME_TOKENIZER_H

#include "runtime/src/Error.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tercet {

struct EncodeOptions {
  bool addSpecial = true;    // the tokens around a text, such as BOS
  bool allowSpecial = false; // special tokens written in the text count as such
};

class Tokenizer {
public:
  /// `blob` is 8-byte aligned and outlives the tokenizer.
  static Error create(std::span<const uint8_t> blob,
                      std::unique_ptr<Tokenizer> &tokenizer);
  ~Tokenizer();

  /// Appends the tokens of `text`, which is repaired first if it is not UTF-8.
  /// An error if a pattern needs more backtracking than allowed.
  Error encode(std::string_view text, const EncodeOptions &options,
               std::vector<int32_t> &tokens) const;

  /// The bytes of a token, which may end inside a character; none for an id
  /// outside the vocabulary.
  std::string_view bytes(int32_t token) const;
  bool isSpecial(int32_t token) const;

  /// The text of `tokens`, as UTF-8. (Bytes of sentencepiece that are no UTF-8
  /// become U+FFFD by the same rule as all others.)
  std::string decode(std::span<const int32_t> tokens, bool skipSpecial) const;

  /// The token that stands for exactly these bytes, added tokens first;
  /// noToken (-1) if there is none.
  int32_t find(std::string_view bytes) const;

  int32_t numTokens() const;
  /// -1 where the model names none.
  int32_t bosToken() const;
  int32_t eosToken() const;
  int32_t padToken() const;
  int32_t unknownToken() const;

private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl;
};

} // namespace tercet

#endif // TERCET_RUNTIME_TOKENIZER_H
