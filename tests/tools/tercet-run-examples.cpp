// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs examples through the interpreter. Standard input holds modules between
// `// -----` lines. A function whose arguments are KV caches (new ones are
// passed) is run; each of its results is compared with the module's next line
// `// result: [[1, 2], [3, 4]]`. Every op of the dialect must have been run.

#include "compiler/Pipeline/Pipeline.h"
#include "compiler/Reference/Interpreter.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/WithColor.h"

#include <numeric>

using namespace llvm;
using namespace tercet;
using namespace tercet::reference;

/// What no interpreter of tensors executes.
static constexpr StringRef kNotRun[] = {
    "ternary.parameter", "ternary.parallel_for", "ternary.worker_scratch"};

template <typename T> static void printElement(raw_ostream &os, T value) {
  if constexpr (std::is_same_v<T, float>)
    os << format("%.9g", value);
  else
    os << int64_t(value);
}

template <typename T>
static void printArray(raw_ostream &os, ArrayRef<int64_t> shape,
                       ArrayRef<T> data) {
  if (shape.empty())
    return printElement(os, data.front());
  size_t size = data.size() / std::max<int64_t>(1, shape[0]);
  os << '[';
  for (int64_t i = 0; i < shape[0]; ++i) {
    os << (i ? ", " : "");
    printArray(os, shape.drop_front(), data.slice(i * size, size));
  }
  os << ']';
}

static std::string print(const Value &value) {
  std::string text;
  raw_string_ostream os(text);
  value.visit([&](auto &array) {
    if constexpr (requires { array.data; })
      printArray(os, array.shape, ArrayRef(array.data));
  });
  return text;
}

/// The text after each `// result: `.
static std::vector<std::string> getExpected(StringRef source) {
  std::vector<std::string> expected;
  SmallVector<StringRef> lines;
  source.split(lines, '\n');
  for (StringRef line : lines)
    if (line = line.trim(); line.consume_front("// result: "))
      expected.push_back(line.str());
  return expected;
}

namespace {
class ExampleRunner {
public:
  ExampleRunner() {
    std::iota(weights.begin(), weights.end(), 0);
    mlir::DialectRegistry registry;
    registerPipelineDialects(registry);
    context.appendDialectRegistry(registry);
    context.loadAllAvailableDialects();
  }

  Error run(StringRef source);
  Error checkComplete();

private:
  Error runFunction(Interpreter &interpreter, mlir::func::FuncOp function,
                    std::vector<std::string> &actual);

  mlir::MLIRContext context;
  ParameterReader reader;
  std::vector<uint8_t> weights = std::vector<uint8_t>(256);
  StringSet<> seen;
};
} // namespace

Error ExampleRunner::run(StringRef source) {
  auto module = mlir::parseSourceString<mlir::ModuleOp>(source, &context);
  if (!module)
    return createStringError("invalid example:\n" + source);
  module->walk([&](mlir::Operation *op) {
    if (is_contained(kNotRun, op->getName().getStringRef()))
      seen.insert(op->getName().getStringRef());
  });
  Interpreter interpreter(*module, reader);
  interpreter.setWeights(weights);
  interpreter.setObserver([&](mlir::Operation *op, auto, auto) {
    seen.insert(op->getName().getStringRef());
  });
  std::vector<std::string> actual;
  for (auto function : module->getOps<mlir::func::FuncOp>())
    if (Error error = runFunction(interpreter, function, actual))
      return error;
  if (actual == getExpected(source))
    return Error::success();
  std::string message = ("unexpected result of\n" + source).str();
  for (const std::string &result : actual)
    message += "// result: " + result + "\n";
  return createStringError(message);
}

Error ExampleRunner::runFunction(Interpreter &interpreter,
                                 mlir::func::FuncOp function,
                                 std::vector<std::string> &actual) {
  if (function.isExternal() ||
      !all_of(function.getArgumentTypes(), IsaPred<ternary::KVCacheType>))
    return Error::success();
  std::vector<Value> arguments;
  for (mlir::Type type : function.getArgumentTypes())
    arguments.push_back(
        std::make_shared<KVCache>(cast<ternary::KVCacheType>(type)));
  auto results = interpreter.run(function.getSymName(), arguments);
  if (!results)
    return results.takeError();
  for (const Value &result : *results)
    actual.push_back(print(result));
  return Error::success();
}

Error ExampleRunner::checkComplete() {
  for (mlir::RegisteredOperationName name :
       context.getRegisteredOperationsByDialect("ternary"))
    if (!seen.contains(name.getStringRef()))
      return createStringError("no example runs " + name.getStringRef());
  return Error::success();
}

static Error runAll() {
  auto input = MemoryBuffer::getSTDIN();
  if (!input)
    return errorCodeToError(input.getError());
  SmallVector<StringRef> sources;
  (*input)->getBuffer().split(sources, "// -----\n");
  ExampleRunner runner;
  Error errors = Error::success();
  for (StringRef source : sources)
    errors = joinErrors(std::move(errors), runner.run(source));
  return joinErrors(std::move(errors), runner.checkComplete());
}

int main() {
  if (Error error = runAll()) {
    WithColor::error() << toString(std::move(error)) << "\n";
    return 1;
  }
}
