// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Flags.h"

#include <cerrno>
#include <cstdlib>

using namespace tercet;

Error tercet::parseInteger(const char *flag, const char *text, int64_t least,
                           int64_t most, int64_t &result) {
  char *end = nullptr;
  errno = 0;
  result = strtoll(text, &end, 10);
  if (errno == 0 && end != text && *end == 0 && result >= least &&
      result <= most)
    return Error::success();
  if (most == INT64_MAX)
    return Error(format("%s %s: expected a whole number, at least %lld", flag,
                        text, (long long)least));
  return Error(format("%s %s: expected a whole number from %lld to %lld", flag,
                      text, (long long)least, (long long)most));
}

std::string tercet::describeFlag(const char *name, const char *value,
                                 const char *help) {
  std::string left = std::string("  ") + name;
  if (value)
    left += std::string(" ") + value;
  std::string text = format("%-22s", left.c_str());
  for (const char *c = help; *c; ++c)
    text += *c == '\n' ? "\n" + std::string(22, ' ') : std::string(1, *c);
  return text + "\n";
}
