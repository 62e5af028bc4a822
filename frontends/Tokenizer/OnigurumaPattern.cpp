// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/Tokenizer/OnigurumaPattern.h"

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"

using namespace tercet;
using llvm::StringRef;

/// Oniguruma's \w. Outside a class it looks characters below U+0100 up in a
/// table of Latin-1, where superscripts and fractions count as well.
static constexpr llvm::StringLiteral word =
    R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
static constexpr llvm::StringLiteral latin1Word =
    R"(\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})";

namespace {

class Translator {
public:
  explicit Translator(StringRef pattern) : pattern(pattern), rest(pattern) {}

  llvm::Expected<std::string> run() {
    while (!rest.empty())
      if (llvm::Error error = translateItem())
        return std::move(error);
    return std::move(out);
  }

private:
  llvm::Error unsupported(StringRef what) {
    return llvm::createStringError(
        what + " at byte " + llvm::Twine(pattern.size() - rest.size()) +
        " of the pattern is not supported: " + pattern);
  }

  void copy(size_t count) {
    out += rest.take_front(count);
    rest = rest.drop_front(count);
  }

  llvm::Error translateItem();
  llvm::Error translateGroup();
  llvm::Error translateEscape(bool inClass);
  llvm::Error translateProperty();
  llvm::Error translateClass();
  void translateInterval();

  StringRef pattern, rest;
  std::string out;
  size_t atom = 0;                    // where in `out` the last atom starts
  llvm::SmallVector<size_t> openings; // where open groups start
};

/// One atom, quantifier or operator outside a character class.
llvm::Error Translator::translateItem() {
  switch (rest.front()) {
  case '\\':
    atom = out.size();
    return translateEscape(/*inClass=*/false);
  case '[':
    atom = out.size();
    return translateClass();
  case '(':
    openings.push_back(out.size());
    return translateGroup();
  case ')':
    if (!openings.empty())
      atom = openings.pop_back_val();
    copy(1);
    return llvm::Error::success();
  case '{':
    translateInterval();
    return llvm::Error::success();
  case '*':
  case '+':
  case '?':
    copy(1);
    return llvm::Error::success();
  default:
    // A quantifier belongs to the whole of a multi-byte character.
    atom = out.size();
    do
      copy(1);
    while (!rest.empty() && (rest.front() & 0xC0) == 0x80);
    return llvm::Error::success();
  }
}

llvm::Error Translator::translateGroup() {
  // Options: (?m) is Ruby's "dot matches newline", (?s) and (?x) differ too.
  StringRef options = rest;
  if (options.consume_front("(?"))
    for (char c : options.take_while(
             [](char c) { return c == '-' || (c >= 'a' && c <= 'z'); }))
      if (c != 'i' && c != '-')
        return unsupported("the group option");
  copy(1);
  return llvm::Error::success();
}

/// In Oniguruma x{n,m}+ repeats x{n,m}; in PCRE2 the + makes it possessive.
void Translator::translateInterval() {
  size_t end = rest.find('}');
  StringRef bounds = rest.substr(1, end == StringRef::npos ? 0 : end - 1);
  bool interval = !bounds.empty() &&
                  bounds.find_first_not_of("0123456789,") == StringRef::npos;
  if (!interval) {
    atom = out.size();
    copy(1);
    return;
  }
  if (bounds.starts_with(",")) { // {,n} is literal in PCRE2 before 10.43
    out += "{0";
    rest = rest.drop_front(1);
    end -= 1;
  }
  copy(end + 1);
  if (rest.starts_with("+")) {
    out.insert(atom, "(?:");
    out += ")";
  }
}

llvm::Error Translator::translateEscape(bool inClass) {
  if (rest.size() < 2)
    return unsupported("a trailing backslash");
  auto replace = [&](size_t length, StringRef with) {
    rest = rest.drop_front(length);
    out += with;
    return llvm::Error::success();
  };
  switch (rest[1]) {
  // PCRE2 counts U+180E as a space; Unicode no longer does.
  case 's':
    return replace(2, R"(\p{White_Space})");
  case 'S':
    return replace(2, R"(\P{White_Space})");
  case 'w':
    return replace(2, inClass ? word.str()
                              : ("[" + word + latin1Word + "]").str());
  case 'W':
    if (inClass)
      return unsupported("\\W in a class");
    return replace(2, ("[^" + word + latin1Word + "]").str());
  case 'h':
    return replace(2, inClass ? "0-9A-Fa-f" : "[0-9A-Fa-f]");
  case 'u':
    if (rest.size() < 6 || !llvm::all_of(rest.substr(2, 4), llvm::isHexDigit))
      return unsupported("\\u without four digits");
    out += ("\\x{" + rest.substr(2, 4) + "}").str();
    rest = rest.drop_front(6);
    return llvm::Error::success();
  case 'p':
  case 'P':
    return translateProperty();
  // The same in both, or an escaped character that stands for itself.
  case 'd':
  case 'D':
  case 't':
  case 'n':
  case 'r':
  case 'f':
  case 'a':
  case 'e':
  case 'x':
  case 'A':
  case 'z':
  case 'Z':
    copy(2);
    return llvm::Error::success();
  default:
    if (llvm::isAlnum(rest[1]))
      return unsupported("\\" + rest.substr(1, 1).str());
    copy(2);
    return llvm::Error::success();
  }
}

/// \p{...}: general categories agree by their short names; what PCRE2 calls a
/// script is Script_Extensions unless asked for Script.
llvm::Error Translator::translateProperty() {
  size_t end = rest.find('}');
  if (!rest.substr(2).starts_with("{") || end == StringRef::npos)
    return unsupported("\\p without braces");
  StringRef name = rest.substr(3, end - 3);
  bool negated = name.consume_front("^");
  StringRef category = llvm::StringSwitch<StringRef>(name)
                           .CaseLower("letter", "L")
                           .CaseLower("mark", "M")
                           .CaseLower("number", "N")
                           .CaseLower("punctuation", "P")
                           .CaseLower("symbol", "S")
                           .CaseLower("separator", "Z")
                           .CaseLower("other", "C")
                           .CaseLower("alphabetic", "Alphabetic")
                           .CaseLower("uppercase", "Uppercase")
                           .CaseLower("lowercase", "Lowercase")
                           .CaseLower("white_space", "White_Space")
                           .Default(name.size() <= 2 ? name : StringRef());
  out += rest.take_front(2);
  out += negated ? "{^" : "{";
  out += category.empty() ? "sc:" + name.str() : category.str();
  out += "}";
  rest = rest.drop_front(end + 1);
  return llvm::Error::success();
}

llvm::Error Translator::translateClass() {
  copy(rest.starts_with("[^") ? 2 : 1);
  if (rest.starts_with("]"))
    copy(1); // a literal in first place
  while (!rest.starts_with("]")) {
    if (rest.empty())
      return unsupported("a class without end");
    if (rest.starts_with("["))
      return unsupported("a class in a class");
    if (rest.starts_with("&&"))
      return unsupported("an intersection of classes");
    if (rest.starts_with("\\")) {
      if (llvm::Error error = translateEscape(/*inClass=*/true))
        return error;
    } else {
      copy(1);
    }
  }
  copy(1);
  return llvm::Error::success();
}

} // namespace

llvm::Expected<std::string> tercet::translateOniguruma(StringRef pattern) {
  return Translator(pattern).run();
}

std::string tercet::quotePattern(StringRef text) {
  std::string out;
  for (char c : text) {
    if (llvm::isPunct(c))
      out += '\\';
    out += c;
  }
  return out;
}
