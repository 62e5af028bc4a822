// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Jinja/Interpreter.h"

#include <algorithm>
#include <cmath>

using namespace tercet;
using namespace tercet::jinja;

// A template of an honest model needs a few thousand evaluations a message.
static constexpr uint64_t maximumWork = 20'000'000;
static constexpr size_t maximumOutput = 64 << 20;
static constexpr int maximumDepth = 400; // macros that call each other

const Value *Arguments::find(size_t position, std::string_view keyword) const {
  if (position < positional.size())
    return &positional[position];
  for (const auto &[name, value] : keywords)
    if (name == keyword)
      return &value;
  return nullptr;
}

const Value *Interpreter::Scope::find(std::string_view name) const {
  for (const Scope *scope = this; scope; scope = scope->parent)
    for (const auto &[known, value] : scope->variables)
      if (known == name)
        return &value;
  return nullptr;
}

void Interpreter::Scope::set(std::string_view name, const Value &value) {
  for (auto &[known, old] : variables)
    if (known == name) {
      old = value;
      return;
    }
  variables.emplace_back(name, value);
}

Value Interpreter::fail(const std::string &what) {
  if (!error)
    error = Error("line " + std::to_string(line) + ": " + what);
  return Undefined();
}

Value Interpreter::undefined(const std::string &why) {
  return Undefined{std::get<std::string_view>(heap.text(why))};
}

void Interpreter::charge(uint64_t amount) {
  work += amount;
  if (work > maximumWork)
    fail("the template runs too long");
  else if (heap.isExhausted())
    fail("the template needs too much memory");
}

void Interpreter::enter() {
  if (++depth > maximumDepth)
    fail("the template calls itself too deeply");
}

Error Interpreter::run(const Syntax &syntax, std::string &out) {
  output = &out;
  execute(syntax.body);
  return error;
}

//===----------------------------------------------------------------------===//
// Statements
//===----------------------------------------------------------------------===//

Interpreter::Flow Interpreter::execute(const Block &block) {
  Flow flow = Flow::Next;
  enter();
  for (const StatementPtr &statement : block) {
    if (failed() || flow != Flow::Next)
      break;
    flow = execute(*statement);
  }
  --depth;
  return flow;
}

/// What a block would output.
std::string Interpreter::capture(const Block &block) {
  std::string text;
  std::string *outer = std::exchange(output, &text);
  execute(block);
  output = outer;
  return text;
}

Interpreter::Flow Interpreter::execute(const Statement &statement) {
  using Kind = Statement::Kind;
  line = statement.line;
  charge(1);
  switch (statement.kind) {
  case Kind::Text:
    output->append(statement.text);
    break;
  case Kind::Output:
    output->append(toText(evaluate(*statement.value)));
    break;
  case Kind::Set:
    assign(*statement.target, evaluate(*statement.value));
    break;
  case Kind::SetBlock:
  case Kind::Filter: {
    Value captured = text(capture(statement.body));
    if (statement.value->kind == Expression::Kind::Filter)
      captured = evaluateFilter(*statement.value, &captured);
    if (statement.target)
      assign(*statement.target, captured);
    else
      output->append(toText(captured));
    break;
  }
  case Kind::If:
    return execute(isTrue(evaluate(*statement.value)) ? statement.body
                                                      : statement.orElse);
  case Kind::For:
    return executeFor(statement);
  case Kind::Macro:
    scope->set(statement.macro->name, statement.macro.get());
    break;
  case Kind::Break:
    return Flow::Break;
  case Kind::Continue:
    return Flow::Continue;
  }
  if (output->size() > maximumOutput)
    fail("the template's output is too long");
  return Flow::Next;
}

Interpreter::Flow Interpreter::executeFor(const Statement &statement) {
  Scope *outer = scope;
  Value iterated = evaluate(*statement.value);
  std::vector<Value> items = iterate(iterated);
  if (statement.condition)
    std::erase_if(items, [&](const Value &item) {
      Scope inner{outer};
      scope = &inner;
      charge(1);
      assign(*statement.target, item);
      bool wanted = !failed() && isTrue(evaluate(*statement.condition));
      scope = outer;
      return !wanted;
    });
  if (items.empty())
    return execute(statement.orElse);

  // `loop` may outlive this statement in a namespace, and so must its list.
  bool isWhole = is<const List *>(iterated) && !statement.condition;
  Value list = isWhole ? iterated : heap.list(std::move(items));
  charge(0);
  if (failed())
    return Flow::Next;
  const List &visited = *std::get<const List *>(list);
  Loop *loop = heap.loop(visited, ++loopDepth);
  for (; loop->index < visited.items.size() && !failed(); ++loop->index) {
    Scope inner{outer};
    scope = &inner;
    charge(1);
    inner.set("loop", static_cast<const Loop *>(loop));
    assign(*statement.target, visited.items[loop->index]);
    if (execute(statement.body) == Flow::Break)
      break;
  }
  scope = outer;
  --loopDepth;
  return Flow::Next;
}

