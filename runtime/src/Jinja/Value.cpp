// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Jinja/Value.h"
#include "runtime/src/Utf8.h"

#include <algorithm>
#include <charconv>
#include <cmath>

using namespace tercet;
using namespace tercet::jinja;

const Value *Dict::find(const Value &key) const {
  for (const auto &[name, value] : items)
    if (isEqual(name, key))
      return &value;
  return nullptr;
}

Value Heap::text(std::string text) {
  size += text.size() + sizeof(std::string);
  return std::string_view(texts.emplace_back(std::move(text)));
}

void Heap::extend(Extent &extent, const Value &part) {
  Extent inner = extentOf(part);
  extent.weight += inner.weight;
  extent.depth = std::max(extent.depth, inner.depth + 1);
  tooLarge |= extent.weight > maximumExtent.weight ||
              extent.depth > maximumExtent.depth;
}

Value Heap::list(std::vector<Value> items, bool isTuple) {
  size += items.size() * sizeof(Value) + sizeof(List);
  List &list = lists.emplace_back(List{std::move(items), isTuple});
  for (const Value &item : list.items)
    extend(list.extent, item);
  return tooLarge ? Value() : &list;
}

Value Heap::dict(std::vector<std::pair<Value, Value>> items) {
  size += items.size() * 2 * sizeof(Value) + sizeof(Dict);
  Dict &dict = dicts.emplace_back(Dict{std::move(items)});
  for (const auto &[key, value] : dict.items) {
    extend(dict.extent, key);
    extend(dict.extent, value);
  }
  return tooLarge ? Value() : &dict;
}

Extent tercet::jinja::extentOf(const Value &value) {
  if (auto *text = std::get_if<std::string_view>(&value))
    return {text->size() + 1, 0};
  if (auto *list = std::get_if<const List *>(&value))
    return (*list)->extent;
  if (auto *dict = std::get_if<const Dict *>(&value))
    return (*dict)->extent;
  return {1, 0};
}

Namespace *Heap::makeNamespace() {
  size += sizeof(Namespace);
  return &namespaces.emplace_back();
}

Loop *Heap::loop(const List &list, int64_t depth) {
  size += sizeof(Loop);
  return &loops.emplace_back(Loop{&list, 0, depth});
}

std::string_view tercet::jinja::typeName(const Value &value) {
  static constexpr std::string_view names[] = {
      "Undefined", "NoneType", "bool",      "int",         "float",    "str",
      "list",      "dict",     "Namespace", "LoopContext", "function", "Macro"};
  static_assert(std::size(names) == std::variant_size_v<Value>);
  if (is<const List *>(value) && std::get<const List *>(value)->isTuple)
    return "tuple";
  return names[value.index()];
}

bool tercet::jinja::isTrue(const Value &value) {
  if (is<Undefined>(value) || is<None>(value))
    return false;
  if (auto *text = std::get_if<std::string_view>(&value))
    return !text->empty();
  if (auto *list = std::get_if<const List *>(&value))
    return !(*list)->items.empty();
  if (auto *dict = std::get_if<const Dict *>(&value))
    return !(*dict)->items.empty();
  if (std::optional<double> number = toNumber(value))
    return *number != 0;
  return true;
}

std::optional<double> tercet::jinja::toNumber(const Value &value) {
  if (auto *number = std::get_if<double>(&value))
    return *number;
  if (std::optional<int64_t> integer = toInteger(value))
    return static_cast<double>(*integer);
  return std::nullopt;
}

std::optional<int64_t> tercet::jinja::toInteger(const Value &value) {
  if (auto *integer = std::get_if<int64_t>(&value))
    return *integer;
  if (auto *boolean = std::get_if<bool>(&value))
    return *boolean;
  return std::nullopt;
}

