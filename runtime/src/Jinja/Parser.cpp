// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Recursive descent, a function per level of precedence in Jinja's own order:
// or, and, not, comparison, + -, ~, * / // %, **, unary, postfix, filters.

#include "runtime/src/Jinja/Lexer.h"
#include "runtime/src/Jinja/Syntax.h"
#include "runtime/src/Utf8.h"

#include <algorithm>
#include <charconv>
#include <initializer_list>

using namespace tercet;
using namespace tercet::jinja;

// The interpreter recurses over the tree, and so does its destructor.
static constexpr int maximumDepth = 200;

namespace {

using Kind = Expression::Kind;

class Parser {
public:
  Parser(Syntax &syntax, const std::vector<Token> &tokens)
      : syntax(syntax), tokens(tokens) {}

  Error run() {
    syntax.body = parseBlock({});
    if (!failed() && !atEnd())
      unexpected();
    return error;
  }

private:
  // After the first error every token reads as the end, which unwinds all
  // loops; trees built after it are never looked at.
  const Token &token() const {
    return error ? tokens.back() : tokens[position];
  }
  const Token &next() const {
    return error || token().kind == Token::Kind::End ? tokens.back()
                                                     : tokens[position + 1];
  }
  bool atEnd() const { return token().kind == Token::Kind::End; }
  bool failed() const { return bool(error); }

  void fail(const std::string &what) {
    if (!error)
      error = Error("line " + std::to_string(token().line) + ": " + what);
  }
  void unexpected() {
    fail(atEnd() ? "the template ends too early"
                 : "unexpected '" + std::string(token().text) + "'");
  }
  std::string_view advance() {
    std::string_view text = token().text;
    if (!atEnd())
      ++position;
    return text;
  }
  bool isName(std::string_view text) const {
    return token().kind == Token::Kind::Name && token().text == text;
  }
  bool isOperator(std::string_view text) const {
    return token().kind == Token::Kind::Operator && token().text == text;
  }
  bool acceptName(std::string_view text) {
    return isName(text) && (advance(), true);
  }
  bool acceptOperator(std::string_view text) {
    return isOperator(text) && (advance(), true);
  }
  void expectOperator(std::string_view text) {
    if (!acceptOperator(text))
      fail("expected '" + std::string(text) + "'");
  }
  std::string_view expectName() {
    if (token().kind == Token::Kind::Name)
      return advance();
    fail("expected a name");
    return {};
  }
  void expectBlockEnd() {
    if (token().kind == Token::Kind::BlockEnd)
      advance();
    else
      unexpected();
  }

  /// Limits how deep the parser recurses.
  struct Nesting {
    Parser &parser;
    explicit Nesting(Parser &parser) : parser(parser) {
      if (++parser.nesting > maximumDepth)
        parser.fail("the template is nested too deeply");
    }
    ~Nesting() { --parser.nesting; }
  };

  ExpressionPtr make(Kind kind, std::string_view name = {});
  ExpressionPtr adopt(ExpressionPtr parent, ExpressionPtr child);
  template <typename... Operands>
  ExpressionPtr makeWith(Kind kind, std::string_view name,
                         Operands... operands);
  ExpressionPtr constant(Value value);

  Block parseBlock(std::initializer_list<std::string_view> terminators);
  StatementPtr parseStatement();
  StatementPtr parseSet(StatementPtr statement);
  StatementPtr parseFor(StatementPtr statement);
  StatementPtr parseIf(StatementPtr statement);
  StatementPtr parseMacro(StatementPtr statement);
  Block parseBody(std::string_view name);

  ExpressionPtr parseTarget();
  ExpressionPtr parseTuple();
  ExpressionPtr parseExpression(bool withCondition = true);
  ExpressionPtr parseOr();
  ExpressionPtr parseAnd();
  ExpressionPtr parseNot();
  ExpressionPtr parseComparison();
  ExpressionPtr parseBinary(unsigned level);
  ExpressionPtr parseUnary(bool withFilters = true);
  ExpressionPtr parsePrimary();
  ExpressionPtr parsePostfix(ExpressionPtr operand);
  ExpressionPtr parseFilters(ExpressionPtr operand);
  ExpressionPtr parseTest(ExpressionPtr operand);
  ExpressionPtr parseSubscript(ExpressionPtr operand);
  ExpressionPtr parseSequence(Kind kind, std::string_view closing);
  ExpressionPtr parseDict();
  ExpressionPtr parseNumber();
  ExpressionPtr parseString();
  void parseArguments(Expression &call);
  void appendEscape(std::string &out, std::string_view &text);