void Interpreter::assign(const Expression &target, const Value &value) {
  if (target.kind == Expression::Kind::Name) {
    scope->set(target.name, value);
    return;
  }
  if (target.kind == Expression::Kind::Attribute) {
    Value object = evaluate(*target.operands[0]);
    auto *space = std::get_if<Namespace *>(&object);
    if (!space) {
      fail("only a namespace's attributes can be set");
      return;
    }
    auto &items = (*space)->items;
    auto known = std::find_if(items.begin(), items.end(), [&](auto &item) {
      return item.first == target.name;
    });
    if (known == items.end())
      items.emplace_back(target.name, value);
    else
      known->second = value;
    return;
  }
  std::vector<Value> items = iterate(value);
  if (items.size() != target.operands.size()) {
    fail("cannot unpack " + std::to_string(items.size()) + " values into " +
         std::to_string(target.operands.size()));
    return;
  }
  for (size_t i = 0; i < items.size(); ++i)
    assign(*target.operands[i], items[i]);
}

//===----------------------------------------------------------------------===//
// Expressions
//===----------------------------------------------------------------------===//

Value Interpreter::evaluate(const Expression &expression) {
  charge(1);
  if (failed())
    return Undefined();
  enter();
  line = expression.line;
  Value value = failed() ? Value() : evaluateOperator(expression);
  --depth;
  return value;
}

Value Interpreter::evaluateOperator(const Expression &expression) {
  using Kind = Expression::Kind;
  auto operand = [&](size_t i) { return evaluate(*expression.operands[i]); };
  switch (expression.kind) {
  case Kind::Constant:
    return expression.literal;
  case Kind::Name:
    return lookup(expression.name);
  case Kind::List:
  case Kind::Tuple: {
    std::vector<Value> items;
    for (size_t i = 0; i < expression.operands.size(); ++i)
      items.push_back(operand(i));
    return heap.list(std::move(items), expression.kind == Kind::Tuple);
  }
  case Kind::Dict: {
    std::vector<std::pair<Value, Value>> items;
    for (size_t i = 0; i < expression.operands.size(); i += 2) {
      Value key = operand(i), value = operand(i + 1);
      auto same = std::find_if(items.begin(), items.end(), [&](auto &item) {
        return isEqual(item.first, key);
      });
      if (same == items.end())
        items.emplace_back(key, value);
      else
        same->second = value;
    }
    return heap.dict(std::move(items));
  }
  case Kind::Attribute:
    return getMember(operand(0), expression.name);
  case Kind::Subscript: {
    Value object = operand(0);
    return getMember(object, operand(1));
  }
  case Kind::Slice:
    return evaluateSlice(expression);
  case Kind::Call:
    return evaluateCall(expression);
  case Kind::Filter:
    return evaluateFilter(expression, nullptr);
  case Kind::Test: {
    Value tested = operand(0);
    return applyTest(expression.name, evaluateArguments(expression, &tested));
  }
  case Kind::Not:
    return !isTrue(operand(0));
  case Kind::Negate:
    return negate(operand(0));
  case Kind::Plus: {
    Value value = operand(0);
    return toNumber(value)
               ? value
               : fail("cannot negate " + std::string(typeName(value)));
  }
  case Kind::And: {
    Value left = operand(0);
    return isTrue(left) ? operand(1) : left;
  }
  case Kind::Or: {
    Value left = operand(0);
    return isTrue(left) ? left : operand(1);
  }
  case Kind::Binary: {
    Value left = operand(0);
    return binary(expression.name, left, operand(1));
  }
  case Kind::Compare:
    return evaluateCompare(expression);
  case Kind::Conditional:
    if (isTrue(operand(1)))
      return operand(0);
    return expression.operands[2] ? operand(2) : Value();
  }
  return Undefined();
}

Value Interpreter::lookup(std::string_view name) {
  if (const Value *value = scope->find(name))
    return *value;
  if (const Function *function = findGlobal(name))
    return function;
  return undefined("'" + std::string(name) + "' is undefined");
}

