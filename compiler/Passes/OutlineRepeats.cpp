// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_OUTLINEREPEATS
#include "compiler/Passes/Passes.h.inc"

namespace {

/// An op with effects, and the index constants that its address computations
/// end in, in the order of a depth-first walk. Two ops with equal `shape` do
/// the same to different places.
struct Effect {
  Operation *op;
  std::string shape;
  SmallVector<int64_t> constants;
};

std::optional<int64_t> getIndexConstant(Value value) {
  auto constant = value.getDefiningOp<arith::ConstantIndexOp>();
  return constant ? std::optional(constant.value()) : std::nullopt;
}

/// Bodies are equal when their ops are, with values numbered from the start of
/// the body. A value from outside has no number: it equals only itself.
void describeBody(Operation *op, llvm::raw_ostream &os) {
  llvm::DenseMap<Value, unsigned> numbers;
  auto define = [&](ValueRange values) {
    for (Value value : values) {
      numbers.try_emplace(value, numbers.size());
      os << value.getType() << ' ';
    }
  };
  for (Region &region : op->getRegions())
    region.walk<WalkOrder::PreOrder>([&](Block *block) {
      os << '^';
      define(block->getArguments());
      for (Operation &nested : *block) {
        os << nested.getName() << nested.getAttrDictionary() << '(';
        for (Value operand : nested.getOperands())
          if (auto number = numbers.find(operand); number != numbers.end())
            os << number->second << ' ';
          else
            os << operand.getAsOpaquePointer() << ' ';
        os << ')';
        define(nested.getResults());
      }
    });
}

/// Describes `op` and, recursively, the pure ops that compute its operands.
void describe(Operation *op, Effect &effect) {
  llvm::raw_string_ostream os(effect.shape);
  os << op->getName() << op->getAttrDictionary();
  if (op->getNumRegions() != 0)
    describeBody(op, os);
  os << '(';
  for (Value operand : op->getOperands()) {
    os << operand.getType() << ' ';
    if (std::optional<int64_t> constant = getIndexConstant(operand)) {
      os << '#';
      effect.constants.push_back(*constant);
    } else if (auto argument = dyn_cast<BlockArgument>(operand)) {
      os << '%' << argument.getArgNumber();
    } else {
      os << cast<OpResult>(operand).getResultNumber() << ' ';
      describe(operand.getDefiningOp(), effect);
    }
    os << ',';
  }
  os << ')';
}

/// `count` repetitions of `period` ops from number `begin` on.
struct Run {
  size_t begin = 0, period = 0, count = 0;
  size_t size() const { return period * count; }
};

/// The run that covers most ops; of several, the one with the shortest period.
Run findLongestRun(ArrayRef<Effect> effects) {
  llvm::StringMap<unsigned> numbers;
  std::vector<unsigned> ids;
  for (const Effect &effect : effects)
    ids.push_back(
        numbers.try_emplace(effect.shape, numbers.size()).first->second);
  Run best;
  for (size_t period = 1; period <= ids.size() / 2; ++period) {
    // Stretches where ids[i] == ids[i + period] are repetitions.
    size_t matched = 0;
    for (size_t i = 0; i + period <= ids.size(); ++i) {
      bool equal = i + period < ids.size() && ids[i] == ids[i + period];
      if (equal) {
        ++matched;
        continue;
      }
      Run run = {i - matched, period, matched / period + 1};
      if (run.count > 1 && run.size() > best.size())
        best = run;
      matched = 0;
    }
  }
  return best;
}

/// Moves the ops of a run's first repetition into a function; the run becomes
/// one call a repetition.
class Outliner {
public:
  Outliner(func::FuncOp step, ArrayRef<Effect> effects, Run run)
      : step(step), effects(effects), run(run) {}

  void outline(StringRef name) {
    collectConstants();
    OpBuilder b(step);
    SmallVector<Type> types(step.getArgumentTypes());
    types.append(arguments.size(), b.getIndexType());
    auto function = func::FuncOp::create(b, step.getLoc(), name,
                                         b.getFunctionType(types, {}));
    function.setPrivate();
    fillBody(function);
    replaceWithCalls(function);
  }

private:
  /// Values of one constant over all repetitions.
  using Values = SmallVector<int64_t>;

