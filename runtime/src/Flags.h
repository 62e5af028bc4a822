// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A command line as a table: each flag is declared once, and the parser and
// --help both come from it.

#ifndef TERCET_RUNTIME_FLAGS_H
#define TERCET_RUNTIME_FLAGS_H

#include "runtime/src/Error.h"

#include <cstdint>
#include <cstring>
#include <span>

namespace tercet {

/// One argument as the setters see it.
struct Argument {
  const char *flag, *value;
};

template <typename Line> struct Flag {
  const char *name;
  const char *value; // Its name in --help; null: the flag takes none.
  const char *help;  // Null: hidden.
  Error (*set)(Line &line, Argument argument);
};

Error parseInteger(const char *flag, const char *text, int64_t least,
                   int64_t most, int64_t &result);

/// One line of --help, or more: each line of `help` but the first is indented.
std::string describeFlag(const char *name, const char *value, const char *help);

template <typename Line>
Error parseFlags(int argc, char **argv, std::span<const Flag<Line>> flags,
                 Line &line) {
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i];
    const char *value = nullptr;
    const char *equals = strchr(argv[i], '=');
    if (name.starts_with("--") && equals) {
      name.resize(equals - argv[i]);
      value = equals + 1;
    }
    const Flag<Line> *flag = nullptr;
    for (const Flag<Line> &candidate : flags)
      if (name == candidate.name)
        flag = &candidate;
    if (!flag)
      return Error("unknown argument '" + name + "' (--help lists them all)");
    if (!flag->value && value)
      return Error(name + ": takes no value");
    if (flag->value && !value) {
      if (++i == argc)
        return Error(name + ": expected " + flag->value + " after it");
      value = argv[i];
    }
    if (Error error = flag->set(line, {flag->name, value}))
      return error;
  }
  return Error::success();
}

template <typename Line>
std::string describeFlags(std::span<const Flag<Line>> flags) {
  std::string text;
  for (const Flag<Line> &flag : flags)
    if (flag.help)
      text += describeFlag(flag.name, flag.value, flag.help);
  return text;
}

} // namespace tercet

#endif // TERCET_RUNTIME_FLAGS_H