/// A Python index into `size` items; nothing outside.
static std::optional<size_t> wrapIndex(int64_t index, size_t size) {
  int64_t wrapped = index < 0 ? index + static_cast<int64_t>(size) : index;
  if (wrapped < 0 || wrapped >= static_cast<int64_t>(size))
    return std::nullopt;
  return static_cast<size_t>(wrapped);
}

static std::optional<Value> loopMember(const Loop &loop,
                                       std::string_view name) {
  const std::vector<Value> &items = loop.list->items;
  auto index = static_cast<int64_t>(loop.index);
  auto length = static_cast<int64_t>(items.size());
  if (name == "index")
    return index + 1;
  if (name == "index0")
    return index;
  if (name == "revindex")
    return length - index;
  if (name == "revindex0")
    return length - index - 1;
  if (name == "first")
    return index == 0;
  if (name == "last")
    return index + 1 == length;
  if (name == "length")
    return length;
  if (name == "depth")
    return loop.depth;
  if (name == "depth0")
    return loop.depth - 1;
  if (name == "previtem")
    return index > 0 ? items[index - 1] : Value();
  if (name == "nextitem")
    return index + 1 < length ? items[index + 1] : Value();
  return std::nullopt;
}

Value Interpreter::getMember(const Value &object, const Value &index) {
  if (auto *nothing = std::get_if<Undefined>(&object))
    return fail(std::string(nothing->why));
  auto *name = std::get_if<std::string_view>(&index);
  if (auto *dict = std::get_if<const Dict *>(&object)) {
    charge((*dict)->items.size());
    if (const Value *value = (*dict)->find(index))
      return *value;
  } else if (auto *list = std::get_if<const List *>(&object)) {
    if (auto i = toInteger(index))
      if (auto wrapped = wrapIndex(*i, (*list)->items.size()))
        return (*list)->items[*wrapped];
  } else if (auto *string = std::get_if<std::string_view>(&object)) {
    if (auto i = toInteger(index)) {
      charge(string->size() / 16);
      auto all = characters(*string);
      if (auto wrapped = wrapIndex(*i, all.size()))
        return all[*wrapped];
    }
  } else if (auto *space = std::get_if<Namespace *>(&object)) {
    for (const auto &[known, value] : (*space)->items)
      if (name && known == *name)
        return value;
  } else if (auto *loop = std::get_if<const Loop *>(&object)) {
    if (auto value = name ? loopMember(**loop, *name) : std::nullopt)
      return *value;
  }
  return undefined("'" + std::string(typeName(object)) + "' has no member " +
                   toRepr(index));
}

Value Interpreter::evaluateSlice(const Expression &slice) {
  Value object = evaluate(*slice.operands[0]);
  auto *string = std::get_if<std::string_view>(&object);
  auto *list = std::get_if<const List *>(&object);
  if (!string && !list)
    return fail("cannot slice " + std::string(typeName(object)));
  std::vector<Value> items;
  if (list)
    items = (*list)->items;
  else
    for (std::string_view character : characters(*string))
      items.push_back(character);
  charge(items.size() / 4);

  std::optional<int64_t> bounds[3];
  for (int i = 0; i < 3; ++i)
    if (const ExpressionPtr &bound = slice.operands[i + 1]) {
      Value value = evaluate(*bound);
      bounds[i] = toInteger(value);
      if (!bounds[i] && !is<None>(value))
        return fail("a slice needs integers");
    }
  int64_t step = bounds[2].value_or(1);
  auto size = static_cast<int64_t>(items.size());
  if (step == 0)
    return fail("the step of a slice is zero");
  // As PySlice_AdjustIndices does.
  int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
  auto adjust = [&](std::optional<int64_t> bound, int64_t otherwise) {
    if (!bound)
      return otherwise;
    return std::clamp(*bound < 0 ? *bound + size : *bound, low, high);
  };
  int64_t begin = adjust(bounds[0], step > 0 ? low : high);
  int64_t end = adjust(bounds[1], step > 0 ? high : low);
  step = std::clamp(step, -size - 1, size + 1); // so that i cannot overflow
  std::vector<Value> out;
  for (int64_t i = begin; step > 0 ? i < end : i > end; i += step)
    out.push_back(items[i]);

  if (list)
    return heap.list(std::move(out), (*list)->isTuple);
  std::string joined;
  for (const Value &character : out)
    joined += std::get<std::string_view>(character);
  return text(std::move(joined));
}

Arguments Interpreter::evaluateArguments(const Expression &call,
                                         const Value *self) {
  Arguments arguments;
  if (self)
    arguments.positional.push_back(*self);
  for (size_t i = 1; i < call.operands.size(); ++i)
    arguments.positional.push_back(evaluate(*call.operands[i]));
  for (const auto &[name, value] : call.keywords)
    arguments.keywords.emplace_back(name, evaluate(*value));
  return arguments;
}

