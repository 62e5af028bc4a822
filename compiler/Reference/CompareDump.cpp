// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Reference/CompareDump.h"
#include "compiler/Reference/Interpreter.h"
#include "compiler/Reference/Npy.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"

#include <cmath>
#include <numeric>

using namespace llvm;
using namespace tercet;
using namespace tercet::reference;
using namespace tercet::ternary;

//===----------------------------------------------------------------------===//
// The manifest
//===----------------------------------------------------------------------===//

namespace {
struct DumpedOp {
  std::string op, name;
  std::vector<std::string> inputs;
  std::string output, q;
};
struct Manifest {
  std::string format;
  std::vector<int32_t> tokens;
  std::vector<DumpedOp> ops;
};

bool fromJSON(const json::Value &value, DumpedOp &op, json::Path path) {
  json::ObjectMapper mapper(value, path);
  return mapper && mapper.map("op", op.op) && mapper.map("name", op.name) &&
         mapper.map("inputs", op.inputs) && mapper.map("output", op.output) &&
         mapper.mapOptional("q", op.q);
}

bool fromJSON(const json::Value &value, Manifest &manifest, json::Path path) {
  json::ObjectMapper mapper(value, path);
  return mapper && mapper.map("format", manifest.format) &&
         mapper.map("tokens", manifest.tokens) &&
         mapper.map("ops", manifest.ops);
}

} // namespace

static Expected<Manifest> readManifest(const Twine &path) {
  auto buffer = MemoryBuffer::getFile(path);
  if (!buffer)
    return createFileError(path, buffer.getError());
  auto manifest = json::parse<Manifest>((*buffer)->getBuffer());
  if (!manifest)
    return createFileError(path, manifest.takeError());
  if (manifest->format != "tercet-dump-1")
    return createStringError(path + ": format is not tercet-dump-1");
  return manifest;
}

//===----------------------------------------------------------------------===//
// Comparisons
//===----------------------------------------------------------------------===//

/// Largest difference in a row relative to the row's largest magnitude, over
/// all rows.
static double relativeError(const Floats &ours, const Floats &reference) {
  double worst = 0;
  for (int64_t n = 0; n < reference.shape[0]; ++n) {
    double difference = 0, magnitude = 0;
    for (auto [a, b] : zip_equal(ours.row(n), reference.row(n))) {
      difference = std::max(difference, std::fabs(double(a) - b));
      magnitude = std::max(magnitude, std::fabs(double(b)));
    }
    if (difference > 0)
      worst = std::max(worst, difference / magnitude);
  }
  return worst;
}

static void compareActivations(const Floats &x, const Quantised &ours,
                               const Bytes &reference, OpComparison &result) {
  for (int64_t n = 0; n < x.shape[0]; ++n)
    for (int64_t i = 0; i < x.shape[1]; ++i) {
      int difference = std::abs(ours.q.row(n)[i] - reference.row(n)[i]);
      if (difference == 0)
        continue;
      double exact = double(x.row(n)[i]) * ours.scale.data[n];
      double distance = std::fabs(exact - std::floor(exact) - 0.5);
      bool isTie = difference == 1 && distance < kTieTolerance;
      ++(isTie ? result.numTies : result.numWrongActivations);
    }
}

//===----------------------------------------------------------------------===//
// Ops on dumped inputs
//===----------------------------------------------------------------------===//

namespace {

/// Evaluates single ops of @step, whose tokens are one sequence from position
/// 0, on inputs that take the place of what the module would compute for them.
class DumpComparer {
public:
  DumpComparer(mlir::func::FuncOp step, ParameterReader &reader,
               StringRef directory, ArrayRef<int32_t> tokens);

  Error compare(const DumpedOp &dumped, OpComparison &result);

private:
  using Environment = DenseMap<mlir::Value, Value>;

  /// The n-th ternary op of this kind and name, or null.
  mlir::Operation *find(StringRef mnemonic, StringRef name, size_t n = 0) const;
  /// The op, and the values that the manifest's inputs replace.
  mlir::Operation *find(const DumpedOp &dumped,
                        SmallVectorImpl<mlir::Value> &inputs) const;

