// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Error.h"

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

using namespace tercet;

std::string tercet::format(const char *pattern, ...) {
  va_list args, again;
  va_start(args, pattern);
  va_copy(again, args);
  std::string text(vsnprintf(nullptr, 0, pattern, args), '\0');
  vsnprintf(text.data(), text.size() + 1, pattern, again);
  va_end(again);
  va_end(args);
  return text;
}

Error tercet::errnoError(const std::string &doing) {
  return Error("cannot " + doing + ": " + strerror(errno));
}