Value Interpreter::evaluateCall(const Expression &call) {
  const Expression &callee = *call.operands[0];
  if (callee.kind == Expression::Kind::Attribute) {
    Value self = evaluate(*callee.operands[0]);
    if (const Function *method = findMethod(self, callee.name)) {
      Arguments arguments = evaluateArguments(call, &self);
      return failed() ? Value() : method->call(*this, arguments);
    }
    if (is<std::string_view>(self) || is<const List *>(self))
      return fail("the method " + std::string(callee.name) + " of " +
                  std::string(typeName(self)) + " is not supported");
  }
  Value function = evaluate(callee);
  Arguments arguments = evaluateArguments(call, nullptr);
  line = call.line;
  if (failed())
    return Undefined();
  if (auto *builtin = std::get_if<const Function *>(&function))
    return (*builtin)->call(*this, arguments);
  if (auto *macro = std::get_if<const Macro *>(&function))
    return callMacro(**macro, arguments);
  if (auto *nothing = std::get_if<Undefined>(&function))
    return fail(std::string(nothing->why));
  return fail(std::string(typeName(function)) + " cannot be called");
}

Value Interpreter::callMacro(const Macro &macro, const Arguments &arguments) {
  if (arguments.size() > macro.parameters.size())
    return fail("the macro " + std::string(macro.name) +
                " takes no more than " +
                std::to_string(macro.parameters.size()) + " arguments");
  for (const auto &[name, value] : arguments.keywords)
    if (std::none_of(macro.parameters.begin(), macro.parameters.end(),
                     [&](const auto &p) { return p.name == name; }))
      return fail("the macro " + std::string(macro.name) +
                  " has no parameter " + std::string(name));

  Scope inner{&globals}; // a macro does not see its caller's variables
  Scope *outer = std::exchange(scope, &inner);
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const auto &[name, fallback] = macro.parameters[i];
    const Value *given = arguments.find(i, name);
    inner.set(name, given ? *given
                    : fallback
                        ? evaluate(*fallback)
                        : undefined("the parameter '" + std::string(name) +
                                    "' was not given"));
  }
  Value result = text(capture(macro.body));
  scope = outer;
  return result;
}

Value Interpreter::evaluateFilter(const Expression &filter,
                                  const Value *operand) {
  // Of a {% filter %} or {% set %} block: the innermost operand is its text.
  const Expression &inner = *filter.operands[0];
  Value value;
  if (!operand)
    value = evaluate(inner);
  else if (inner.kind == Expression::Kind::Filter)
    value = evaluateFilter(inner, operand);
  else
    value = *operand;
  Arguments arguments = evaluateArguments(filter, &value);
  line = filter.line;
  return failed() ? Value() : applyFilter(filter.name, arguments);
}

Value Interpreter::applyFilter(std::string_view name,
                               const Arguments &arguments) {
  if (const Function *filter = findFilter(name))
    return filter->call(*this, arguments);
  return fail("the filter '" + std::string(name) +
              "' is unknown or not supported");
}

Value Interpreter::applyTest(std::string_view name,
                             const Arguments &arguments) {
  if (failed())
    return Undefined();
  if (const Function *test = findTest(name))
    return test->call(*this, arguments);
  return fail("the test '" + std::string(name) +
              "' is unknown or not supported");
}

std::vector<Value> Interpreter::iterate(const Value &value) {
  std::vector<Value> items;
  if (auto *list = std::get_if<const List *>(&value)) {
    items = (*list)->items;
  } else if (auto *dict = std::get_if<const Dict *>(&value)) {
    for (const auto &[key, member] : (*dict)->items)
      items.push_back(key);
  } else if (auto *string = std::get_if<std::string_view>(&value)) {
    for (std::string_view character : characters(*string))
      items.push_back(character);
  } else if (!is<Undefined>(value)) {
    fail("cannot iterate over " + std::string(typeName(value)));
  }
  charge(items.size());
  return items;
}

//===----------------------------------------------------------------------===//
// Operators
//===----------------------------------------------------------------------===//