  template <typename T> Expected<Array<T>> read(StringRef file) const {
    return readNpy<T>(directory + "/" + file);
  }
  Error bindInputs(const DumpedOp &dumped, ArrayRef<mlir::Value> values,
                   Environment &environment) const;
  Expected<Value> evaluate(mlir::Value value, Environment &environment);
  Expected<Value> evaluateBitLinear(BitLinearOp op, StringRef qFile,
                                    Environment &environment,
                                    OpComparison &result);

  Interpreter interpreter;
  std::string directory;
  StringMap<SmallVector<mlir::Operation *>> opsByName;
  Environment arguments;
  int64_t numTokens;
};

} // namespace

DumpComparer::DumpComparer(mlir::func::FuncOp step, ParameterReader &reader,
                           StringRef directory, ArrayRef<int32_t> tokens)
    : interpreter(step->getParentOfType<mlir::ModuleOp>(), reader),
      directory(directory), numTokens(tokens.size()) {
  step.walk([&](mlir::Operation *op) {
    if (auto location = dyn_cast<mlir::NameLoc>(op->getLoc()))
      opsByName[location.getName()].push_back(op);
  });
  Ints iota(numTokens), zeros(numTokens);
  std::iota(iota.data.begin(), iota.data.end(), 0);
  Value ids[] = {Ints(numTokens, tokens.vec()), iota, zeros, iota};
  for (auto [argument, value] : zip(step.getArguments(), ids))
    arguments[argument] = value;
}

mlir::Operation *DumpComparer::find(StringRef mnemonic, StringRef name,
                                    size_t n) const {
  for (mlir::Operation *op : opsByName.lookup(name))
    if (isa<TernaryDialect>(op->getDialect()) &&
        op->getName().stripDialect() == mnemonic && n-- == 0)
      return op;
  return nullptr;
}

mlir::Operation *
DumpComparer::find(const DumpedOp &dumped,
                   SmallVectorImpl<mlir::Value> &inputs) const {
  mlir::Operation *op = find(dumped.op, dumped.name);
  if (!op)
    return nullptr;
  if (isa<BitLinearOp, LinearOp, RMSNormOp>(op)) {
    inputs.assign({op->getOperand(0)});
  } else if (isa<GatedActivationOp>(op)) {
    inputs.assign({op->getOperand(0), op->getOperand(1)});
  } else if (isa<AttentionOp>(op)) {
    // q and k before their rotation, and v.
    auto q = dyn_cast_or_null<RopeOp>(find("rope", dumped.name, 0));
    auto k = dyn_cast_or_null<RopeOp>(find("rope", dumped.name, 1));
    auto update = dyn_cast_or_null<KVUpdateOp>(find("kv_update", dumped.name));
    if (!q || !k || !update)
      return nullptr;
    inputs.assign({q.getX(), k.getX(), update.getValues()});
  }
  return op;
}

Error DumpComparer::bindInputs(const DumpedOp &dumped,
                               ArrayRef<mlir::Value> values,
                               Environment &environment) const {
  if (dumped.inputs.size() != values.size())
    return createStringError("has " + Twine(dumped.inputs.size()) +
                             " inputs, not " + Twine(values.size()));
  for (auto [file, value] : zip_equal(dumped.inputs, values)) {
    Expected<Floats> input = read<float>(file);
    if (!input)
      return input.takeError();
    int64_t width = cast<mlir::ShapedType>(value.getType()).getDimSize(1);
    if (input->shape != SmallVector<int64_t, 2>{numTokens, width})
      return createStringError(file + " is not of shape " + Twine(numTokens) +
                               " x " + Twine(width));
    environment[value] = std::move(*input);
  }
  return Error::success();
}

Expected<Value> DumpComparer::evaluate(mlir::Value value,
                                       Environment &environment) {
  if (auto known = environment.find(value); known != environment.end())
    return known->second;
  mlir::Operation *op = value.getDefiningOp();
  assert(op && "all arguments are bound");
  Interpreter::Values operands;
  for (mlir::Value operand : op->getOperands()) {
    Expected<Value> result = evaluate(operand, environment);
    if (!result)
      return result.takeError();
    operands.push_back(*result);
  }
  Expected<Interpreter::Values> results = interpreter.execute(op, operands);
  if (!results)
    return results.takeError();
  for (auto [result, computed] : zip_equal(op->getResults(), *results))
    environment[result] = computed;
  return environment[value];
}

