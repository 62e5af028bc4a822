// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Json.h"
#include "runtime/src/Error.h"
#include "runtime/src/Utf8.h"

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
