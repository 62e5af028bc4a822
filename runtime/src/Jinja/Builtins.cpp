// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The filters, tests, functions and methods that chat templates use, in the
// behaviour of Jinja 3.1 and of what transformers adds to it.

#include "runtime/src/Jinja/Interpreter.h"
#include "runtime/src/Utf8.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <span>

using namespace tercet;
using namespace tercet::jinja;

namespace {

//===----------------------------------------------------------------------===//
// Operands
//===----------------------------------------------------------------------===//

int64_t integerOr(const Arguments &arguments, size_t position,
                  std::string_view name, int64_t otherwise) {
  const Value *value = arguments.find(position, name);
  return value ? toInteger(*value).value_or(otherwise) : otherwise;
}

bool flagOr(const Arguments &arguments, size_t position, std::string_view name,
            bool otherwise) {
  const Value *value = arguments.find(position, name);
  return value ? isTrue(*value) : otherwise;
}

std::string textOr(const Arguments &arguments, size_t position,
                   std::string_view name, std::string_view otherwise) {
  const Value *value = arguments.find(position, name);
  return value && !is<None>(*value) ? toText(*value) : std::string(otherwise);
}

/// What the operand of a text filter or method is, as text.
std::string self(Interpreter &interpreter, const Arguments &arguments) {
  std::string text = arguments.size() ? toText(arguments[0]) : std::string();
  interpreter.charge(text.size() / 16);
  return text;
}

//===----------------------------------------------------------------------===//
// Texts
//===----------------------------------------------------------------------===//

/// Python's str.isspace.
bool isPythonSpace(uint32_t c) {
  return isWhiteSpace(c) || (c >= 0x1C && c <= 0x1F);
}

bool isSpaceCharacter(std::string_view character) {
  return isPythonSpace(decodeUtf8(character).codePoint);
}

std::string_view firstCharacter(std::string_view text) {
  return text.substr(0, decodeUtf8(text).length);
}

/// str.strip: white space, or the characters of a set.
std::string_view strip(std::string_view text, const Value *characterSet,
                       bool left, bool right) {
  auto *set =
      characterSet ? std::get_if<std::string_view>(characterSet) : nullptr;
  auto goes = [&](std::string_view character) {
    return set ? set->find(character) != set->npos
               : isSpaceCharacter(character);
  };
  while (left && !text.empty() && goes(firstCharacter(text)))
    text.remove_prefix(firstCharacter(text).size());
  while (right && !text.empty() && goes(lastCharacter(text)))
    text.remove_suffix(lastCharacter(text).size());
  return text;
}

/// The simple case mapping of ASCII, Latin-1, Greek and Cyrillic, which is
/// all that templates apply to role names and the like; other letters stay.
uint32_t changeCase(uint32_t c, bool upper) {
  struct Range {
    uint32_t first, last, distance; // of capitals, and to the small letters
  };
  static constexpr Range ranges[] = {{'A', 'Z', 32},     {0xC0, 0xD6, 32},
                                     {0xD8, 0xDE, 32},   {0x391, 0x3A1, 32},
                                     {0x3A3, 0x3A9, 32}, {0x410, 0x42F, 32},
                                     {0x400, 0x40F, 80}};
  for (auto [first, last, distance] : ranges) {
    if (!upper && c >= first && c <= last)
      return c + distance;
    if (upper && c >= first + distance && c <= last + distance)
      return c - distance;
  }
  return c;
}

/// Applies upper(first in word?) to each character.
template <typename IsUpper>
Value mapCase(Interpreter &interpreter, const Arguments &arguments,
              IsUpper isUpper) {
  std::string text = self(interpreter, arguments), out;
  uint32_t previous = 0;
  for (std::string_view character : characters(text)) {
    uint32_t c = decodeUtf8(character).codePoint;
    appendUtf8(out, changeCase(c, isUpper(previous)));
    previous = c;
  }
  return interpreter.text(std::move(out));
}

Value upper(Interpreter &interpreter, const Arguments &arguments) {
  return mapCase(interpreter, arguments, [](uint32_t) { return true; });
}
Value lower(Interpreter &interpreter, const Arguments &arguments) {
  return mapCase(interpreter, arguments, [](uint32_t) { return false; });
}
Value capitalize(Interpreter &interpreter, const Arguments &arguments) {
  return mapCase(interpreter, arguments,
                 [](uint32_t previous) { return previous == 0; });
}
Value title(Interpreter &interpreter, const Arguments &arguments) {
  return mapCase(interpreter, arguments, [](uint32_t previous) {
    return previous == 0 || isPythonSpace(previous) ||
           std::string_view("-({[<").find(static_cast<char>(previous)) !=
               std::string_view::npos;
  });
}

template <bool left, bool right>
Value stripText(Interpreter &interpreter, const Arguments &arguments) {
  std::string text = self(interpreter, arguments);
  return interpreter.text(
      std::string(strip(text, arguments.find(1, "chars"), left, right)));
}

Value replace(Interpreter &interpreter, const Arguments &arguments) {
  std::string text = self(interpreter, arguments);
  std::string from = textOr(arguments, 1, "old", ""),
              to = textOr(arguments, 2, "new", "");
  int64_t count = integerOr(arguments, 3, "count", -1);
  if (from.empty())
    return interpreter.fail("cannot replace the empty text");
  std::string out;
  size_t done = 0;
  for (size_t at; count != 0 && (at = text.find(from, done)) != text.npos;
       --count) {
    out.append(text, done, at - done).append(to);
    done = at + from.size();
    interpreter.charge(1 + to.size() / 4);
    if (interpreter.failed())
      return Undefined();
  }
  return interpreter.text(out.append(text, done));
}

/// Takes a word off one end of `text`, and the separator behind it; all of
/// `text`, and there is no `more`, if it has no separator.
template <bool fromRight>
std::string_view takeWord(std::string_view &text, std::string_view separator,
                          bool &more) {
  size_t at = fromRight ? text.rfind(separator) : text.find(separator);
  more = at != text.npos;
  if (!more)
    return text;
  std::string_view head = text.substr(0, at);
  std::string_view tail = text.substr(at + separator.size());
  text = fromRight ? head : tail;
  return fromRight ? tail : head;
}

/// The same up to white space, which stays.
template <bool fromRight> std::string_view takeWord(std::string_view &text) {
  std::string_view rest = text;
  while (!rest.empty()) {
    std::string_view c = fromRight ? lastCharacter(rest) : firstCharacter(rest);
    if (isSpaceCharacter(c))
      break;
    fromRight ? rest.remove_suffix(c.size()) : rest.remove_prefix(c.size());
  }
  std::string_view word = fromRight ? text.substr(rest.size())
                                    : text.substr(0, text.size() - rest.size());
  text = rest;
  return word;
}

/// str.split and str.rsplit: by white space without a separator.
template <bool fromRight>
Value split(Interpreter &interpreter, const Arguments &arguments) {
  std::string_view text = std::get<std::string_view>(arguments[0]);
  const Value *given = arguments.find(1, "sep");
  auto *separator = given ? std::get_if<std::string_view>(given) : nullptr;
  int64_t count = integerOr(arguments, 2, "maxsplit", -1);
  interpreter.charge(text.size() / 8);
  if (separator && separator->empty())
    return interpreter.fail("split needs a separator that is not empty");

  std::vector<Value> out;
  if (separator) {
    bool more = true;
    for (; more && count != 0; --count)
      out.push_back(takeWord<fromRight>(text, *separator, more));
    if (more)
      out.push_back(text);
  } else {
    for (; !(text = strip(text, nullptr, !fromRight, fromRight)).empty();
         --count) {
      if (count == 0) {
        out.push_back(text);
        break;
      }
      out.push_back(takeWord<fromRight>(text));
    }
  }
  if (fromRight)
    std::reverse(out.begin(), out.end());
  return interpreter.heap.list(std::move(out));
}

std::vector<std::string_view> lines(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    size_t end = std::min(text.find_first_of("\n\r"), text.size());
    out.push_back(text.substr(0, end));
    end += text.substr(end).starts_with("\r\n") ? 2 : end < text.size();
    text.remove_prefix(end);
  }
  return out;
}

