// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_RUNTIME_JINJA_LEXER_H
#define TERCET_RUNTIME_JINJA_LEXER_H

#include "runtime/src/Error.h"

#include <string_view>
#include <vector>

namespace tercet::jinja {

struct Token {
  enum class Kind {
    Text,          // outside of tags, white space control applied
    VariableBegin, // {{
    VariableEnd,
    BlockBegin, // {%
    BlockEnd,
    Name,
    String, // with its quotes and escapes
    Integer,
    Float,
    Operator,
    End,
  };
  Kind kind;
  int line;
  std::string_view text; // in the source
};

/// Cuts a template into tokens; the last is End.
Error tokenize(std::string_view source, std::vector<Token> &tokens);

} // namespace tercet::jinja

#endif // TERCET_RUNTIME_JINJA_LEXER_H
