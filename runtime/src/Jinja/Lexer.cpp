// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Jinja/Lexer.h"

#include <algorithm>
#include <iterator>

using namespace tercet;
using namespace tercet::jinja;

static bool isSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
static bool isDigit(char c) { return c >= '0' && c <= '9'; }
static bool isNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

namespace {

class Lexer {
public:
  Lexer(std::string_view source, std::vector<Token> &tokens)
      : source(source), tokens(tokens) {}

  Error run();

private:
  Error fail(const std::string &what) const {
    return Error("line " + std::to_string(line) + ": " + what);
  }
  std::string_view rest() const { return source.substr(position); }
  char at(size_t offset) const {
    return position + offset < source.size() ? source[position + offset] : '\0';
  }
  std::string_view take(size_t count) {
    std::string_view taken = rest().substr(0, count);
    line += static_cast<int>(std::count(taken.begin(), taken.end(), '\n'));
    position += taken.size();
    return taken;
  }
  void skipSpace() {
    while (isSpace(at(0)))
      take(1);
  }
  void push(Token::Kind kind, size_t count) {
    tokens.push_back({kind, line, rest().substr(0, count)});
    take(count);
  }

  void lexText();
  Error lexComment();
  Error lexTag(bool isBlock);
  Error lexRaw();
  Error lexToken();
  bool closesTag(bool isBlock);
  void finishTag(char sign, bool trimsNewline);