Value splitLines(Interpreter &interpreter, const Arguments &arguments) {
  std::vector<Value> out;
  for (std::string_view line : lines(std::get<std::string_view>(arguments[0])))
    out.push_back(line);
  return interpreter.heap.list(std::move(out));
}

/// startswith and endswith, of one text or any of a tuple.
template <bool atStart>
Value hasAffix(Interpreter &interpreter, const Arguments &arguments) {
  std::string_view text = std::get<std::string_view>(arguments[0]);
  auto matches = [&](const Value &affix) {
    auto *part = std::get_if<std::string_view>(&affix);
    return part && (atStart ? text.starts_with(*part) : text.ends_with(*part));
  };
  if (arguments.size() < 2)
    return interpreter.fail("startswith and endswith need a text");
  if (auto *list = std::get_if<const List *>(&arguments[1]))
    return std::any_of((*list)->items.begin(), (*list)->items.end(), matches);
  return matches(arguments[1]);
}

template <bool last>
Value findText(Interpreter &interpreter, const Arguments &arguments) {
  std::string_view text = std::get<std::string_view>(arguments[0]);
  std::string part = textOr(arguments, 1, "sub", "");
  interpreter.charge(text.size() / 16);
  size_t at = last ? text.rfind(part) : text.find(part);
  return at == text.npos
             ? int64_t(-1)
             : static_cast<int64_t>(characters(text.substr(0, at)).size());
}

