// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// UTF-8 as Python reads it: an ill-formed sequence becomes one U+FFFD per
// maximal subpart (Unicode 3.9, "substitution of maximal subparts"), which is
// what bytes.decode(errors="replace") and WHATWG decoders do.

#ifndef TERCET_RUNTIME_UTF8_H
#define TERCET_RUNTIME_UTF8_H

#include <cstdint>
#include <string>
#include <string_view>

namespace tercet {

inline constexpr uint32_t replacementCharacter = 0xFFFD;

struct Utf8Character {
  uint32_t codePoint; // replacementCharacter when ill-formed
  uint32_t length;    // bytes taken, at least 1
  bool valid;
  bool truncated; // ill-formed only because the text ends
};

/// The first character of `text`, which is not empty.
Utf8Character decodeUtf8(std::string_view text);

/// The bytes of the last character of `text`, which is valid and not empty.
std::string_view lastCharacter(std::string_view text);

void appendUtf8(std::string &out, uint32_t codePoint);

bool isUtf8(std::string_view text);

/// `text` with every ill-formed sequence replaced.
std::string repairUtf8(std::string_view text);

/// The Unicode property White_Space, which is what Rust and Oniguruma mean by
/// a space. (Python's str.isspace has four more, U+001C..U+001F.)
bool isWhiteSpace(uint32_t codePoint);

/// Turns a stream of bytes into well-formed text: an unfinished character at
/// the end of one piece waits for the next.
class Utf8Stream {
public:
  std::string push(std::string_view bytes);

  /// The rest of the stream: U+FFFD if it ends inside a character.
  std::string finish();

private:
  std::string tail; // at most 3 bytes
};

} // namespace tercet

#endif // TERCET_RUNTIME_UTF8_H