/// Goes on with the reference's quantised activations after comparing them.
Expected<Value> DumpComparer::evaluateBitLinear(BitLinearOp op, StringRef qFile,
                                                Environment &environment,
                                                OpComparison &result) {
  if (op.getWeights().size() != 1)
    return createStringError("is fused with another");
  Expected<Value> weight = evaluate(op.getWeights()[0], environment);
  if (!weight)
    return weight.takeError();
  Expected<Value> scale = evaluate(op.getScales()[0], environment);
  if (!scale)
    return scale.takeError();
  Expected<Bytes> q = read<int8_t>(qFile);
  if (!q)
    return q.takeError();

  const Floats &x = environment[op.getX()].floats();
  if (q->shape != x.shape)
    return createStringError(qFile + " and the input differ in shape");
  Quantised ours = quantizeActivations(x, x.shape[1]);
  compareActivations(x, ours, *q, result);
  const Floats &scales = scale->floats();
  int64_t numTokens = x.shape[0], numRows = weight->bytes().shape[0];
  Floats y({numTokens, numRows});
  if (std::optional<int64_t> group = op.getGroup()) {
    Ints acc({numTokens, scales.shape[1], numRows});
    matmul(*q, weight->bytes(), 0, acc, group);
    rescaleGroups(acc, ours.scale, scales, 0, y);
    return y;
  }
  Ints acc({numTokens, numRows});
  matmul(*q, weight->bytes(), 0, acc);
  rescale(acc, ours.scale, scales.data[0], 0, numRows, y);
  return y;
}

Error DumpComparer::compare(const DumpedOp &dumped, OpComparison &result) {
  SmallVector<mlir::Value> inputs;
  mlir::Operation *op = find(dumped, inputs);
  if (!op)
    return createStringError("the model has no such op");
  Environment environment = arguments;
  if (Error error = bindInputs(dumped, inputs, environment))
    return error;

  Expected<Value> y = Value();
  if (auto linear = dyn_cast<BitLinearOp>(op); linear && !dumped.q.empty()) {
    y = evaluateBitLinear(linear, dumped.q, environment, result);
  } else {
    if (auto attention = dyn_cast<AttentionOp>(op)) {
      mlir::Operation *update = find("kv_update", dumped.name);
      environment[attention.getCache()] =
          std::make_shared<KVCache>(attention.getCache().getType());
      Interpreter::Values operands;
      for (mlir::Value operand : update->getOperands()) {
        Expected<Value> value = evaluate(operand, environment);
        if (!value)
          return value.takeError();
        operands.push_back(*value);
      }
      if (auto done = interpreter.execute(update, operands); !done)
        return done.takeError();
    }
    y = evaluate(op->getResult(0), environment);
  }
  if (!y)
    return y.takeError();
  Expected<Floats> expected = read<float>(dumped.output);
  if (!expected)
    return expected.takeError();
  if (expected->shape != y->floats().shape)
    return createStringError(dumped.output + " has another shape than ours");
  result.error = relativeError(y->floats(), *expected);
  return Error::success();
}

Expected<std::vector<OpComparison>>
reference::compareDump(mlir::ModuleOp module, ParameterReader &reader,
                       StringRef directory) {
  Expected<Manifest> manifest = readManifest(directory + "/manifest.json");
  if (!manifest)
    return manifest.takeError();
  auto step = module.lookupSymbol<mlir::func::FuncOp>("step");
  if (!step)
    return createStringError("the module has no @step");
  DumpComparer comparer(step, reader, directory, manifest->tokens);
  std::vector<OpComparison> results;
  for (const DumpedOp &dumped : manifest->ops) {
    OpComparison &result = results.emplace_back();
    result.op = dumped.op;
    result.name = dumped.name;
    if (Error error = comparer.compare(dumped, result))
      return createStringError(dumped.op + " " + dumped.name + ": " +
                               toString(std::move(error)));
  }
  return results;
}
