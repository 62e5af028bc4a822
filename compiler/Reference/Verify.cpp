// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Reference/Verify.h"
#include "compiler/Reference/CompareDump.h"
#include "compiler/Reference/CompareTrace.h"
#include "compiler/Reference/Interpreter.h"
#include "compiler/Support/Kernels.h"
#include "frontends/Import.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/xxhash.h"

using namespace llvm;
using namespace tercet;
using namespace tercet::reference;
using namespace tercet::ternary;

namespace {

/// An intermediate result that every phase on tensors still computes.
struct Checkpoint {
  StringRef op;
  size_t occurrence; ///< of this kind of op
  std::string name;
  uint64_t hash;
};

struct Run {
  std::vector<Checkpoint> checkpoints;
  Floats logits;
  /// Of a screened head, once it is packed: what it approximates logits from,
  /// and how.
  std::optional<Floats> hidden, approximations;
};

/// One line of the report.
struct Check {
  std::string name;
  bool passed;
  std::string detail;
};

class Verifier {
public:
  Verifier(const VerifyOptions &options) : options(options) {}
  Error run(raw_ostream &output);

private:
  Error import();
  Error traceArtifact();
  Error checkPhases();
  void checkScreen(mlir::ModuleOp module, ArrayRef<uint8_t> weights,
                   const Run &run);
  Error checkArtifact();
  Error checkDump();
  Error measureHead();
  void add(const Twine &name, bool passed, const Twine &detail) {
    checks.push_back({name.str(), passed, detail.str()});
  }
  void print(raw_ostream &output) const;

  const VerifyOptions &options;
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  ParameterReader reader;
  std::vector<int32_t> tokens;
  Run expected;
  std::optional<TraceComparison> trace;
  std::vector<Check> checks;
};

} // namespace

//===----------------------------------------------------------------------===//
// Running a module
//===----------------------------------------------------------------------===//

/// Fusing and packing change what a matmul looks like, but nothing around it.
static bool isCheckpoint(mlir::Operation *op) {
  return isa<EmbeddingOp, RMSNormOp, RopeOp, AttentionOp, GatedActivationOp,
             GatherRowsOp, mlir::linalg::AddOp>(op);
}

static bool isInScreen(mlir::Operation *op) {
  auto function = op->getParentOfType<mlir::func::FuncOp>();
  return function && function.getName() == "screen";
}

static uint64_t hash(const Floats &array) {
  return xxh3_64bits(
      ArrayRef(reinterpret_cast<const uint8_t *>(array.data.data()),
               array.data.size() * sizeof(float)));
}

static Expected<Run> runModule(mlir::ModuleOp module, ParameterReader &reader,
                               ArrayRef<uint8_t> weights,
                               ArrayRef<int32_t> tokens,
                               TraceComparison *trace = nullptr) {
  Run run;
  StringMap<size_t> occurrences;
  ReferenceModel model(module, reader);
  model.getInterpreter().setWeights(weights);
  model.getInterpreter().setObserver([&](mlir::Operation *op,
                                         ArrayRef<Value> operands,
                                         ArrayRef<Value> results) {
    if (trace)
      trace->observe(op, operands, results);
    if (isInScreen(op) && isa<QuantizeWideOp>(op))
      run.hidden = operands[0].floats();
    if (isInScreen(op) && isa<PackedQuantizedLinearOp>(op))
      run.approximations = results[0].floats();
    if (!isCheckpoint(op))
      return;
    StringRef kind = op->getName().getStringRef();
    run.checkpoints.push_back({kind, occurrences[kind]++, getLayerName(op),
                               hash(results[0].floats())});
  });
  Expected<Floats> logits = model.step(tokens);
  if (!logits)
    return logits.takeError();
  run.logits = std::move(*logits);
  return run;
}

/// The first checkpoint of `expected` that `actual` computes differently.
/// Kinds of ops whose number changed have no counterparts.
static const Checkpoint *findDifference(const Run &expected,
                                        const Run &actual) {
  StringMap<std::vector<uint64_t>> hashes;
  for (const Checkpoint &checkpoint : actual.checkpoints)
    hashes[checkpoint.op].push_back(checkpoint.hash);
  StringMap<size_t> counts;
  for (const Checkpoint &checkpoint : expected.checkpoints)
    ++counts[checkpoint.op];
  for (const Checkpoint &checkpoint : expected.checkpoints) {
    ArrayRef<uint64_t> others = hashes[checkpoint.op];
    if (others.size() == counts[checkpoint.op] &&
        others[checkpoint.occurrence] != checkpoint.hash)
      return &checkpoint;
  }
  return nullptr;
}

