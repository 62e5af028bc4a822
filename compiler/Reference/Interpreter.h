// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Executes modules on tensors literally: the oracle of every rewrite, kernel
// and artifact.

#ifndef TERCET_COMPILER_REFERENCE_INTERPRETER_H
#define TERCET_COMPILER_REFERENCE_INTERPRETER_H

#include "compiler/Reference/ReferenceOps.h"
#include "compiler/Support/ParameterReader.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/DenseMap.h"

#include <functional>
#include <memory>
#include <variant>

namespace tercet::reference {

/// The run-time value of an SSA value. Arrays are immutable and shared, scalars
/// are arrays of rank 0; bf16 and f16 are widened to f32, i2 to i8. A cache is
/// an object with identity.
class Value {
public:
  Value() = default;
  template <typename T>
  Value(Array<T> array)
      : storage(std::make_shared<const Array<T>>(std::move(array))) {}
  Value(std::shared_ptr<KVCache> cache) : storage(std::move(cache)) {}
  static Value index(int64_t value) { return Indices({}, {value}); }

  template <typename T> bool is() const {
    return std::holds_alternative<std::shared_ptr<T>>(storage);
  }
  const Floats &floats() const { return get<const Floats>(); }
  const Ints &ints() const { return get<const Ints>(); }
  const Shorts &shorts() const { return get<const Shorts>(); }
  const Bytes &bytes() const { return get<const Bytes>(); }
  int64_t index() const { return get<const Indices>().data[0]; }
  KVCache &cache() const { return get<KVCache>(); }

  /// Calls `function` with the array (or cache).
  template <typename Function> auto visit(Function &&function) const {
    return std::visit([&](auto &pointer) { return function(*pointer); },
                      storage);
  }

private:
  template <typename T> T &get() const {
    assert(is<T>() && "value of another type");
    return *std::get<std::shared_ptr<T>>(storage);
  }

  std::variant<std::shared_ptr<const Floats>, std::shared_ptr<const Ints>,
               std::shared_ptr<const Shorts>, std::shared_ptr<const Bytes>,
               std::shared_ptr<const Indices>, std::shared_ptr<KVCache>>
      storage;
};

/// Whether two values have equal shapes and bits; caches are not compared.
bool bitEqual(const Value &a, const Value &b);

class Interpreter {
public:
  using Values = llvm::SmallVector<Value, 4>;
  using Observer =
      std::function<void(mlir::Operation *, llvm::ArrayRef<Value> operands,
                         llvm::ArrayRef<Value> results)>;

  Interpreter(mlir::ModuleOp module, ParameterReader &reader)
      : module(module), reader(reader) {}

  /// Called after every op.
  void setObserver(Observer newObserver) { observer = std::move(newObserver); }

  /// The weights section that ternary.packed_parameter reads.
  void setWeights(llvm::ArrayRef<uint8_t> bytes) { weights = bytes; }

  llvm::Expected<Values> run(llvm::StringRef function,
                             llvm::ArrayRef<Value> arguments);

  /// Executes one op other than a terminator.
  llvm::Expected<Values> execute(mlir::Operation *op,
                                 llvm::ArrayRef<Value> operands);

  /// The value of a parameter, decoded once.
  llvm::Expected<Value> getParameter(ternary::ParameterOp parameter);

private:
  llvm::Expected<Values> runBlock(mlir::Block &block,
                                  llvm::ArrayRef<Value> arguments);
  llvm::Expected<Value> readPackedParameter(mlir::ShapedType type,
                                            int64_t offset);

  mlir::ModuleOp module;
  ParameterReader &reader;
  Observer observer;
  llvm::ArrayRef<uint8_t> weights;
  llvm::DenseMap<mlir::Operation *, Value> parameters;
  llvm::DenseMap<mlir::Value, Value> environment;
};

/// A language model with its cache: @step of an imported module.
class ReferenceModel {
public:
  ReferenceModel(mlir::ModuleOp module, ParameterReader &reader);

  /// Logits [tokens, vocabulary] of the tokens that come next in `slot`.
  llvm::Expected<Floats> step(llvm::ArrayRef<int32_t> tokens, int32_t slot = 0);

  /// The same for any batch: one row for each entry of `logitRows`.
  llvm::Expected<Floats> step(llvm::ArrayRef<int32_t> tokens,
                              llvm::ArrayRef<int32_t> positions,
                              llvm::ArrayRef<int32_t> slots,
                              llvm::ArrayRef<int32_t> logitRows);

  Interpreter &getInterpreter() { return interpreter; }

private:
  llvm::Expected<Floats> computeHead(const Value &hidden);

  mlir::ModuleOp module;
  Interpreter interpreter;
  std::shared_ptr<KVCache> cache;
  std::map<int32_t, int32_t> nextPosition;
};

} // namespace tercet::reference

#endif // TERCET_COMPILER_REFERENCE_INTERPRETER_H
