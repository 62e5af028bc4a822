// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/Tokenizer/TokenizerModel.h"
#include "frontends/Tokenizer/OnigurumaPattern.h"
#include "runtime/src/Pattern.h"
#include "runtime/src/Utf8.h"

#include "llvm/ADT/StringExtras.h"

#include <optional>

using namespace tercet;
using llvm::StringRef;
using llvm::Twine;

/// The bytes that a token of the vocabulary spells in the byte alphabet;
/// nothing if it has characters outside, as many added tokens do.
static std::optional<std::string> spelledBytes(StringRef content) {
  std::string bytes;
  while (!content.empty()) {
    Utf8Character c = decodeUtf8(content);
    if (c.codePoint >= ByteAlphabet::end || byteAlphabet.byte[c.codePoint] < 0)
      return std::nullopt;
    bytes.push_back(static_cast<char>(byteAlphabet.byte[c.codePoint]));
    content = content.drop_front(c.length);
  }
  return bytes;
}

/// The byte of a sentencepiece token such as <0x0A>.
static std::optional<uint8_t> fallbackByte(StringRef content) {
  uint8_t byte;
  if (content.size() == 6 && content.consume_front("<0x") &&
      content.consume_back(">") && !content.getAsInteger(16, byte))
    return byte;
  return std::nullopt;
}

int32_t TokenizerModel::find(StringRef content) const {
  auto found = idOfContent.find(content);
  return found == idOfContent.end() ? noToken : found->second;
}

std::string TokenizerModel::decode(StringRef content) const {
  if (mergesCharacters)
    return llvm::join(llvm::split(content, kVisibleSpace), " ");
  return spelledBytes(content).value_or(content.str());
}

void TokenizerModel::spell(int32_t id, StringRef content) {
  Token &token = tokens[id];
  token.bytes = decode(content);
  std::optional<uint8_t> byte;
  if (mergesCharacters) {
    byte = fallbackByte(content);
    if (byte)
      token.bytes.assign(1, static_cast<char>(*byte));
    // Texts have no literal spaces when they are looked up.
    token.inVocabulary = !byte && !content.contains(' ');
  } else {
    token.inVocabulary = spelledBytes(content).has_value();
    if (token.inVocabulary && token.bytes.size() == 1)
      byte = static_cast<uint8_t>(token.bytes.front());
  }
  if (byte)
    byteTokens[*byte] = id;
}

llvm::Error TokenizerModel::addMerge(StringRef left, StringRef right) {
  std::string result = (left + right).str();
  for (StringRef name : {left, right})
    if (find(name) == noToken)
      return llvm::createStringError("merges \"" + name +
                                     "\", which is not in the vocabulary");
  if (find(result) == noToken)
    return llvm::createStringError("merges into \"" + result +
                                   "\", which is not in the vocabulary");
  merges.push_back({find(left), find(right), find(result),
                    static_cast<uint32_t>(merges.size())});
  return llvm::Error::success();
}

llvm::Error TokenizerModel::addSplit(StringRef pattern, SplitBehavior behavior,
                                     bool invert) {
  auto translated = translateOniguruma(pattern);
  if (!translated)
    return translated.takeError();
  if (Error error = Pattern().compile(*translated))
    return llvm::createStringError(error.message());
  steps.push_back({StepKind::Split, behavior, invert, *translated});
  return llvm::Error::success();
}
