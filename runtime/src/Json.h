// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_RUNTIME_JSON_H
#define TERCET_RUNTIME_JSON_H

#include <cstdint>
#include <string>
#include <string_view>

namespace tercet {

/// A string literal of JSON; ill-formed UTF-8 becomes U+FFFD.
std::string jsonString(std::string_view text);

/// Reads JSON from left to right. Every function skips space first
/// and answers false, at an unspecified place, to anything but what it is for.
class JsonReader {
public:
  explicit JsonReader(std::string_view text) : rest(text) {}

  bool take(char c);
  bool string(std::string &result);
  bool integer(int64_t &result);
  bool atEnd();

private:
  void skipSpace();
  /// After the backslash.
  bool escape(std::string &result);
  bool hexDigits(uint32_t &result);

  std::string_view rest;
};

} // namespace tercet

#endif // TERCET_RUNTIME_JSON_H
