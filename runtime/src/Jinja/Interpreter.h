// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Evaluates the syntax tree. A template comes with a checkpoint and is not
// trusted: work, memory, output and recursion are all bounded.

#ifndef TERCET_RUNTIME_JINJA_INTERPRETER_H
#define TERCET_RUNTIME_JINJA_INTERPRETER_H

#include "runtime/src/Jinja/Syntax.h"

#include <ctime>

namespace tercet::jinja {

class Interpreter;

/// The operands of a filter, test, function or method.
struct Arguments {
  std::vector<Value> positional; // a filter's first is what it is applied to
  std::vector<std::pair<std::string_view, Value>> keywords;

  size_t size() const { return positional.size(); }
  const Value &operator[](size_t i) const { return positional[i]; }

  /// By position or keyword; null if not given.
  const Value *find(size_t position, std::string_view keyword) const;
};

/// A built-in. It reports errors through Interpreter::fail.
struct Function {
  std::string_view name;
  Value (*call)(Interpreter &, const Arguments &);
};

/// Null if there is none of this name.
const Function *findFilter(std::string_view name);
const Function *findTest(std::string_view name);
const Function *findGlobal(std::string_view name);
/// A method of the type of `self`, which becomes its first argument.
const Function *findMethod(const Value &self, std::string_view name);

class Interpreter {
public:
  Interpreter(Heap &heap, std::time_t now) : heap(heap), now(now) {}

  void define(std::string_view name, Value value) { globals.set(name, value); }
  Error run(const Syntax &syntax, std::string &output);

  // For built-ins.
  /// Records the first error, at the line that is being evaluated; returns an
  /// undefined value for the caller to return.
  Value fail(const std::string &what);
  bool failed() const { return bool(error); }
  /// Accounts for work that a built-in does beyond its own call.
  void charge(uint64_t amount);
  Value text(std::string text) { return heap.text(std::move(text)); }
  Value applyFilter(std::string_view name, const Arguments &arguments);
  Value applyTest(std::string_view name, const Arguments &arguments);
  /// object.name or object[index], whichever exists.
  Value getMember(const Value &object, const Value &index);
  /// What a loop over the value visits.
  std::vector<Value> iterate(const Value &value);
  Value binary(std::string_view op, const Value &left, const Value &right);

  Heap &heap;
  const std::time_t now;

private:
  enum class Flow { Next, Break, Continue };

  /// Counts a level of recursion, which the caller leaves by --depth.
  void enter();

  Flow execute(const Block &block);
  Flow execute(const Statement &statement);
  Flow executeFor(const Statement &statement);
  std::string capture(const Block &block);
  void assign(const Expression &target, const Value &value);

  Value evaluate(const Expression &expression);
  Value evaluateOperator(const Expression &expression);
  Value lookup(std::string_view name);
  Value evaluateCall(const Expression &call);
  Value evaluateFilter(const Expression &filter, const Value *operand);
  Value evaluateSlice(const Expression &slice);
  Value evaluateCompare(const Expression &comparison);
  bool compare(std::string_view op, const Value &left, const Value &right);
  Value negate(const Value &operand);
  Value power(int64_t base, int64_t exponent);
  Arguments evaluateArguments(const Expression &call, const Value *self);
  Value callMacro(const Macro &macro, const Arguments &arguments);
  Value undefined(const std::string &why);

  struct Scope {
    const Scope *parent;
    std::vector<std::pair<std::string_view, Value>> variables = {};
    const Value *find(std::string_view name) const;
    void set(std::string_view name, const Value &value);
  };
  Scope globals = {nullptr};
  Scope *scope = &globals;

  std::string *output = nullptr;
  Error error = Error::success();
  uint64_t work = 0;
  int depth = 0;
  int line = 1;
  int64_t loopDepth = 0;
};

} // namespace tercet::jinja

#endif // TERCET_RUNTIME_JINJA_INTERPRETER_H