bool tercet::jinja::isEqual(const Value &left, const Value &right) {
  std::optional<int64_t> i = toInteger(left), j = toInteger(right);
  if (i && j)
    return *i == *j;
  std::optional<double> x = toNumber(left), y = toNumber(right);
  if (x && y)
    return *x == *y;
  if (left.index() != right.index())
    return false;
  if (is<Undefined>(left) || is<None>(left))
    return true;
  if (is<const List *>(left)) {
    const List &a = *std::get<const List *>(left);
    const List &b = *std::get<const List *>(right);
    return a.isTuple == b.isTuple &&
           std::equal(a.items.begin(), a.items.end(), b.items.begin(),
                      b.items.end(), isEqual);
  }
  if (is<const Dict *>(left)) {
    const Dict &a = *std::get<const Dict *>(left);
    const Dict &b = *std::get<const Dict *>(right);
    return a.items.size() == b.items.size() &&
           std::all_of(a.items.begin(), a.items.end(), [&](const auto &item) {
             const Value *other = b.find(item.first);
             return other && isEqual(item.second, *other);
           });
  }
  if (auto *text = std::get_if<std::string_view>(&left))
    return *text == std::get<std::string_view>(right);
  return std::visit( // objects are equal if they are the same
      [&](auto a) {
        if constexpr (std::is_pointer_v<decltype(a)>)
          return a == std::get<decltype(a)>(right);
        return false;
      },
      left);
}

std::optional<bool> tercet::jinja::isLess(const Value &left,
                                          const Value &right) {
  std::optional<int64_t> i = toInteger(left), j = toInteger(right);
  if (i && j)
    return *i < *j;
  std::optional<double> x = toNumber(left), y = toNumber(right);
  if (x && y)
    return *x < *y;
  auto *a = std::get_if<std::string_view>(&left);
  auto *b = std::get_if<std::string_view>(&right);
  if (a && b)
    return *a < *b; // UTF-8 orders as its code points do
  if (!is<const List *>(left) || !is<const List *>(right))
    return std::nullopt;
  const List &v = *std::get<const List *>(left);
  const List &w = *std::get<const List *>(right);
  for (size_t k = 0; k < v.items.size() && k < w.items.size(); ++k)
    if (!isEqual(v.items[k], w.items[k]))
      return isLess(v.items[k], w.items[k]);
  return v.items.size() < w.items.size();
}

/// The shortest digits that read back as `number`, laid out as Python does.
static std::string floatText(double number) {
  if (std::isnan(number))
    return "nan";
  if (std::isinf(number))
    return number < 0 ? "-inf" : "inf";
  char buffer[64];
  auto end = std::to_chars(buffer, std::end(buffer), number,
                           std::chars_format::scientific)
                 .ptr;
  std::string_view scientific(buffer, end - buffer);
  size_t e = scientific.find('e');
  int exponent = 0;
  std::from_chars(buffer + e + (scientific[e + 1] == '+' ? 2 : 1), end,
                  exponent);
  if (exponent < -4 || exponent >= 16)
    return std::string(scientific);
  end =
      std::to_chars(buffer, std::end(buffer), number, std::chars_format::fixed)
          .ptr;
  std::string text(buffer, end);
  return text.find('.') == std::string::npos ? text + ".0" : text;
}

static std::string quoted(std::string_view text) {
  char quote =
      text.find('\'') != text.npos && text.find('"') == text.npos ? '"' : '\'';
  std::string out(1, quote);
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    static constexpr char digits[] = "0123456789abcdef";
    if (c == quote || c == '\\')
      out += {'\\', c};
    else if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\t')
      out += "\\t";
    else if (byte < 0x20 || byte == 0x7F)
      out += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
    else
      out += c;
  }
  return out + quote;
}

static void appendRepr(std::string &out, const Value &value) {
  if (auto *text = std::get_if<std::string_view>(&value)) {
    out += quoted(*text);
  } else if (auto *list = std::get_if<const List *>(&value)) {
    bool isTuple = (*list)->isTuple;
    out += isTuple ? '(' : '[';
    for (size_t i = 0; i < (*list)->items.size(); ++i) {
      out += i ? ", " : "";
      appendRepr(out, (*list)->items[i]);
    }
    if (isTuple && (*list)->items.size() == 1)
      out += ',';
    out += isTuple ? ')' : ']';
  } else if (auto *dict = std::get_if<const Dict *>(&value)) {
    out += '{';
    for (size_t i = 0; i < (*dict)->items.size(); ++i) {
      out += i ? ", " : "";
      appendRepr(out, (*dict)->items[i].first);
      out += ": ";
      appendRepr(out, (*dict)->items[i].second);
    }
    out += '}';
  } else if (auto *boolean = std::get_if<bool>(&value)) {
    out += *boolean ? "True" : "False";
  } else if (auto *integer = std::get_if<int64_t>(&value)) {
    out += std::to_string(*integer);
  } else if (auto *number = std::get_if<double>(&value)) {
    out += floatText(*number);
  } else if (is<None>(value)) {
    out += "None";
  } else if (is<Undefined>(value)) {
    out += "Undefined";
  } else {
    out.append("<").append(typeName(value)).append(">");
  }
}