/// Where logits differ, or nothing.
static std::optional<std::string> describeDifference(const Floats &expected,
                                                     const Floats &actual) {
  if (expected.shape != actual.shape)
    return "logits have another shape";
  std::optional<size_t> first;
  double largest = 0, range = 0;
  for (size_t i = 0; i < expected.data.size(); ++i) {
    float a = expected.data[i], b = actual.data[i];
    range = std::max(range, std::fabs(double(a)));
    if (bit_cast<uint32_t>(a) == bit_cast<uint32_t>(b))
      continue;
    first = first.value_or(i);
    largest = std::max(largest, std::fabs(double(a) - b));
  }
  if (!first)
    return std::nullopt;
  return formatv("logits differ from token {0}, id {1}; by up to {2:e2} of {3}",
                 *first / expected.shape[1], *first % expected.shape[1],
                 largest, range)
      .str();
}

//===----------------------------------------------------------------------===//
// Checks
//===----------------------------------------------------------------------===//

Error Verifier::import() {
  auto imported =
      importModel(context, options.model, {options.context, options.kv});
  if (!imported)
    return imported.takeError();
  module = std::move(*imported);
  if (options.prepare) {
    auto prepared = options.prepare(*module);
    if (!prepared)
      return prepared.takeError();
    module = std::move(*prepared);
  }

  tokens = options.tokens;
  if (auto step = module->lookupSymbol<mlir::func::FuncOp>("step");
      step && tokens.empty()) {
    auto type = cast<mlir::ShapedType>(step.getResultTypes()[0]);
    for (uint32_t i = 1; i <= 32; ++i)
      tokens.push_back(int32_t(i * 2654435761u % type.getDimSize(1)));
  }
  Expected<Run> run = runModule(*module, reader, {}, tokens);
  if (!run)
    return run.takeError();
  expected = std::move(*run);
  add("import", true,
      formatv("{0} tokens, {1} intermediate results", tokens.size(),
              expected.checkpoints.size()));
  return Error::success();
}

/// Before the phases: the interpreter runs each of them once.
Error Verifier::traceArtifact() {
  if (options.artifact.empty() || !options.planMemory)
    return Error::success();
  mlir::OwningOpRef<mlir::ModuleOp> clone = module->clone();
  auto planned = options.planMemory(*clone);
  if (!planned)
    return planned.takeError();
  auto comparison = TraceComparison::create(ArtifactProgram(options.artifact),
                                            tokens, **planned);
  if (!comparison)
    return comparison.takeError();
  trace = std::move(*comparison);
  return Error::success();
}

Error Verifier::checkPhases() {
  if (!options.runPhases)
    return Error::success();
  mlir::OwningOpRef<mlir::ModuleOp> clone = module->clone();
  return options.runPhases(
      *clone,
      [&](StringRef phase, mlir::ModuleOp module,
          ArrayRef<uint8_t> weights) -> Error {
        // Once there are weights, the ops are those of the kernels.
        bool isPacked = trace && !weights.empty();
        Expected<Run> run = runModule(module, reader, weights, tokens,
                                      isPacked ? &*trace : nullptr);
        if (!run)
          return createStringError("after " + phase + ": " +
                                   toString(run.takeError()));
        if (const Checkpoint *first = findDifference(expected, *run))
          add(phase, false,
              "first differs at " + first->name + " (" + first->op + ")");
        else if (auto difference =
                     describeDifference(expected.logits, run->logits))
          add(phase, false, *difference);
        else
          add(phase, true, "identical");
        checkScreen(module, weights, *run);
        return Error::success();
      });
}

