// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Json.h"
#include "runtime/src/Error.h"
#include "runtime/src/Utf8.h"

#include <algorithm>
#include <charconv>
#include <cstring>

using namespace tercet;

std::string tercet::jsonString(std::string_view text) {
  std::string result = "\"";
  for (char c : repairUtf8(text)) {
    if (c == '"' || c == '\\')
      result += '\\';
    if (static_cast<unsigned char>(c) >= 0x20)
      result += c;
    else
      result += format("\\u%04x", c);
  }
  return result + '"';
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

void JsonReader::skipSpace() {
  size_t start = rest.find_first_not_of(" \t\r\n");
  rest.remove_prefix(std::min(start, rest.size()));
}

bool JsonReader::take(char c) {
  skipSpace();
  if (!rest.starts_with(c))
    return false;
  rest.remove_prefix(1);
  return true;
}

bool JsonReader::atEnd() {
  skipSpace();
  return rest.empty();
}

bool JsonReader::integer(int64_t &result) {
  skipSpace();
  auto [end, code] =
      std::from_chars(rest.data(), rest.data() + rest.size(), result);
  if (code != std::errc())
    return false;
  rest.remove_prefix(end - rest.data());
  return rest.empty() || !strchr(".eE", rest[0]);
}

bool JsonReader::string(std::string &result) {
  if (!take('"'))
    return false;
  while (!rest.empty()) {
    char c = rest[0];
    rest.remove_prefix(1);
    if (c == '"')
      return true;
    if (static_cast<unsigned char>(c) < 0x20)
      return false;
    if (c != '\\')
      result += c;
    else if (!escape(result))
      return false;
  }
  return false;
}

bool JsonReader::escape(std::string &result) {
  if (rest.empty())
    return false;
  char c = rest[0];
  rest.remove_prefix(1);
  if (c != 'u') {
    static constexpr std::string_view From = "\"\\/bfnrt",
                                      To = "\"\\/\b\f\n\r\t";
    size_t at = From.find(c);
    if (at == std::string_view::npos)
      return false;
    result += To[at];
    return true;
  }
  uint32_t code, low;
  if (!hexDigits(code))
    return false;
  if (code >= 0xDC00 && code < 0xE000)
    return false; // The second half of a pair comes first.
  if (code >= 0xD800 && code < 0xDC00) {
    if (!rest.starts_with("\\u"))
      return false;
    rest.remove_prefix(2);
    if (!hexDigits(low) || low < 0xDC00 || low >= 0xE000)
      return false;
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  }
  appendUtf8(result, code);
  return true;
}

bool JsonReader::hexDigits(uint32_t &result) {
  if (rest.size() < 4)
    return false;
  auto [end, code] = std::from_chars(rest.data(), rest.data() + 4, result, 16);
  if (code != std::errc() || end != rest.data() + 4)
    return false;
  rest.remove_prefix(4);
  return true;
}
