// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Values of a template, with the semantics that Python gives them.

#ifndef TERCET_RUNTIME_JINJA_VALUE_H
#define TERCET_RUNTIME_JINJA_VALUE_H

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tercet::jinja {

struct List;
struct Dict;
struct Namespace;
struct Loop;
struct Function;
struct Macro;

/// What an unknown name or member evaluates to: empty text, an empty list,
/// false; an error as an operand. `why` is that error's message.
struct Undefined {
  std::string_view why = "the value is undefined";
};
struct None {};

/// Trivially copyable: texts and containers belong to the Heap of a rendering.
using Value =
    std::variant<Undefined, None, bool, int64_t, double, std::string_view,
                 const List *, const Dict *, Namespace *, const Loop *,
                 const Function *, const Macro *>;

/// The size of a container written out as text, and its depth. Containers
/// never change, so both are known when one is made: what is too large to be
/// compared or printed is refused there, however it shares its parts.
struct Extent {
  uint64_t weight = 1;
  uint32_t depth = 1;
};

struct List {
  std::vector<Value> items;
  bool isTuple = false; // printed with parentheses
  Extent extent;
};

struct Dict {
  std::vector<std::pair<Value, Value>> items; // in order of insertion
  Extent extent;
  const Value *find(const Value &key) const;
};

/// The one kind of object that a template can change. Comparing and printing
/// do not look inside.
struct Namespace {
  std::vector<std::pair<std::string_view, Value>> items;
};

/// The variable `loop`.
struct Loop {
  const List *list;
  size_t index;  // from 0
  int64_t depth; // of nesting, from 1
};

/// Owns what values refer to, until the rendering ends. Nothing is freed
/// before that, so values can form cycles and no destructor recurses.
class Heap {
public:
  Value text(std::string text);
  Value list(std::vector<Value> items, bool isTuple = false);
  Value dict(std::vector<std::pair<Value, Value>> items);
  Namespace *makeNamespace();
  Loop *loop(const List &list, int64_t depth);

  /// What a template has allocated or built is beyond all reason.
  bool isExhausted() const { return size > maximumSize || tooLarge; }

private:
  static constexpr size_t maximumSize = 128 << 20;
  static constexpr Extent maximumExtent = {16 << 20, 64};
  void extend(Extent &extent, const Value &part);

  size_t size = 0;
  bool tooLarge = false;
  std::deque<std::string> texts;
  std::deque<List> lists;
  std::deque<Dict> dicts;
  std::deque<Namespace> namespaces;
  std::deque<Loop> loops;
};

template <typename T> bool is(const Value &value) {
  return std::holds_alternative<T>(value);
}

/// Python's name of the type, for messages.
std::string_view typeName(const Value &value);

bool isTrue(const Value &value);
bool isEqual(const Value &left, const Value &right);
Extent extentOf(const Value &value);

/// Less than; nothing if Python does not order the two.
std::optional<bool> isLess(const Value &left, const Value &right);

/// str(value) and repr(value).
std::string toText(const Value &value);
std::string toRepr(const Value &value);

/// The value of a bool, int or float; and of the first two alone.
std::optional<double> toNumber(const Value &value);
std::optional<int64_t> toInteger(const Value &value);

/// json.dumps(value, ensure_ascii=False, indent=indent); nothing if Python
/// cannot serialise it. `indent` < 0 is None.
std::optional<std::string> toJson(const Value &value, int64_t indent,
                                  bool sortKeys);

/// By insertion: lists are short, and no inconsistent order that a template
/// makes up can do harm, which std::sort would not promise.
template <typename T, typename Less>
void stableSort(std::vector<T> &items, Less less) {
  for (size_t i = 1; i < items.size(); ++i)
    for (size_t j = i; j > 0 && less(items[j], items[j - 1]); --j)
      std::swap(items[j], items[j - 1]);
}

/// The characters of a text, each as its UTF-8.
std::vector<std::string_view> characters(std::string_view text);

} // namespace tercet::jinja

#endif // TERCET_RUNTIME_JINJA_VALUE_H