/// What a screened head rests on: no logit is further from its approximation
/// than its bound.
void Verifier::checkScreen(mlir::ModuleOp module, ArrayRef<uint8_t> weights,
                           const Run &run) {
  auto offset =
      module->getAttrOfType<mlir::IntegerAttr>("ternary.error_bounds");
  if (!offset || !run.approximations || !run.hidden)
    return;
  const uint8_t *bounds = weights.data() + offset.getInt();
  double largest = 0;
  for (int64_t n = 0; n < run.logits.shape[0]; ++n) {
    double squares = 0;
    for (float x : run.hidden->row(n))
      squares += double(x) * x;
    for (auto [row, logit, approximation] :
         enumerate(run.logits.row(n), run.approximations->row(n))) {
      float bound = bit_cast<float>(
          support::endian::read32le(bounds + row * sizeof(float)));
      largest = std::max(largest, std::fabs(double(logit) - approximation) /
                                      (bound * std::sqrt(squares)));
    }
  }
  add("screen", largest <= 1,
      formatv("errors are up to {0:f3} of their bounds", largest));
}

Error Verifier::checkArtifact() {
  if (options.artifact.empty())
    return Error::success();
  if (trace)
    add("kernels", trace->passed(), trace->describe());
  Expected<Floats> logits = ArtifactProgram(options.artifact).getLogits(tokens);
  if (!logits)
    return logits.takeError();
  auto difference = describeDifference(expected.logits, *logits);
  add("artifact", !difference, difference.value_or("identical logits"));
  return Error::success();
}

Error Verifier::checkDump() {
  if (options.dump.empty())
    return Error::success();
  auto comparisons = compareDump(*module, reader, options.dump);
  if (!comparisons)
    return comparisons.takeError();
  // One line for each kind of op, in the order of the model.
  MapVector<StringRef, std::vector<const OpComparison *>> kinds;
  for (const OpComparison &comparison : *comparisons)
    kinds[comparison.op].push_back(&comparison);
  for (auto &[kind, ops] : kinds) {
    double error = 0;
    int64_t numTies = 0;
    const OpComparison *firstWrong = nullptr;
    for (const OpComparison *op : ops) {
      error = std::max(error, op->error);
      numTies += op->numTies;
      if (!firstWrong && !op->agrees())
        firstWrong = op;
    }
    std::string detail =
        formatv("{0} ops, relative error up to {1:e2}, {2} rounding ties",
                ops.size(), error, numTies);
    if (firstWrong)
      detail += formatv("; first at {0}: error {1:e2}, {2} wrong activations",
                        firstWrong->name, firstWrong->error,
                        firstWrong->numWrongActivations);
    add(kind, !firstWrong, detail);
  }
  return Error::success();
}

/// A measurement, no comparison: it always passes.
Error Verifier::measureHead() {
  if (!options.measureHead)
    return Error::success();
  Expected<std::string> detail = options.measureHead();
  if (!detail)
    return detail.takeError();
  add("head", true, *detail);
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Report
//===----------------------------------------------------------------------===//

void Verifier::print(raw_ostream &output) const {
  if (options.json) {
    json::OStream json(output, /*IndentSize=*/2);
    json.object([&] {
      json.attribute("model", options.model);
      json.attribute("tokens", json::Array(tokens));
      json.attributeArray("checks", [&] {
        for (const Check &check : checks)
          json.value(json::Object{{"name", check.name},
                                  {"passed", check.passed},
                                  {"detail", check.detail}});
      });
    });
    output << "\n";
    return;
  }
  for (const Check &check : checks)
    output << formatv("{0,-4}  {1,-16}  {2}\n", check.passed ? "ok" : "FAIL",
                      check.name, check.detail);
}

Error Verifier::run(raw_ostream &output) {
  using Step = Error (Verifier::*)();
  for (Step step :
       {&Verifier::import, &Verifier::traceArtifact, &Verifier::checkPhases,
        &Verifier::checkArtifact, &Verifier::checkDump, &Verifier::measureHead})
    if (Error error = (this->*step)()) {
      print(output);
      return error;
    }
  print(output);
  size_t numFailed = count_if(checks, [](const Check &c) { return !c.passed; });
  if (numFailed)
    return createStringError(options.model + ": " + Twine(numFailed) + " of " +
                             Twine(checks.size()) + " checks failed");
  return Error::success();
}

Error tercet::verify(const VerifyOptions &options, raw_ostream &output) {
  return Verifier(options).run(output);
}