  std::string_view source;
  std::vector<Token> &tokens;
  size_t position = 0;
  int line = 1;
  bool lineStarts = true; // the text here is at the start of a line
};

/// Text up to the next tag. A minus sign there strips all white space before
/// it, and lstrip_blocks the indentation of a block or comment.
void Lexer::lexText() {
  size_t end = rest().find('{');
  while (end != std::string_view::npos &&
         std::string_view("{%#").find(at(end + 1)) == std::string_view::npos)
    end = rest().find('{', end + 1);
  std::string_view text = rest().substr(0, end);
  std::string_view kept = text;
  if (end != std::string_view::npos) {
    char sign = at(end + 2);
    if (sign == '-') {
      while (!kept.empty() && isSpace(kept.back()))
        kept.remove_suffix(1);
    } else if (sign != '+' && at(end + 1) != '{') {
      size_t newline = kept.rfind('\n');
      size_t lineBegin = newline == std::string_view::npos ? 0 : newline + 1;
      bool blank = std::all_of(kept.begin() + lineBegin, kept.end(), isSpace);
      if (blank && (lineBegin > 0 || lineStarts))
        kept = kept.substr(0, lineBegin);
    }
  }
  if (!kept.empty())
    tokens.push_back({Token::Kind::Text, line, kept});
  if (!text.empty())
    lineStarts = false;
  take(text.size());
}

/// Behind the closing delimiter of a tag.
void Lexer::finishTag(char sign, bool trimsNewline) {
  size_t begin = position;
  if (sign == '-')
    skipSpace();
  else if (sign != '+' && trimsNewline && at(0) == '\n')
    take(1);
  lineStarts = position > begin && source[position - 1] == '\n';
}

Error Lexer::lexComment() {
  size_t end = source.find("#}", position + 2);
  if (end == std::string_view::npos)
    return fail("a comment has no end");
  char sign = end > position + 2 ? source[end - 1] : '\0';
  take(end + 2 - position);
  finishTag(sign, /*trimsNewline=*/true);
  return Error::success();
}

/// Consumes the closing delimiter if it is next.
bool Lexer::closesTag(bool isBlock) {
  std::string_view closing = isBlock ? "%}" : "}}";
  bool hasSign = at(0) == '-' || (isBlock && at(0) == '+');
  if (!rest().substr(hasSign).starts_with(closing))
    return false;
  char sign = hasSign ? at(0) : '\0';
  push(isBlock ? Token::Kind::BlockEnd : Token::Kind::VariableEnd,
       hasSign + closing.size());
  finishTag(sign, /*trimsNewline=*/isBlock);
  return true;
}

Error Lexer::lexTag(bool isBlock) {
  int begin = line;
  bool hasSign = at(2) == '-' || at(2) == '+';
  push(isBlock ? Token::Kind::BlockBegin : Token::Kind::VariableBegin,
       2 + hasSign);
  for (int open = 0;;) {
    skipSpace();
    // Inside of brackets }} ends two dicts and not the tag.
    if (open == 0 && closesTag(isBlock))
      return Error::success();
    if (position == source.size()) {
      line = begin;
      return fail(isBlock ? "{% has no %}" : "{{ has no }}");
    }
    if (Error error = lexToken())
      return error;
    char token = tokens.back().kind == Token::Kind::Operator
                     ? tokens.back().text.front()
                     : '\0';
    open += token == '(' || token == '[' || token == '{';
    open -= token == ')' || token == ']' || token == '}';
    if (open < 0)
      return fail("unexpected '" + std::string(1, token) + "'");
  }
}

/// Between {% raw %} and {% endraw %} everything is text.
Error Lexer::lexRaw() {
  size_t begin = position;
  for (size_t end = source.find("{%", begin); end != std::string_view::npos;
       end = source.find("{%", end + 2)) {
    size_t name = end + 2;
    bool strips = name < source.size() && source[name] == '-';
    name += strips;
    while (name < source.size() && isSpace(source[name]))
      ++name;
    if (!source.substr(name).starts_with("endraw"))
      continue;
    std::string_view text = source.substr(begin, end - begin);
    while (strips && !text.empty() && isSpace(text.back()))
      text.remove_suffix(1);
    if (!text.empty())
      tokens.push_back({Token::Kind::Text, line, text});
    take(name + 6 - begin);
    skipSpace();
    if (!closesTag(/*isBlock=*/true))
      break;
    tokens.pop_back();
    return Error::success();
  }
  return fail("{% raw %} has no {% endraw %}");
}

Error Lexer::lexToken() {
  char c = at(0);
  size_t length = 1;
  if (isNameStart(c)) {
    while (isNameStart(at(length)) || isDigit(at(length)))
      ++length;
    push(Token::Kind::Name, length);
  } else if (isDigit(c)) {
    auto kind = Token::Kind::Integer;
    while (isDigit(at(length)) || at(length) == '_')
      ++length;
    if (at(length) == '.' && isDigit(at(length + 1))) {
      kind = Token::Kind::Float;
      for (++length; isDigit(at(length));)
        ++length;
    }
    if (at(length) == 'e' || at(length) == 'E') {
      size_t sign = at(length + 1) == '+' || at(length + 1) == '-';
      if (isDigit(at(length + 1 + sign))) {
        kind = Token::Kind::Float;
        for (length += 1 + sign; isDigit(at(length));)
          ++length;
      }
    }
    push(kind, length);
  } else if (c == '\'' || c == '"') {
    while (at(length) != c) {
      length += at(length) == '\\' ? 2 : 1;
      if (position + length >= source.size())
        return fail("a string has no end");
    }
    push(Token::Kind::String, length + 1);
  } else {
    static constexpr std::string_view operators[] = {
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    auto found = std::find_if(
        std::begin(operators), std::end(operators),
        [&](std::string_view text) { return rest().starts_with(text); });
    if (found == std::end(operators))
      return fail("unexpected character '" + std::string(1, c) + "'");
    push(Token::Kind::Operator, found->size());
  }
  return Error::success();
}

Error Lexer::run() {
  while (position < source.size()) {
    lexText();
    if (position == source.size())
      break;
    if (at(1) == '#') {
      if (Error error = lexComment())
        return error;
      continue;
    }
    size_t first = tokens.size();
    if (Error error = lexTag(/*isBlock=*/at(1) == '%'))
      return error;
    if (tokens.size() == first + 3 &&
        tokens[first].kind == Token::Kind::BlockBegin &&
        tokens[first + 1].text == "raw") {
      tokens.resize(first);
      if (Error error = lexRaw())
        return error;
    }
  }
  tokens.push_back({Token::Kind::End, line, {}});
  return Error::success();
}

} // namespace

Error tercet::jinja::tokenize(std::string_view source,
                              std::vector<Token> &tokens) {
  return Lexer(source, tokens).run();
}
