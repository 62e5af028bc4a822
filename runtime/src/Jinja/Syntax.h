// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The syntax tree of a template.

#ifndef TERCET_RUNTIME_JINJA_SYNTAX_H
#define TERCET_RUNTIME_JINJA_SYNTAX_H

#include "runtime/src/Error.h"
#include "runtime/src/Jinja/Value.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tercet::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
  enum class Kind {
    Constant,    // literal
    Name,        // name
    List,        // operands
    Tuple,       // operands
    Dict,        // operands: key, value, key, value, ...
    Attribute,   // operands[0].name
    Subscript,   // operands[0][operands[1]]
    Slice,       // operands[0][[1]:[2]:[3]], null where left out
    Call,        // operands[0](the others, keywords)
    Filter,      // operands[0] | name(the others, keywords)
    Test,        // operands[0] is name(the others, keywords)
    Not,         // operands[0]
    Negate,      // operands[0]
    Plus,        // operands[0]
    And,         // operands[0], [1]
    Or,          // operands[0], [1]
    Binary,      // operands[0] name operands[1]
    Compare,     // operands[0] operators[0] operands[1] operators[1] ...
    Conditional, // operands[0] if [1] else [2], which may be null
  };

  Kind kind;
  int line;
  int depth = 1;         // of the tree below
  std::string_view name; // in the source
  Value literal;
  std::vector<ExpressionPtr> operands;
  std::vector<std::pair<std::string_view, ExpressionPtr>> keywords;
  std::vector<std::string_view> operators;
};

struct Statement;
using StatementPtr = std::unique_ptr<Statement>;
using Block = std::vector<StatementPtr>;

struct Statement {
  enum class Kind {
    Text,     // text
    Output,   // value
    Set,      // target = value
    SetBlock, // target = body, through value's filters if there are any
    If,       // value: body, else orElse
    For,      // target in value if condition: body, else orElse
    Macro,    // macro
    Filter,   // value's filters applied to body
    Break,
    Continue,
  };

  Kind kind;
  int line;
  std::string_view text = {};
  ExpressionPtr target = {}, value = {}, condition = {};
  Block body = {}, orElse = {};
  std::unique_ptr<Macro> macro = {};
};

struct Macro {
  struct Parameter {
    std::string_view name;
    ExpressionPtr fallback; // may be null
  };
  std::string_view name;
  std::vector<Parameter> parameters;
  Block body;
};

/// A parsed template. Names and texts point into its source and its heap.
struct Syntax {
  std::string source;
  Heap heap;
  Block body;
};

/// Parses `syntax.source` with trim_blocks and lstrip_blocks, as transformers
/// configures Jinja.
Error parse(Syntax &syntax);

} // namespace tercet::jinja

#endif // TERCET_RUNTIME_JINJA_SYNTAX_H