Value countText(Interpreter &interpreter, const Arguments &arguments) {
  std::string_view text = std::get<std::string_view>(arguments[0]);
  std::string part = textOr(arguments, 1, "sub", "");
  interpreter.charge(text.size() / 16);
  if (part.empty())
    return static_cast<int64_t>(characters(text).size() + 1);
  int64_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != text.npos;
       at += part.size())
    ++count;
  return count;
}

template <bool (*belongs)(uint32_t)>
Value consistsOf(Interpreter &interpreter, const Arguments &arguments) {
  std::vector<std::string_view> all =
      characters(std::get<std::string_view>(arguments[0]));
  interpreter.charge(all.size() / 16);
  return !all.empty() &&
         std::all_of(all.begin(), all.end(), [](std::string_view character) {
           return belongs(decodeUtf8(character).codePoint);
         });
}

bool isDigit(uint32_t c) { return c >= '0' && c <= '9'; }

Value joinMethod(Interpreter &interpreter, const Arguments &arguments) {
  std::string out;
  if (arguments.size() < 2)
    return interpreter.fail("join needs a list");
  bool first = true;
  for (const Value &item : interpreter.iterate(arguments[1])) {
    if (!std::exchange(first, false))
      out += std::get<std::string_view>(arguments[0]);
    out += toText(item);
  }
  return interpreter.text(std::move(out));
}

Value indent(Interpreter &interpreter, const Arguments &arguments) {
  const Value *width = arguments.find(1, "width");
  std::string space =
      width && is<std::string_view>(*width)
          ? toText(*width)
          : std::string(std::clamp<int64_t>(integerOr(arguments, 1, "width", 4),
                                            0, 1000),
                        ' ');
  bool first = flagOr(arguments, 2, "first", false);
  bool blank = flagOr(arguments, 3, "blank", false);
  std::string text = self(interpreter, arguments) + "\n", out;
  std::vector<std::string_view> all = lines(text);
  interpreter.charge(all.size() * (1 + space.size() / 4));
  if (interpreter.failed())
    return Undefined();
  for (size_t i = 0; i < all.size(); ++i) {
    out += i ? "\n" : "";
    if (i == 0 ? first : blank || !all[i].empty())
      out += space;
    out += all[i];
  }
  return interpreter.text(std::move(out));
}

Value escape(Interpreter &interpreter, const Arguments &arguments) {
  std::string out;
  for (char c : self(interpreter, arguments)) {
    switch (c) {
    case '&':
      out += "&amp;";
      break;
    case '<':
      out += "&lt;";
      break;
    case '>':
      out += "&gt;";
      break;
    case '\'':
      out += "&#39;";
      break;
    case '"':
      out += "&#34;";
      break;
    default:
      out += c;
    }
  }
  return interpreter.text(std::move(out));
}

Value toTextFilter(Interpreter &interpreter, const Arguments &arguments) {
  return interpreter.text(self(interpreter, arguments));
}

Value tojson(Interpreter &interpreter, const Arguments &arguments) {
  int64_t width = integerOr(arguments, 2, "indent", -1);
  bool sortKeys = flagOr(arguments, 4, "sort_keys", false);
  interpreter.charge(extentOf(arguments[0]).weight / 16);
  std::optional<std::string> json = toJson(arguments[0], width, sortKeys);
  if (!json)
    return interpreter.fail("a value is not JSON serializable");
  return interpreter.text(std::move(*json));
}

//===----------------------------------------------------------------------===//
// Lists and dicts
//===----------------------------------------------------------------------===//

Value length(Interpreter &interpreter, const Arguments &arguments) {
  if (auto *dict = std::get_if<const Dict *>(&arguments[0]))
    return static_cast<int64_t>((*dict)->items.size());
  return static_cast<int64_t>(interpreter.iterate(arguments[0]).size());
}

Value first(Interpreter &interpreter, const Arguments &arguments) {
  std::vector<Value> items = interpreter.iterate(arguments[0]);
  return items.empty() ? Undefined{"the list is empty"} : items.front();
}

Value last(Interpreter &interpreter, const Arguments &arguments) {
  std::vector<Value> items = interpreter.iterate(arguments[0]);
  return items.empty() ? Undefined{"the list is empty"} : items.back();
}

