// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Pipeline/Pipeline.h"
#include "compiler/Reference/ArtifactProgram.h"
#include "compiler/Reference/Verify.h"
#include "compiler/tools/Commands.h"
#include "compiler/tools/CompileModel.h"
#include "compiler/tools/MakePlanner.h"
#include "compiler/tools/Progress.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Threading.h"

using namespace llvm;
using namespace tercet;

/// The last phase whose result the interpreter runs: all on tensors.
static constexpr StringLiteral kLastTensorPhase = "pack-weights";

static Expected<std::vector<uint8_t>> makeWeights(const CompiledModel &model) {
  std::vector<uint8_t> bytes(model.weightsSize);
  for (const WeightPiece &piece : model.weights)
    if (Error error =
            piece.write(MutableArrayRef(bytes).slice(piece.offset, piece.size)))
      return error;
  return bytes;
}

static void addDialects(mlir::MLIRContext &context) {
  mlir::DialectRegistry registry;
  registerPipelineDialects(registry);
  context.appendDialectRegistry(registry);
}

/// Runs every phase on tensors, each from the start: the interpreter takes
/// far longer than the compiler.
static Error runTensorPhases(mlir::ModuleOp module, const CompileOptions &base,
                             PhaseCallback callback) {
  addDialects(*module.getContext());
  for (const Phase &phase : getPhases().drop_front()) {
    ParameterReader reader;
    CompileOptions options = base;
    options.compileTo = phase.name;
    auto model = runPipeline(module.clone(), options, reader);
    if (!model)
      return model.takeError();
    Expected<std::vector<uint8_t>> weights = makeWeights(*model);
    if (!weights)
      return weights.takeError();
    if (Error error = callback(phase.name, *model->module, *weights))
      return error;
    if (phase.name == kLastTensorPhase)
      break;
  }
  return Error::success();
}

/// The module after a phase. The default capacity of a step is the one of every
/// artifact.
static Expected<mlir::OwningOpRef<mlir::ModuleOp>>
runUntil(StringRef phase, mlir::ModuleOp module, CompileOptions options) {
  addDialects(*module.getContext());
  ParameterReader reader;
  options.compileTo = phase;
  auto model = runPipeline(module.clone(), options, reader);
  if (!model)
    return model.takeError();
  return std::move(model->module);
}

/// The perplexity of a text for an executable with the head of `request`.
static Expected<double> measurePerplexity(CompileRequest request,
                                          StringRef head, StringRef text) {
  SmallString<128> path;
  if (auto code = sys::fs::createTemporaryFile("tercet-verify", "", path))
    return createFileError("temporary file", code);
  FileRemover remover(path);
  request.head = head;
  request.output = path.str();
  if (Error error = compileModel(request))
    return std::move(error);
  return reference::ArtifactProgram(path).getPerplexity(text);
}

static Expected<std::string> describeHeadCost(const CompileRequest &request,
                                              StringRef text) {
  Expected<double> exact = measurePerplexity(request, "bf16", text);
  if (!exact)
    return exact.takeError();
  Expected<double> rounded = measurePerplexity(request, request.head, text);
  if (!rounded)
    return rounded.takeError();
  return formatv("perplexity {0:f4} with bf16, {1:f4} with {2}: {3}{4:f3}%",
                 *exact, *rounded, request.head, *rounded < *exact ? "" : "+",
                 100 * (*rounded / *exact - 1))
      .str();
}

static Expected<std::vector<int32_t>> parseTokens(StringRef text) {
  std::vector<int32_t> tokens;
  for (StringRef part : split(text, ',')) {
    if (part.empty() && text.empty())
      break;
    if (part.getAsInteger(10, tokens.emplace_back()) || tokens.back() < 0)
      return createStringError("--tokens=" + text + ": '" + part +
                               "' is not a token id");
  }
  return tokens;
}

Error tercet::runVerify(const Arguments &arguments) {
  VerifyOptions options;
  options.model = arguments.positionals()[0];
  if (StringRef(options.model).ends_with(".onnx"))
    return createStringError(
        options.model +
        ": the reference interpreter runs language models only; compare the "
        "outputs of a compiled ONNX graph with those of onnxruntime");
  if (StringRef(options.model).ends_with(".onnx"))
    return createStringError("verify: only language models have a reference "
                             "interpreter, and '" +
                             options.model + "' is an ONNX graph");
  if (arguments.positionals().size() > 1)
    options.artifact = arguments.positionals()[1];
  options.dump = arguments.get(OPT_against);
  options.json = arguments.has(OPT_json);
  Expected<int64_t> context = arguments.getNumber(OPT_context, 0);
  if (!context)
    return context.takeError();
  options.context = *context;
  options.kv = *ternary::symbolizeKVElement(arguments.get(OPT_kv, "f32"));
  auto tokens = parseTokens(arguments.get(OPT_tokens));
  if (!tokens)
    return tokens.takeError();
  options.tokens = *tokens;
  Expected<TargetSpec> target =
      parseTarget(arguments.get(OPT_target, "native"));
  if (!target)
    return target.takeError();
  CompileRequest request;
  request.model = options.model;
  request.target = *target;
  request.packing = arguments.get(OPT_packing, "auto");
  request.head = getHead(arguments);
  request.context = *context;
  request.kv = options.kv;
  request.threads = hardware_concurrency().compute_thread_count();
  Progress progress;
  auto planner = makePlanner(request, progress);
  if (!planner)
    return planner.takeError();
  CompileOptions base;
  base.target = *target;
  base.packing = request.packing;
  base.head = request.head;
  base.planner = planner->get();
  options.runPhases = [&](mlir::ModuleOp module, PhaseCallback callback) {
    return runTensorPhases(module, base, callback);
  };
  options.planMemory = [&](mlir::ModuleOp module) {
    return runUntil("plan-memory", module, base);
  };
  // A rounded head is compared with itself; a screened one is exact: it is
  // compared with the model's own.
  if (base.head != "screened")
    options.prepare = [&](mlir::ModuleOp module) {
      return runUntil("import", module, base);
    };
  StringRef text = arguments.get(OPT_perplexity);
  if (!text.empty())
    options.measureHead = [&] { return describeHeadCost(request, text); };
  return verify(options, outs());
}