  void collectConstants() {
    for (size_t i = 0; i < run.period; ++i)
      for (size_t c = 0; c < effects[run.begin + i].constants.size(); ++c) {
        Values values;
        for (size_t r = 0; r < run.count; ++r)
          values.push_back(
              effects[run.begin + r * run.period + i].constants[c]);
        if (!llvm::all_equal(values))
          arguments.try_emplace(values, arguments.size());
        constants.push_back(std::move(values));
      }
  }

  void fillBody(func::FuncOp function) {
    Block *entry = function.addEntryBlock();
    OpBuilder b = OpBuilder::atBlockBegin(entry);
    size_t next = 0;
    for (size_t i = 0; i < run.period; ++i)
      cloneWithOperands(effects[run.begin + i].op, b, entry, next);
    func::ReturnOp::create(b, function.getLoc());
  }

  /// Walks as `describe` does, so that `next` counts the same constants.
  Operation *cloneWithOperands(Operation *op, OpBuilder &b, Block *entry,
                               size_t &next) {
    SmallVector<Value> operands;
    for (Value operand : op->getOperands()) {
      if (getIndexConstant(operand)) {
        const Values &values = constants[next++];
        auto argument = arguments.find(values);
        operands.push_back(
            argument == arguments.end()
                ? arith::ConstantIndexOp::create(b, op->getLoc(), values[0])
                : Value(entry->getArgument(step.getNumArguments() +
                                           argument->second)));
      } else if (auto argument = dyn_cast<BlockArgument>(operand)) {
        operands.push_back(entry->getArgument(argument.getArgNumber()));
      } else {
        Operation *def = operand.getDefiningOp();
        Operation *copy = cloneWithOperands(def, b, entry, next);
        operands.push_back(
            copy->getResult(cast<OpResult>(operand).getResultNumber()));
      }
    }
    Operation *copy = b.clone(*op);
    copy->setOperands(operands);
    return copy;
  }

  void replaceWithCalls(func::FuncOp function) {
    for (size_t r = 0; r < run.count; ++r) {
      size_t first = run.begin + r * run.period;
      OpBuilder b(effects[first].op);
      SmallVector<Value> operands(step.getArguments());
      for (auto &[values, index] : arguments)
        operands.push_back(
            arith::ConstantIndexOp::create(b, function.getLoc(), values[r]));
      func::CallOp::create(b, function.getLoc(), function, operands);
      for (size_t i = 0; i < run.period; ++i)
        effects[first + i].op->erase();
    }
  }

  func::FuncOp step;
  ArrayRef<Effect> effects;
  Run run;
  /// Of the first repetition, in walk order.
  SmallVector<Values> constants;
  /// The constants that differ, each distinct sequence once.
  llvm::MapVector<Values, size_t, std::map<Values, unsigned>> arguments;
};

struct OutlineRepeats : impl::OutlineRepeatsBase<OutlineRepeats> {
  void runOnOperation() override {
    auto step = getOperation().lookupSymbol<func::FuncOp>("step");
    if (!step || !step.getBody().hasOneBlock())
      return;
    // More than one run when blocks of several kinds repeat.
    for (unsigned number = 0;; ++number) {
      SmallVector<Effect> effects;
      for (Operation &op : step.getBody().front().without_terminator())
        if (!isPure(&op)) {
          effects.push_back({&op, "", {}});
          // A call is a run that is outlined already: it matches nothing.
          if (isa<func::CallOp>(op))
            effects.back().shape = "call" + std::to_string(effects.size());
          else
            describe(&op, effects.back());
        }
      Run run = findLongestRun(effects);
      if (run.count < 2 || run.period < 2)
        break;
      Outliner(step, effects, run).outline("layer_" + std::to_string(number));
    }
    // Address computations whose ops have moved.
    for (Operation &op :
         llvm::make_early_inc_range(llvm::reverse(step.getBody().front())))
      if (isOpTriviallyDead(&op))
        op.erase();
  }
};

} // namespace
} // namespace tercet