Value list(Interpreter &interpreter, const Arguments &arguments) {
  return interpreter.heap.list(interpreter.iterate(arguments[0]));
}

Value reverse(Interpreter &interpreter, const Arguments &arguments) {
  std::vector<Value> items = interpreter.iterate(arguments[0]);
  std::reverse(items.begin(), items.end());
  if (!is<std::string_view>(arguments[0]))
    return interpreter.heap.list(std::move(items));
  std::string out;
  for (const Value &character : items)
    out += std::get<std::string_view>(character);
  return interpreter.text(std::move(out));
}

/// The member at a path such as "function.name"; the item itself without one.
Value follow(Interpreter &interpreter, const Value &item, const Value *path) {
  if (!path || is<None>(*path))
    return item;
  if (!is<std::string_view>(*path))
    return interpreter.getMember(item, *path);
  Value value = item;
  std::string_view rest = std::get<std::string_view>(*path);
  while (true) {
    size_t dot = std::min(rest.find('.'), rest.size());
    std::string_view name = rest.substr(0, dot);
    int64_t index;
    auto [end, status] =
        std::from_chars(name.data(), name.data() + name.size(), index);
    bool isIndex = status == std::errc() && end == name.data() + name.size();
    value = interpreter.getMember(value, isIndex ? Value(index) : name);
    if (dot == rest.size() || interpreter.failed())
      return value;
    rest.remove_prefix(dot + 1);
  }
}

Value join(Interpreter &interpreter, const Arguments &arguments) {
  std::string separator = textOr(arguments, 1, "d", ""), out;
  const Value *attribute = arguments.find(2, "attribute");
  bool isFirst = true;
  for (const Value &item : interpreter.iterate(arguments[0])) {
    if (!std::exchange(isFirst, false))
      out += separator;
    interpreter.charge(1 + separator.size() / 16);
    if (interpreter.failed())
      return Undefined();
    out += toText(follow(interpreter, item, attribute));
  }
  return interpreter.text(std::move(out));
}

/// Jinja compares texts without case unless told otherwise.
Value sortKey(Interpreter &interpreter, const Value &value,
              bool caseSensitive) {
  return caseSensitive || !is<std::string_view>(value)
             ? value
             : lower(interpreter, {{value}, {}});
}

Value sortItems(Interpreter &interpreter, std::vector<Value> items,
                const Value *attribute, bool caseSensitive, bool reversed) {
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value &item : items)
    keyed.emplace_back(sortKey(interpreter,
                               follow(interpreter, item, attribute),
                               caseSensitive),
                       item);
  interpreter.charge(keyed.size() * keyed.size() / 16);
  if (interpreter.failed())
    return Undefined();
  bool comparable = true;
  stableSort(keyed, [&](const auto &a, const auto &b) {
    auto less = reversed ? isLess(b.first, a.first) : isLess(a.first, b.first);
    comparable &= less.has_value();
    return less.value_or(false);
  });
  if (!comparable)
    return interpreter.fail("the items to sort cannot be compared");
  for (size_t i = 0; i < items.size(); ++i)
    items[i] = keyed[i].second;
  return interpreter.heap.list(std::move(items));
}

Value sort(Interpreter &interpreter, const Arguments &arguments) {
  return sortItems(interpreter, interpreter.iterate(arguments[0]),
                   arguments.find(3, "attribute"),
                   flagOr(arguments, 2, "case_sensitive", false),
                   flagOr(arguments, 1, "reverse", false));
}

Value items(Interpreter &interpreter, const Arguments &arguments) {
  std::vector<Value> out;
  if (is<Undefined>(arguments[0]))
    return interpreter.heap.list({});
  auto *dict = std::get_if<const Dict *>(&arguments[0]);
  if (!dict)
    return interpreter.fail("items needs a dict");
  interpreter.charge((*dict)->items.size());
  for (const auto &[key, value] : (*dict)->items)
    out.push_back(interpreter.heap.list({key, value}, /*isTuple=*/true));
  return interpreter.heap.list(std::move(out));
}

Value dictsort(Interpreter &interpreter, const Arguments &arguments) {
  Value pairs = items(interpreter, arguments);
  if (interpreter.failed())
    return Undefined();
  bool byValue = textOr(arguments, 2, "by", "key") == "value";
  Value index = int64_t(byValue);
  return sortItems(interpreter, interpreter.iterate(pairs), &index,
                   flagOr(arguments, 1, "case_sensitive", false),
                   flagOr(arguments, 3, "reverse", false));
}

