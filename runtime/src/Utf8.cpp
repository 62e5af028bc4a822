// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Utf8.h"

using namespace tercet;

Utf8Character tercet::decodeUtf8(std::string_view text) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  unsigned char lead = byte(0);
  if (lead < 0x80)
    return {lead, 1, true, false};

  // Continuation bytes that follow, and the range of the first of them: it
  // excludes overlong forms, surrogates and code points above U+10FFFF.
  unsigned trailing, low = 0x80, high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF)
    trailing = 1;
  else if (lead >= 0xE0 && lead <= 0xEF)
    trailing = 2;
  else if (lead >= 0xF0 && lead <= 0xF4)
    trailing = 3;
  else
    return {replacementCharacter, 1, false, false};
  if (lead == 0xE0)
    low = 0xA0;
  else if (lead == 0xED)
    high = 0x9F;
  else if (lead == 0xF0)
    low = 0x90;
  else if (lead == 0xF4)
    high = 0x8F;

  uint32_t codePoint = lead & (0x3Fu >> trailing);
  for (unsigned i = 1; i <= trailing; ++i, low = 0x80, high = 0xBF) {
    if (i == text.size())
      return {replacementCharacter, i, false, true};
    if (byte(i) < low || byte(i) > high)
      return {replacementCharacter, i, false, false};
    codePoint = codePoint << 6 | (byte(i) & 0x3F);
  }
  return {codePoint, trailing + 1, true, false};
}

std::string_view tercet::lastCharacter(std::string_view text) {
  size_t begin = text.size() - 1;
  while (begin > 0 && (text[begin] & 0xC0) == 0x80)
    --begin;
  return text.substr(begin);
}

void tercet::appendUtf8(std::string &out, uint32_t codePoint) {
  auto push = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (codePoint < 0x80) {
    push(codePoint);
    return;
  }
  if (codePoint < 0x800) {
    push(0xC0 | codePoint >> 6);
  } else {
    if (codePoint < 0x10000) {
      push(0xE0 | codePoint >> 12);
    } else {
      push(0xF0 | codePoint >> 18);
      push(0x80 | (codePoint >> 12 & 0x3F));
    }
    push(0x80 | (codePoint >> 6 & 0x3F));
  }
  push(0x80 | (codePoint & 0x3F));
}

bool tercet::isUtf8(std::string_view text) {
  while (!text.empty()) {
    Utf8Character character = decodeUtf8(text);
    if (!character.valid)
      return false;
    text.remove_prefix(character.length);
  }
  return true;
}

/// Appends the repaired `text`; an unfinished character at its end is left
/// out, and the number of its bytes returned, when `keepTail`.
static size_t repairInto(std::string &out, std::string_view text,
                         bool keepTail) {
  while (!text.empty()) {
    Utf8Character character = decodeUtf8(text);
    if (character.truncated && keepTail)
      return text.size();
    if (character.valid)
      out.append(text.substr(0, character.length));
    else
      appendUtf8(out, replacementCharacter);
    text.remove_prefix(character.length);
  }
  return 0;
}

std::string tercet::repairUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  repairInto(out, text, /*keepTail=*/false);
  return out;
}

bool tercet::isWhiteSpace(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

std::string Utf8Stream::push(std::string_view bytes) {
  tail.append(bytes);
  std::string out;
  size_t kept = repairInto(out, tail, /*keepTail=*/true);
  tail.erase(0, tail.size() - kept);
  return out;
}

std::string Utf8Stream::finish() {
  std::string out = repairUtf8(tail);
  tail.clear();
  return out;
}