bool Interpreter::compare(std::string_view op, const Value &left,
                          const Value &right) {
  charge(std::min(extentOf(left).weight, extentOf(right).weight) / 16);
  if (op == "==" || op == "!=")
    return isEqual(left, right) == (op == "==");
  if (op == "in" || op == "not in") {
    bool found = false;
    if (auto *string = std::get_if<std::string_view>(&right)) {
      charge(string->size() / 16);
      auto *part = std::get_if<std::string_view>(&left);
      if (!part)
        fail("'in' a text needs a text, not " + std::string(typeName(left)));
      else
        found = string->find(*part) != string->npos;
    } else {
      charge(extentOf(right).weight / 16);
      for (const Value &item : iterate(right))
        found |= isEqual(item, left);
    }
    return found == (op == "in");
  }
  std::optional<bool> less =
      op == "<" || op == ">=" ? isLess(left, right) : isLess(right, left);
  if (!less)
    fail("cannot compare " + std::string(typeName(left)) + " with " +
         std::string(typeName(right)));
  bool negated = op == ">=" || op == "<=";
  return less.value_or(false) != negated;
}

Value Interpreter::evaluateCompare(const Expression &comparison) {
  Value left = evaluate(*comparison.operands[0]);
  for (size_t i = 0; i < comparison.operators.size(); ++i) {
    Value right = evaluate(*comparison.operands[i + 1]);
    if (failed() || !compare(comparison.operators[i], left, right))
      return false;
    left = right;
  }
  return true;
}

Value Interpreter::negate(const Value &operand) {
  if (auto integer = toInteger(operand); integer && *integer != INT64_MIN)
    return -*integer;
  if (auto *number = std::get_if<double>(&operand))
    return -*number;
  return fail("cannot negate " + std::string(typeName(operand)));
}

Value Interpreter::power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  bool overflow = false;
  for (; exponent > 0 && !overflow; exponent >>= 1) {
    if (exponent & 1)
      overflow |= __builtin_mul_overflow(result, base, &result);
    if (exponent > 1)
      overflow |= __builtin_mul_overflow(base, base, &base);
  }
  return overflow ? fail("an integer is out of range") : Value(result);
}

Value Interpreter::binary(std::string_view op, const Value &left,
                          const Value &right) {
  if (failed())
    return Undefined();
  if (op == "~")
    return text(toText(left) + toText(right));
  for (const Value *operand : {&left, &right})
    if (auto *nothing = std::get_if<Undefined>(operand))
      return fail(std::string(nothing->why));

  auto *string = std::get_if<std::string_view>(&left);
  auto *list = std::get_if<const List *>(&left);
  if (op == "+" && string && is<std::string_view>(right))
    return text(std::string(*string).append(std::get<std::string_view>(right)));
  if (op == "+" && list && is<const List *>(right)) {
    std::vector<Value> items = (*list)->items;
    const List &tail = *std::get<const List *>(right);
    items.insert(items.end(), tail.items.begin(), tail.items.end());
    return heap.list(std::move(items), (*list)->isTuple);
  }
  std::optional<int64_t> i = toInteger(left), j = toInteger(right);
  if (op == "*" && string && j) {
    std::string repeated;
    for (int64_t k = 0; k < *j && !failed(); ++k) {
      repeated += *string;
      charge(1 + string->size() / 4);
    }
    return text(std::move(repeated));
  }

  std::optional<double> x = toNumber(left), y = toNumber(right);
  if (!x || !y)
    return fail("'" + std::string(op) + "' does not take " +
                std::string(typeName(left)) + " and " +
                std::string(typeName(right)));
  if ((op == "/" || op == "//" || op == "%") && *y == 0)
    return fail("division by zero");
  if (op == "/")
    return *x / *y;
  if (i && j) {
    int64_t result = 0;
    bool overflow = false;
    if (op == "+")
      overflow = __builtin_add_overflow(*i, *j, &result);
    else if (op == "-")
      overflow = __builtin_sub_overflow(*i, *j, &result);
    else if (op == "*")
      overflow = __builtin_mul_overflow(*i, *j, &result);
    else if (op == "**")
      return *j < 0 ? Value(std::pow(*x, *y)) : power(*i, *j);
    else if (*j == -1) // INT64_MIN / -1 traps
      return op == "%" ? Value(int64_t(0)) : negate(left);
    else { // floor, where C++ truncates
      result = op == "//" ? *i / *j : *i % *j;
      if (*i % *j != 0 && (*i < 0) != (*j < 0))
        result += op == "//" ? -1 : *j;
    }
    return overflow ? fail("an integer is out of range") : Value(result);
  }
  if (op == "+")
    return *x + *y;
  if (op == "-")
    return *x - *y;
  if (op == "*")
    return *x * *y;
  if (op == "**")
    return std::pow(*x, *y);
  double quotient = std::floor(*x / *y);
  return op == "//" ? quotient : *x - quotient * *y;
}