Value unique(Interpreter &interpreter, const Arguments &arguments) {
  std::vector<Value> keys, out;
  const Value *attribute = arguments.find(2, "attribute");
  for (const Value &item : interpreter.iterate(arguments[0])) {
    Value key = sortKey(interpreter, follow(interpreter, item, attribute),
                        flagOr(arguments, 1, "case_sensitive", false));
    interpreter.charge(1 + keys.size() / 4);
    if (interpreter.failed())
      return Undefined();
    if (std::none_of(keys.begin(), keys.end(),
                     [&](const Value &known) { return isEqual(known, key); })) {
      keys.push_back(key);
      out.push_back(item);
    }
  }
  return interpreter.heap.list(std::move(out));
}

/// The arguments for a filter or test named by arguments[position].
Arguments forward(const Arguments &arguments, size_t position,
                  const Value &item) {
  Arguments inner;
  inner.positional.push_back(item);
  for (size_t i = position + 1; i < arguments.size(); ++i)
    inner.positional.push_back(arguments[i]);
  inner.keywords = arguments.keywords;
  return inner;
}

Value map(Interpreter &interpreter, const Arguments &arguments) {
  std::vector<Value> out;
  const Value *attribute = arguments.find(SIZE_MAX, "attribute");
  const Value *otherwise = arguments.find(SIZE_MAX, "default");
  if (!attribute && arguments.size() < 2)
    return interpreter.fail("map needs a filter or an attribute");
  for (const Value &item : interpreter.iterate(arguments[0])) {
    Value mapped = attribute
                       ? follow(interpreter, item, attribute)
                       : interpreter.applyFilter(toText(arguments[1]),
                                                 forward(arguments, 1, item));
    if (interpreter.failed())
      return Undefined();
    out.push_back(otherwise && is<Undefined>(mapped) ? *otherwise : mapped);
  }
  return interpreter.heap.list(std::move(out));
}

/// select, reject, selectattr, rejectattr: the items, or an attribute of them,
/// that pass a test (or are true), or do not.
template <bool byAttribute, bool wanted>
Value select(Interpreter &interpreter, const Arguments &arguments) {
  size_t testAt = byAttribute ? 2 : 1;
  if (byAttribute && arguments.size() < 2)
    return interpreter.fail("selectattr and rejectattr need an attribute");
  std::vector<Value> out;
  for (const Value &item : interpreter.iterate(arguments[0])) {
    Value tested =
        byAttribute ? follow(interpreter, item, &arguments[1]) : item;
    if (arguments.size() > testAt)
      tested = interpreter.applyTest(toText(arguments[testAt]),
                                     forward(arguments, testAt, tested));
    if (interpreter.failed())
      return Undefined();
    if (isTrue(tested) == wanted)
      out.push_back(item);
  }
  return interpreter.heap.list(std::move(out));
}

Value sum(Interpreter &interpreter, const Arguments &arguments) {
  Value total = int64_t(0);
  const Value *attribute = arguments.find(1, "attribute");
  if (const Value *start = arguments.find(2, "start"))
    total = *start;
  for (const Value &item : interpreter.iterate(arguments[0]))
    total =
        interpreter.binary("+", total, follow(interpreter, item, attribute));
  return total;
}

template <bool greatest>
Value extreme(Interpreter &interpreter, const Arguments &arguments) {
  std::vector<Value> all = interpreter.iterate(arguments[0]);
  const Value *attribute = arguments.find(2, "attribute");
  if (all.empty() || interpreter.failed())
    return Undefined{"the list is empty"};
  Value sorted =
      sortItems(interpreter, std::move(all), attribute,
                flagOr(arguments, 1, "case_sensitive", false), greatest);
  return interpreter.failed() ? Value()
                              : std::get<const List *>(sorted)->items.front();
}

template <int part> // 0: keys, 1: values
Value dictPart(Interpreter &interpreter, const Arguments &arguments) {
  std::vector<Value> out;
  for (const auto &item : std::get<const Dict *>(arguments[0])->items)
    out.push_back(part ? item.second : item.first);
  interpreter.charge(out.size());
  return interpreter.heap.list(std::move(out));
}

Value get(Interpreter &interpreter, const Arguments &arguments) {
  const Dict &dict = *std::get<const Dict *>(arguments[0]);
  const Value *key = arguments.find(1, "key");
  const Value *otherwise = arguments.find(2, "default");
  if (!key)
    return interpreter.fail("get needs a key");
  interpreter.charge(dict.items.size());
  if (const Value *value = dict.find(*key))
    return *value;
  return otherwise ? *otherwise : None();
}

Value indexOf(Interpreter &interpreter, const Arguments &arguments) {
  const List &all = *std::get<const List *>(arguments[0]);
  interpreter.charge(all.extent.weight / 16);
  for (size_t i = 0; arguments.size() > 1 && i < all.items.size(); ++i)
    if (isEqual(all.items[i], arguments[1]))
      return static_cast<int64_t>(i);
  return interpreter.fail("the list has no such item");
}