  Syntax &syntax;
  const std::vector<Token> &tokens;
  size_t position = 0;
  int nesting = 0;
  Error error = Error::success();
};

//===----------------------------------------------------------------------===//
// Trees
//===----------------------------------------------------------------------===//

ExpressionPtr Parser::make(Kind kind, std::string_view name) {
  auto expression = std::make_unique<Expression>();
  expression->kind = kind;
  expression->line = token().line;
  expression->name = name;
  return expression;
}

/// A chain such as a + a + a + ... grows deep without recursion here.
ExpressionPtr Parser::adopt(ExpressionPtr parent, ExpressionPtr child) {
  if (child)
    parent->depth = std::max(parent->depth, child->depth + 1);
  if (parent->depth > maximumDepth)
    fail("the expression is nested too deeply");
  parent->operands.push_back(std::move(child));
  return parent;
}

template <typename... Operands>
ExpressionPtr Parser::makeWith(Kind kind, std::string_view name,
                               Operands... operands) {
  ExpressionPtr expression = make(kind, name);
  ((expression = adopt(std::move(expression), std::move(operands))), ...);
  return expression;
}

ExpressionPtr Parser::constant(Value value) {
  ExpressionPtr expression = make(Kind::Constant);
  expression->literal = value;
  return expression;
}

//===----------------------------------------------------------------------===//
// Statements
//===----------------------------------------------------------------------===//

/// Statements up to a tag that starts with one of `terminators`; its name is
/// the next token then.
Block Parser::parseBlock(std::initializer_list<std::string_view> terminators) {
  Nesting nesting(*this);
  Block block;
  while (!atEnd()) {
    if (token().kind == Token::Kind::Text) {
      auto statement = std::make_unique<Statement>(
          Statement{Statement::Kind::Text, token().line});
      statement->text = advance();
      block.push_back(std::move(statement));
    } else if (token().kind == Token::Kind::VariableBegin) {
      advance();
      auto statement = std::make_unique<Statement>(
          Statement{Statement::Kind::Output, token().line});
      statement->value = parseTuple();
      if (token().kind == Token::Kind::VariableEnd)
        advance();
      else
        unexpected();
      block.push_back(std::move(statement));
    } else {
      advance(); // BlockBegin
      if (std::find(terminators.begin(), terminators.end(), token().text) !=
          terminators.end())
        return block;
      // A marker for training data: its contents are rendered as they are.
      if (isName("generation") || isName("endgeneration")) {
        advance();
        expectBlockEnd();
      } else {
        block.push_back(parseStatement());
      }
    }
  }
  if (terminators.size() > 0)
    fail("{% " + std::string(*(terminators.end() - 1)) + " %} is missing");
  return block;
}

/// The rest of the opening tag, the body, and the tag "end" + name.
Block Parser::parseBody(std::string_view endName) {
  expectBlockEnd();
  Block body = parseBlock({endName});
  advance();
  expectBlockEnd();
  return body;
}

StatementPtr Parser::parseStatement() {
  auto statement = std::make_unique<Statement>(
      Statement{Statement::Kind::Text, token().line});
  if (acceptName("set"))
    return parseSet(std::move(statement));
  if (acceptName("for"))
    return parseFor(std::move(statement));
  if (acceptName("if"))
    return parseIf(std::move(statement));
  if (acceptName("macro"))
    return parseMacro(std::move(statement));
  if (acceptName("filter")) {
    statement->kind = Statement::Kind::Filter;
    // A filter of nothing yet: the body's text becomes its first operand.
    statement->value = makeWith(Kind::Filter, expectName(), constant(None()));
    if (isOperator("("))
      parseArguments(*statement->value);
    statement->value = parseFilters(std::move(statement->value));
    statement->body = parseBody("endfilter");
    return statement;
  }
  if (acceptName("break") || acceptName("continue")) {
    statement->kind = tokens[position - 1].text == "break"
                          ? Statement::Kind::Break
                          : Statement::Kind::Continue;
    expectBlockEnd();
    return statement;
  }
  if (token().kind == Token::Kind::Name)
    fail("the statement '" + std::string(token().text) +
         "' is unknown or not supported");
  else
    unexpected();
  return statement;
}

StatementPtr Parser::parseSet(StatementPtr statement) {
  statement->target = parseTarget();
  if (acceptOperator("=")) {
    statement->kind = Statement::Kind::Set;
    statement->value = parseTuple();
    expectBlockEnd();
    return statement;
  }
  statement->kind = Statement::Kind::SetBlock;
  statement->value = parseFilters(constant(None()));
  statement->body = parseBody("endset");
  return statement;
}

StatementPtr Parser::parseFor(StatementPtr statement) {
  statement->kind = Statement::Kind::For;
  statement->target = parseTarget();
  if (!acceptName("in"))
    fail("expected 'in'");
  // `if` starts the filter of the loop and no conditional expression.
  statement->value = parseExpression(/*withCondition=*/false);
  if (isOperator(",")) {
    ExpressionPtr tuple =
        makeWith(Kind::Tuple, {}, std::move(statement->value));
    while (acceptOperator(","))
      tuple = adopt(std::move(tuple), parseExpression(false));
    statement->value = std::move(tuple);
  }
  if (acceptName("if"))
    statement->condition = parseExpression();
  if (isName("recursive"))
    fail("recursive loops are not supported");
  expectBlockEnd();
  statement->body = parseBlock({"else", "endfor"});
  if (acceptName("else")) {
    expectBlockEnd();
    statement->orElse = parseBlock({"endfor"});
  }
  advance();
  expectBlockEnd();
  return statement;
}

StatementPtr Parser::parseIf(StatementPtr statement) {
  statement->kind = Statement::Kind::If;
  Statement *last = statement.get();
  while (true) {
    last->value = parseTuple();
    expectBlockEnd();
    last->body = parseBlock({"elif", "else", "endif"});
    if (!acceptName("elif"))
      break;
    // A chain is a list in the tree: a branch of each else.
    if (++nesting > maximumDepth)
      fail("too many elif branches");
    auto branch = std::make_unique<Statement>(
        Statement{Statement::Kind::If, token().line});
    Statement *inner = branch.get();
    last->orElse.push_back(std::move(branch));
    last = inner;
  }
  for (Statement *s = statement.get(); s != last; s = s->orElse[0].get())
    --nesting;
  if (acceptName("else")) {
    expectBlockEnd();
    last->orElse = parseBlock({"endif"});
  }
  advance();
  expectBlockEnd();
  return statement;
}

StatementPtr Parser::parseMacro(StatementPtr statement) {
  statement->kind = Statement::Kind::Macro;
  statement->macro = std::make_unique<Macro>();
  Macro &macro = *statement->macro;
  macro.name = expectName();
  expectOperator("(");
  while (!failed() && !acceptOperator(")")) {
    Macro::Parameter &parameter = macro.parameters.emplace_back();
    parameter.name = expectName();
    if (acceptOperator("="))
      parameter.fallback = parseExpression();
    if (!isOperator(")"))
      expectOperator(",");
  }
  macro.body = parseBody("endmacro");
  return statement;
}

/// name, name.attribute, or several of them.
ExpressionPtr Parser::parseTarget() {
  ExpressionPtr tuple;
  while (true) {
    bool inParentheses = acceptOperator("(");
    ExpressionPtr target =
        inParentheses ? parseTarget() : make(Kind::Name, expectName());
    if (inParentheses)
      expectOperator(")");
    else if (acceptOperator("."))
      target = makeWith(Kind::Attribute, expectName(), std::move(target));
    if (!tuple && !isOperator(","))
      return target;
    tuple =
        adopt(tuple ? std::move(tuple) : make(Kind::Tuple), std::move(target));
    if (!acceptOperator(",") || isName("in") || isOperator("="))
      return tuple;
  }
}

//===----------------------------------------------------------------------===//
// Expressions
//===----------------------------------------------------------------------===//

/// An expression, or a tuple without parentheses.
ExpressionPtr Parser::parseTuple() {
  ExpressionPtr first = parseExpression();
  if (!isOperator(","))
    return first;
  ExpressionPtr tuple = makeWith(Kind::Tuple, {}, std::move(first));
  while (acceptOperator(",")) {
    if (token().kind == Token::Kind::VariableEnd ||
        token().kind == Token::Kind::BlockEnd)
      break;
    tuple = adopt(std::move(tuple), parseExpression());
  }
  return tuple;
}

ExpressionPtr Parser::parseExpression(bool withCondition) {
  Nesting nesting(*this);
  ExpressionPtr value = parseOr();
  while (withCondition && acceptName("if")) {
    ExpressionPtr condition = parseOr();
    ExpressionPtr otherwise = acceptName("else") ? parseExpression() : nullptr;
    value = makeWith(Kind::Conditional, {}, std::move(value),
                     std::move(condition), std::move(otherwise));
  }
  return value;
}

ExpressionPtr Parser::parseOr() {
  ExpressionPtr left = parseAnd();
  while (acceptName("or"))
    left = makeWith(Kind::Or, {}, std::move(left), parseAnd());
  return left;
}

ExpressionPtr Parser::parseAnd() {
  ExpressionPtr left = parseNot();
  while (acceptName("and"))
    left = makeWith(Kind::And, {}, std::move(left), parseNot());
  return left;
}

ExpressionPtr Parser::parseNot() {
  Nesting nesting(*this);
  if (acceptName("not"))
    return makeWith(Kind::Not, {}, parseNot());
  return parseComparison();
}

ExpressionPtr Parser::parseComparison() {
  ExpressionPtr first = parseBinary(0);
  ExpressionPtr comparison;
  while (true) {
    std::string_view op;
    for (std::string_view known : {"==", "!=", "<", "<=", ">", ">="})
      if (isOperator(known))
        op = advance();
    if (op.empty() && acceptName("in"))
      op = "in";
    if (op.empty() && isName("not") && next().text == "in") {
      advance();
      advance();
      op = "not in";
    }
    if (op.empty())
      return comparison ? std::move(comparison) : std::move(first);
    if (!comparison)
      comparison = makeWith(Kind::Compare, {}, std::move(first));
    comparison->operators.push_back(op);
    comparison = adopt(std::move(comparison), parseBinary(0));
  }
}

/// The left-associative operators, loosest first.
ExpressionPtr Parser::parseBinary(unsigned level) {
  static constexpr std::string_view levels[][4] = {
      {"+", "-"}, {"~"}, {"*", "/", "//", "%"}, {"**"}};
  if (level == std::size(levels))
    return parseUnary();
  ExpressionPtr left = parseBinary(level + 1);
  while (true) {
    std::string_view op;
    for (std::string_view known : levels[level])
      if (!known.empty() && isOperator(known))
        op = known;
    if (op.empty())
      return left;
    advance();
    left = makeWith(Kind::Binary, op, std::move(left), parseBinary(level + 1));
  }
}

ExpressionPtr Parser::parseUnary(bool withFilters) {
  Nesting nesting(*this);
  ExpressionPtr operand;
  if (acceptOperator("-"))
    operand = makeWith(Kind::Negate, {}, parseUnary(false));
  else if (acceptOperator("+"))
    operand = makeWith(Kind::Plus, {}, parseUnary(false));
  else
    operand = parsePrimary();
  operand = parsePostfix(std::move(operand));
  return withFilters ? parseFilters(std::move(operand)) : std::move(operand);
}

ExpressionPtr Parser::parsePrimary() {
  switch (token().kind) {
  case Token::Kind::Name: {
    std::string_view name = token().text;
    if (name == "true" || name == "True" || name == "false" ||
        name == "False") {
      advance();
      return constant(name[0] == 't' || name[0] == 'T');
    }
    if (name == "none" || name == "None") {
      advance();
      return constant(None());
    }
    return make(Kind::Name, advance());
  }
  case Token::Kind::String:
    return parseString();
  case Token::Kind::Integer:
  case Token::Kind::Float:
    return parseNumber();
  case Token::Kind::Operator:
    if (acceptOperator("("))
      return parseSequence(Kind::Tuple, ")");
    if (acceptOperator("["))
      return parseSequence(Kind::List, "]");
    if (acceptOperator("{"))
      return parseDict();
    [[fallthrough]];
  default:
    unexpected();
    return make(Kind::Constant);
  }
}

/// Behind the opening bracket. (x) is x and no tuple.
ExpressionPtr Parser::parseSequence(Kind kind, std::string_view closing) {
  ExpressionPtr sequence = make(kind);
  bool comma = false;
  while (!failed() && !isOperator(closing)) {
    sequence = adopt(std::move(sequence), parseExpression());
    if (!(comma = acceptOperator(",")))
      break;
  }
  expectOperator(closing);
  if (kind == Kind::Tuple && sequence->operands.size() == 1 && !comma)
    return std::move(sequence->operands[0]);
  return sequence;
}

ExpressionPtr Parser::parseDict() {
  ExpressionPtr dict = make(Kind::Dict);
  while (!failed() && !isOperator("}")) {
    dict = adopt(std::move(dict), parseExpression());
    expectOperator(":");
    dict = adopt(std::move(dict), parseExpression());
    if (!acceptOperator(","))
      break;
  }
  expectOperator("}");
  return dict;
}

ExpressionPtr Parser::parseNumber() {
  bool isInteger = token().kind == Token::Kind::Integer;
  std::string text(token().text);
  std::erase(text, '_');
  int64_t integer = 0;
  double number = 0;
  const char *end = text.data() + text.size();
  std::from_chars_result result =
      isInteger ? std::from_chars(text.data(), end, integer)
                : std::from_chars(text.data(), end, number);
  if (result.ec != std::errc() || result.ptr != end)
    fail("the number " + text + " is out of range");
  ExpressionPtr constantNumber =
      constant(isInteger ? Value(integer) : Value(number));
  advance();
  return constantNumber;
}

/// Python's escapes; an unknown one stays as it is written.
void Parser::appendEscape(std::string &out, std::string_view &text) {
  static constexpr std::string_view names = "abfnrtv\\'\"";
  static constexpr std::string_view meanings = "\a\b\f\n\r\t\v\\'\"";
  char c = text.front();
  text.remove_prefix(1);
  if (size_t i = names.find(c); i != names.npos) {
    out += meanings[i];
    return;
  }
  if (c == '\n')
    return;
  bool octal = c >= '0' && c <= '7';
  size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
  if (octal) {
    text = {text.data() - 1, text.size() + 1};
    for (digits = 0; digits < std::min<size_t>(3, text.size()) &&
                     text[digits] >= '0' && text[digits] <= '7';)
      ++digits;
  }
  uint32_t codePoint = 0;
  auto [end, status] =
      std::from_chars(text.data(), text.data() + std::min(digits, text.size()),
                      codePoint, octal ? 8 : 16);
  if (digits == 0) {
    out += '\\';
    out += c;
  } else if (status != std::errc() || end != text.data() + digits ||
             codePoint > 0x10FFFF ||
             (codePoint >= 0xD800 && codePoint < 0xE000)) {
    fail("a string has a malformed escape");
  } else {
    appendUtf8(out, codePoint);
    text.remove_prefix(digits);
  }
}

/// Adjacent literals are one, as in Python.
ExpressionPtr Parser::parseString() {
  std::string out;
  ExpressionPtr string = make(Kind::Constant);
  while (token().kind == Token::Kind::String) {
    std::string_view text = token().text;
    text = text.substr(1, text.size() - 2);
    while (!text.empty() && !failed()) {
      size_t backslash = std::min(text.find('\\'), text.size());
      out.append(text.substr(0, backslash));
      text.remove_prefix(backslash);
      if (text.empty())
        break;
      text.remove_prefix(1);
      appendEscape(out, text);
    }
    advance();
  }
  string->literal = syntax.heap.text(std::move(out));
  return string;
}

ExpressionPtr Parser::parsePostfix(ExpressionPtr operand) {
  while (true) {
    if (acceptOperator(".")) {
      if (token().kind == Token::Kind::Integer) { // list.0
        ExpressionPtr index = parseNumber();
        operand =
            makeWith(Kind::Subscript, {}, std::move(operand), std::move(index));
      } else {
        operand = makeWith(Kind::Attribute, expectName(), std::move(operand));
      }
    } else if (acceptOperator("[")) {
      operand = parseSubscript(std::move(operand));
    } else if (isOperator("(")) {
      operand = makeWith(Kind::Call, {}, std::move(operand));
      parseArguments(*operand);
    } else {
      return operand;
    }
  }
}

ExpressionPtr Parser::parseSubscript(ExpressionPtr operand) {
  ExpressionPtr parts[3];
  int count = 0;
  bool isSlice = false;
  while (!failed() && !isOperator("]")) {
    if (acceptOperator(":")) {
      isSlice = true;
      if (++count == 3)
        unexpected();
    } else {
      parts[std::min(count, 2)] = parseExpression();
      if (!isOperator(":") && !isOperator("]"))
        unexpected();
    }
  }
  expectOperator("]");
  if (isSlice)
    return makeWith(Kind::Slice, {}, std::move(operand), std::move(parts[0]),
                    std::move(parts[1]), std::move(parts[2]));
  if (!parts[0])
    fail("expected an index");
  return makeWith(Kind::Subscript, {}, std::move(operand), std::move(parts[0]));
}

void Parser::parseArguments(Expression &call) {
  expectOperator("(");
  while (!failed() && !isOperator(")")) {
    ExpressionPtr argument;
    std::string_view keyword;
    if (token().kind == Token::Kind::Name && next().text == "=" &&
        next().kind == Token::Kind::Operator) {
      keyword = advance();
      advance();
    }
    argument = parseExpression();
    call.depth = std::max(call.depth, argument->depth + 1);
    if (!keyword.empty())
      call.keywords.emplace_back(keyword, std::move(argument));
    else if (!call.keywords.empty())
      fail("a positional argument follows a keyword");
    else
      call.operands.push_back(std::move(argument));
    if (!acceptOperator(","))
      break;
  }
  expectOperator(")");
}

ExpressionPtr Parser::parseFilters(ExpressionPtr operand) {
  while (true) {
    if (acceptOperator("|")) {
      operand = makeWith(Kind::Filter, expectName(), std::move(operand));
      if (isOperator("("))
        parseArguments(*operand);
    } else if (acceptName("is")) {
      operand = parseTest(std::move(operand));
    } else if (isOperator("(")) {
      operand = makeWith(Kind::Call, {}, std::move(operand));
      parseArguments(*operand);
    } else {
      return operand;
    }
  }
}

ExpressionPtr Parser::parseTest(ExpressionPtr operand) {
  bool negated = acceptName("not");
  ExpressionPtr test = makeWith(Kind::Test, expectName(), std::move(operand));
  bool startsOperand = token().kind == Token::Kind::String ||
                       token().kind == Token::Kind::Integer ||
                       token().kind == Token::Kind::Float || isOperator("[") ||
                       isOperator("{");
  if (token().kind == Token::Kind::Name)
    startsOperand = !isName("else") && !isName("or") && !isName("and") &&
                    !isName("if") && !isName("is") && !isName("not") &&
                    !isName("in");
  if (isOperator("("))
    parseArguments(*test);
  else if (startsOperand)
    test = adopt(std::move(test), parsePostfix(parsePrimary()));
  return negated ? makeWith(Kind::Not, {}, std::move(test)) : std::move(test);
}

/// One kind of line end, and none at the end of the template.
std::string normalizedLines(std::string_view source) {
  std::string out;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n')
      continue;
    out += source[i] == '\r' ? '\n' : source[i];
  }
  if (out.ends_with('\n'))
    out.pop_back();
  return out;
}

} // namespace

Error tercet::jinja::parse(Syntax &syntax) {
  syntax.source = normalizedLines(repairUtf8(syntax.source));
  std::vector<Token> tokens;
  if (Error error = tokenize(syntax.source, tokens))
    return error;
  return Parser(syntax, tokens).run();
}