std::string tercet::jinja::toRepr(const Value &value) {
  std::string out;
  appendRepr(out, value);
  return out;
}

std::string tercet::jinja::toText(const Value &value) {
  if (auto *text = std::get_if<std::string_view>(&value))
    return std::string(*text);
  return is<Undefined>(value) ? "" : toRepr(value);
}

static void appendJsonText(std::string &out, std::string_view text) {
  out += '"';
  for (char c : text) {
    static constexpr char digits[] = "0123456789abcdef";
    static constexpr std::string_view special = "\"\\\n\r\t\b\f";
    auto byte = static_cast<unsigned char>(c);
    if (size_t i = special.find(c); i != special.npos)
      out += {'\\', "\"\\nrtbf"[i]};
    else if (byte < 0x20)
      out.append("\\u00") += {digits[byte >> 4], digits[byte & 15]};
    else
      out += c;
  }
  out += '"';
}

namespace {

struct JsonWriter {
  int64_t indent; // < 0: on one line
  bool sortKeys;
  std::string out = {};

  void newline(int depth) {
    out += '\n';
    out.append(indent * depth, ' ');
  }

  /// Opens the next item of a container.
  void separate(bool first, int depth) {
    if (!first)
      out += indent < 0 ? ", " : ",";
    if (indent >= 0)
      newline(depth + 1);
  }

  bool write(const Value &value, int depth) {
    if (auto *text = std::get_if<std::string_view>(&value))
      appendJsonText(out, *text);
    else if (auto *boolean = std::get_if<bool>(&value))
      out += *boolean ? "true" : "false";
    else if (is<None>(value))
      out += "null";
    else if (toNumber(value))
      out += toRepr(value);
    else if (auto *list = std::get_if<const List *>(&value))
      return writeList(**list, depth);
    else if (auto *dict = std::get_if<const Dict *>(&value))
      return writeDict(**dict, depth);
    else
      return false;
    return true;
  }

  bool writeList(const List &list, int depth) {
    out += '[';
    for (const Value &item : list.items) {
      separate(&item == list.items.data(), depth);
      if (!write(item, depth + 1))
        return false;
    }
    if (indent >= 0 && !list.items.empty())
      newline(depth);
    out += ']';
    return true;
  }

  bool writeDict(const Dict &dict, int depth) {
    auto items = dict.items;
    if (sortKeys)
      stableSort(items, [](const auto &a, const auto &b) {
        return isLess(a.first, b.first).value_or(false);
      });
    out += '{';
    for (const auto &item : items) {
      separate(&item == items.data(), depth);
      if (auto *key = std::get_if<std::string_view>(&item.first))
        appendJsonText(out, *key);
      else
        appendJsonText(out, toRepr(item.first));
      out += ": ";
      if (!write(item.second, depth + 1))
        return false;
    }
    if (indent >= 0 && !items.empty())
      newline(depth);
    out += '}';
    return true;
  }
};

} // namespace

std::optional<std::string>
tercet::jinja::toJson(const Value &value, int64_t indent, bool sortKeys) {
  JsonWriter writer{std::min<int64_t>(indent, 64), sortKeys};
  if (!writer.write(value, 0))
    return std::nullopt;
  return std::move(writer.out);
}

std::vector<std::string_view> tercet::jinja::characters(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    size_t length = decodeUtf8(text).length;
    out.push_back(text.substr(0, length));
    text.remove_prefix(length);
  }
  return out;
}