//===----------------------------------------------------------------------===//
// Numbers and others
//===----------------------------------------------------------------------===//

/// Python's int(value) or float(value), else the default.
template <typename Number>
Value convert(Interpreter &interpreter, const Arguments &arguments) {
  if (std::optional<double> number = toNumber(arguments[0])) {
    bool inRange = std::abs(*number) < 0x1p63;
    if constexpr (std::is_same_v<Number, double>)
      return *number;
    else if (auto integer = toInteger(arguments[0]))
      return *integer;
    else
      return inRange ? static_cast<int64_t>(*number) : int64_t(0);
  }
  if (auto *string = std::get_if<std::string_view>(&arguments[0])) {
    std::string_view digits = strip(*string, nullptr, true, true);
    if (digits.starts_with("+"))
      digits.remove_prefix(1);
    Number number;
    auto [end, status] =
        std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (!digits.empty() && status == std::errc() &&
        end == digits.data() + digits.size())
      return number;
    if constexpr (std::is_same_v<Number, int64_t>) // int("3.9") is 3 in Jinja
      if (Value number =
              convert<double>(interpreter, {{*string, Undefined()}, {}});
          is<double>(number))
        return convert<int64_t>(interpreter, {{number}, {}});
  }
  const Value *otherwise = arguments.find(1, "default");
  return otherwise ? *otherwise : Number(0);
}

Value absolute(Interpreter &interpreter, const Arguments &arguments) {
  if (auto integer = toInteger(arguments[0]); integer && *integer != INT64_MIN)
    return std::abs(*integer);
  if (auto number = toNumber(arguments[0]))
    return std::abs(*number);
  return interpreter.fail("abs needs a number");
}

Value round(Interpreter &interpreter, const Arguments &arguments) {
  std::optional<double> number = toNumber(arguments[0]);
  if (!number)
    return interpreter.fail("round needs a number");
  std::string method = textOr(arguments, 2, "method", "common");
  double scale =
      std::pow(10.0, static_cast<double>(std::clamp<int64_t>(
                         integerOr(arguments, 1, "precision", 0), -300, 300)));
  double scaled = *number * scale;
  scaled = method == "ceil"    ? std::ceil(scaled)
           : method == "floor" ? std::floor(scaled)
                               : std::nearbyint(scaled);
  return scaled / scale;
}

Value defaultValue(Interpreter &interpreter, const Arguments &arguments) {
  bool missing =
      is<Undefined>(arguments[0]) ||
      (flagOr(arguments, 2, "boolean", false) && !isTrue(arguments[0]));
  if (!missing)
    return arguments[0];
  const Value *otherwise = arguments.find(1, "default_value");
  return otherwise ? *otherwise : interpreter.text("");
}

Value range(Interpreter &interpreter, const Arguments &arguments) {
  int64_t bounds[3] = {0, 0, 1};
  for (size_t i = 0; i < arguments.size() && i < 3; ++i) {
    std::optional<int64_t> bound = toInteger(arguments[i]);
    if (!bound)
      return interpreter.fail("range needs integers");
    bounds[arguments.size() == 1 ? 1 : i] = *bound;
  }
  auto [begin, end, step] = bounds;
  if (arguments.size() == 0 || step == 0)
    return interpreter.fail("range needs a bound and a step that is not 0");
  // The limit of Jinja's sandbox; in double, where nothing overflows.
  double count = std::ceil((double(end) - double(begin)) / double(step));
  if (count > 100000)
    return interpreter.fail("range is longer than 100000");
  std::vector<Value> out;
  for (int64_t i = 0; i < static_cast<int64_t>(count); ++i)
    out.push_back(begin + i * step);
  interpreter.charge(out.size());
  return interpreter.heap.list(std::move(out));
}

Value makeNamespace(Interpreter &interpreter, const Arguments &arguments) {
  Namespace *space = interpreter.heap.makeNamespace();
  space->items = arguments.keywords;
  if (arguments.size() > 0)
    if (auto *dict = std::get_if<const Dict *>(&arguments[0]))
      for (const auto &[key, value] : (*dict)->items)
        if (auto *name = std::get_if<std::string_view>(&key))
          space->items.emplace_back(*name, value);
  return space;
}

Value makeDict(Interpreter &interpreter, const Arguments &arguments) {
  std::vector<std::pair<Value, Value>> out;
  if (arguments.size() > 0)
    if (auto *dict = std::get_if<const Dict *>(&arguments[0]))
      out = (*dict)->items;
  for (const auto &[key, value] : arguments.keywords) {
    std::erase_if(out, [&](auto &item) { return isEqual(item.first, key); });
    out.emplace_back(key, value);
  }
  return interpreter.heap.dict(std::move(out));
}

Value raiseException(Interpreter &interpreter, const Arguments &arguments) {
  return interpreter.fail("the template refuses the conversation: " +
                          textOr(arguments, 0, "message", "no reason given"));
}

Value strftimeNow(Interpreter &interpreter, const Arguments &arguments) {
  std::string format = textOr(arguments, 0, "format", "%Y-%m-%d");
  std::tm local = {};
  localtime_r(&interpreter.now, &local);
  char buffer[1024];
  // A leading character tells an empty result from one that does not fit.
  size_t length =
      std::strftime(buffer, sizeof(buffer), (" " + format).c_str(), &local);
  if (length == 0)
    return interpreter.fail("the date format is too long");
  return interpreter.text(std::string(buffer + 1, length - 1));
}

/// loop.cycle(a, b, ...)
Value cycle(Interpreter &interpreter, const Arguments &arguments) {
  const Loop &loop = *std::get<const Loop *>(arguments[0]);
  if (arguments.size() < 2)
    return interpreter.fail("cycle needs items");
  return arguments[1 + loop.index % (arguments.size() - 1)];
}

//===----------------------------------------------------------------------===//
// Tests
//===----------------------------------------------------------------------===//

template <typename... Types>
Value isAnyOf(Interpreter &, const Arguments &arguments) {
  return (is<Types>(arguments[0]) || ...);
}

template <typename Type, Type expected>
Value isExactly(Interpreter &, const Arguments &arguments) {
  auto *value = std::get_if<Type>(&arguments[0]);
  return value && *value == expected;
}

Value isDefined(Interpreter &, const Arguments &arguments) {
  return !is<Undefined>(arguments[0]);
}

template <int remainder>
Value isParity(Interpreter &interpreter, const Arguments &arguments) {
  std::optional<int64_t> integer = toInteger(arguments[0]);
  if (!integer)
    return interpreter.fail("odd and even need an integer");
  return *integer % 2 == remainder || *integer % 2 == -remainder;
}

Value isDivisibleBy(Interpreter &interpreter, const Arguments &arguments) {
  std::optional<int64_t> by;
  if (arguments.size() > 1)
    by = toInteger(arguments[1]);
  if (std::optional<int64_t> integer = toInteger(arguments[0]);
      integer && by && *by != 0)
    return *by == -1 || *integer % *by == 0;
  return interpreter.fail("divisibleby needs two integers");
}

/// The comparisons as tests: x is gt 3.
template <char op>
Value compares(Interpreter &interpreter, const Arguments &arguments) {
  if (arguments.size() < 2)
    return interpreter.fail("a comparison needs two values");
  const Value &a = arguments[0], &b = arguments[1];
  interpreter.charge(std::min(extentOf(a).weight, extentOf(b).weight) / 16);
  if (op == '=' || op == '!')
    return isEqual(a, b) == (op == '=');
  std::optional<bool> less =
      op == '<' || op == 'g' ? isLess(a, b) : isLess(b, a);
  if (!less)
    return interpreter.fail("the values cannot be compared");
  return *less == (op == '<' || op == '>'); // 'g' is >=, 'l' is <=
}

Value isIn(Interpreter &interpreter, const Arguments &arguments) {
  if (arguments.size() < 2)
    return interpreter.fail("in needs a list");
  auto *string = std::get_if<std::string_view>(&arguments[1]);
  if (string)
    return string->find(toText(arguments[0])) != string->npos;
  interpreter.charge(extentOf(arguments[1]).weight / 16);
  for (const Value &item : interpreter.iterate(arguments[1]))
    if (isEqual(item, arguments[0]))
      return true;
  return false;
}

template <bool upperCase>
Value isCase(Interpreter &interpreter, const Arguments &arguments) {
  std::string text = self(interpreter, arguments);
  bool cased = false;
  for (std::string_view character : characters(text)) {
    uint32_t c = decodeUtf8(character).codePoint;
    if (changeCase(c, !upperCase) != c)
      cased = true;
    else if (changeCase(c, upperCase) != c)
      return false;
  }
  return cased;
}

//===----------------------------------------------------------------------===//
// Tables
//===----------------------------------------------------------------------===//

constexpr Function filters[] = {
    {"abs", absolute},
    {"capitalize", capitalize},
    {"count", length},
    {"d", defaultValue},
    {"default", defaultValue},
    {"dictsort", dictsort},
    {"e", escape},
    {"escape", escape},
    {"first", first},
    {"float", convert<double>},
    {"indent", indent},
    {"int", convert<int64_t>},
    {"items", items},
    {"join", join},
    {"last", last},
    {"length", length},
    {"list", list},
    {"lower", lower},
    {"map", map},
    {"max", extreme<true>},
    {"min", extreme<false>},
    {"reject", select<false, false>},
    {"rejectattr", select<true, false>},
    {"replace", replace},
    {"reverse", reverse},
    {"round", round},
    {"safe", toTextFilter},
    {"select", select<false, true>},
    {"selectattr", select<true, true>},
    {"sort", sort},
    {"string", toTextFilter},
    {"sum", sum},
    {"title", title},
    {"tojson", tojson},
    {"trim", stripText<true, true>},
    {"unique", unique},
    {"upper", upper},
};

constexpr Function tests[] = {
    {"!=", compares<'!'>},
    {"<", compares<'<'>},
    {"<=", compares<'l'>},
    {"==", compares<'='>},
    {">", compares<'>'>},
    {">=", compares<'g'>},
    {"boolean", isAnyOf<bool>},
    {"callable", isAnyOf<const Function *, const Macro *>},
    {"defined", isDefined},
    {"divisibleby", isDivisibleBy},
    {"eq", compares<'='>},
    {"equalto", compares<'='>},
    {"even", isParity<0>},
    {"false", isExactly<bool, false>},
    {"float", isAnyOf<double>},
    {"ge", compares<'g'>},
    {"greaterthan", compares<'>'>},
    {"gt", compares<'>'>},
    {"in", isIn},
    {"integer", isAnyOf<int64_t>},
    {"iterable",
     isAnyOf<std::string_view, const List *, const Dict *, Undefined>},
    {"le", compares<'l'>},
    {"lessthan", compares<'<'>},
    {"lower", isCase<false>},
    {"lt", compares<'<'>},
    {"mapping", isAnyOf<const Dict *>},
    {"ne", compares<'!'>},
    {"none", isAnyOf<None>},
    {"number", isAnyOf<int64_t, double, bool>},
    {"odd", isParity<1>},
    {"sameas", compares<'='>},
    {"sequence",
     isAnyOf<std::string_view, const List *, const Dict *, Undefined>},
    {"string", isAnyOf<std::string_view>},
    {"true", isExactly<bool, true>},
    {"undefined", isAnyOf<Undefined>},
    {"upper", isCase<true>},
};

constexpr Function globals[] = {
    {"dict", makeDict},
    {"namespace", makeNamespace},
    {"raise_exception", raiseException},
    {"range", range},
    {"strftime_now", strftimeNow},
};

constexpr Function textMethods[] = {
    {"capitalize", capitalize},
    {"count", countText},
    {"endswith", hasAffix<false>},
    {"find", findText<false>},
    {"isdigit", consistsOf<isDigit>},
    {"isspace", consistsOf<isPythonSpace>},
    {"join", joinMethod},
    {"lower", lower},
    {"lstrip", stripText<true, false>},
    {"replace", replace},
    {"rfind", findText<true>},
    {"rsplit", split<true>},
    {"rstrip", stripText<false, true>},
    {"split", split<false>},
    {"splitlines", splitLines},
    {"startswith", hasAffix<true>},
    {"strip", stripText<true, true>},
    {"title", title},
    {"upper", upper},
};

constexpr Function dictMethods[] = {
    {"get", get},
    {"items", items},
    {"keys", dictPart<0>},
    {"values", dictPart<1>},
};

constexpr Function listMethods[] = {{"index", indexOf}};
constexpr Function loopMethods[] = {{"cycle", cycle}};

const Function *findIn(std::span<const Function> table, std::string_view name) {
  auto found = std::find_if(table.begin(), table.end(),
                            [&](const Function &f) { return f.name == name; });
  return found == table.end() ? nullptr : &*found;
}

} // namespace

const Function *tercet::jinja::findFilter(std::string_view name) {
  return findIn(filters, name);
}

const Function *tercet::jinja::findTest(std::string_view name) {
  return findIn(tests, name);
}

const Function *tercet::jinja::findGlobal(std::string_view name) {
  return findIn(globals, name);
}

const Function *tercet::jinja::findMethod(const Value &self,
                                          std::string_view name) {
  if (is<std::string_view>(self))
    return findIn(textMethods, name);
  if (is<const Dict *>(self))
    return findIn(dictMethods, name);
  if (is<const List *>(self))
    return findIn(listMethods, name);
  if (is<const Loop *>(self))
    return findIn(loopMethods, name);
  return nullptr;
}
