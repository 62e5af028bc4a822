// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/tools/CompileModel.h"
#include "compiler/Emit/ArtifactWriter.h"
#include "compiler/Emit/EmitObject.h"
#include "compiler/Emit/LevelDispatch.h"
#include "compiler/Emit/Link.h"
#include "compiler/Emit/OutputFile.h"
#include "compiler/Inspect/CheckParameters.h"
#include "compiler/JIT/GraphJIT.h"
#include "compiler/Pipeline/Pipeline.h"
#include "compiler/Support/KVCacheLayout.h"
#include "compiler/tools/Commands.h"
#include "compiler/tools/MakePlanner.h"
#include "compiler/tools/ModelFiles.h"
#include "compiler/tools/Progress.h"
#include "compiler/tools/TercetHeader.h"
#include "frontends/Import.h"
#include "frontends/Tokenizer/TokenizerBuilder.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Support/Timing.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Threading.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/TargetParser/Triple.h"

using namespace llvm;
using namespace tercet;

namespace {

/// One compilation, with what its steps share.
class Compilation {
public:
  explicit Compilation(const CompileRequest &request);

  Error run();

private:
  Expected<CompiledModel> compile(const CompileRequest &level);
  Error generate(mlir::ModuleOp module, const TargetSpec &target, LinkJob &job);
  Expected<CompiledModel> compileLevels(LinkJob &job);
  Error writeModule(mlir::ModuleOp module);
  Error writeCode(mlir::ModuleOp module, CodeKind kind);
  Error makeArtifact();
  Expected<BlobContents> describe(const CompiledModel &model);
  BlobContents describeCommon(const CompiledModel &model,
                              uint64_t modelHash) const;

  /// Shows and times a step until the result is destroyed.
  mlir::TimingScope step(StringRef name) {
    progress.step(name);
    return timing.nest(name);
  }

  const CompileRequest &request;
  Progress progress;
  mlir::DefaultTimingManager timingManager;
  mlir::TimingScope timing;
  mlir::MLIRContext context;
  ParameterReader reader;
};

} // namespace

static mlir::DialectRegistry makeRegistry() {
  mlir::DialectRegistry registry;
  registerPipelineDialects(registry);
  return registry;
}

Compilation::Compilation(const CompileRequest &request)
    : request(request), context(makeRegistry()) {
  timingManager.setEnabled(request.timing);
  timing = timingManager.getRootScope();
  context.getDiagEngine().registerHandler([&](mlir::Diagnostic &diagnostic) {
    bool isWarning =
        diagnostic.getSeverity() == mlir::DiagnosticSeverity::Warning;
    if (!isWarning &&
        diagnostic.getSeverity() != mlir::DiagnosticSeverity::Remark)
      return failure();
    progress.clear();
    if (isWarning)
      errs() << "tercet: warning: " << diagnostic << "\n";
    else if (this->request.explain)
      errs() << "remark: " << diagnostic << "\n";
    return success();
  });
}

Error Compilation::run() {
  bool isCode = request.emit != EmitKind::Exe && request.emit != EmitKind::Lib;
  if (request.compileTo.empty() && !isCode)
    return makeArtifact();
  Expected<CompiledModel> model = compile(request);
  if (!model)
    return model.takeError();
  if (!request.compileTo.empty() || request.emit == EmitKind::Mlir)
    return writeModule(*model->module);
  if (request.emit == EmitKind::Obj)
    return writeCode(*model->module, CodeKind::Object);
  return writeCode(*model->module, request.emit == EmitKind::Asm
                                       ? CodeKind::Assembly
                                       : CodeKind::LLVMIR);
}

Expected<CompiledModel> Compilation::compile(const CompileRequest &level) {
  mlir::OwningOpRef<mlir::ModuleOp> module;
  {
    mlir::TimingScope scope = step("import");
    auto imported =
        importModel(context, request.model, {request.context, request.kv});
    if (!imported)
      return imported.takeError();
    module = std::move(*imported);
  }
  {
    mlir::TimingScope scope = step("check weights");
    if (Error error = checkParameters(*module))
      return error;
  }
  mlir::TimingScope scope = step("compile");
  auto planner = makePlanner(level, progress);
  if (!planner)
    return planner.takeError();
  CompileOptions options;
  options.planner = planner->get();
  options.target = level.target;
  options.levels = level.levels;
  options.packing = request.packing;
  options.head = request.head;
  options.compileTo = request.compileTo;
  options.printAfter = request.printAfter;
  options.timing = &scope;
  options.evaluate = evaluateGraph;
  options.progress = [&](unsigned number, StringRef) {
    progress.update(number, getPhases().size());
  };
  return runPipeline(std::move(module), options, reader);
}

Error Compilation::writeModule(mlir::ModuleOp module) {
  std::string text;
  raw_string_ostream os(text);
  module.print(
      os, mlir::OpPrintingFlags().elideLargeResourceString().useLocalScope());
  os << "\n";
  progress.clear();
  return writeOutput(request.output, text);
}

Error Compilation::writeCode(mlir::ModuleOp module, CodeKind kind) {
  mlir::TimingScope scope = step("generate code");
  Expected<SmallString<0>> code = emitCode(module, request.target, kind);
  if (!code)
    return code.takeError();
  progress.clear();
  return writeOutput(request.output, *code);
}

/// "f32", "ui8", "bool".
static std::string getElementName(const GraphTensor &tensor) {
  if (tensor.element == TERCET_ELEMENT_BOOL)
    return "bool";
  std::string name;
  raw_string_ostream(name) << tensor.type.getElementType();
  return name;
}

/// [{"name": "image", "type": "f32", "shape": ["batch", 784]}, ...]
static void writeTensors(json::OStream &json, StringRef key,
                         ArrayRef<GraphTensor> tensors) {
  json.attributeArray(key, [&] {
    for (const GraphTensor &tensor : tensors)
      json.object([&] {
        json.attribute("name", tensor.name);
        json.attribute("type", getElementName(tensor));
        json.attributeArray("shape", [&] {
          for (auto [axis, extent] : enumerate(tensor.type.getShape()))
            if (mlir::ShapedType::isDynamic(extent))
              json.value(tensor.symbols[axis]);
            else
              json.value(extent);
        });
      });
  });
}

static void writeTarget(json::OStream &json, const TargetSpec &target) {
  json.attribute("target", target.text);
  json.attributeArray("cpu_features", [&] {
    for (StringRef name : cpuFeatureNames(target.cpuFeatures))
      json.value(name);
  });
}

/// --info: what is inside, as JSON.
static std::string makeInfo(const CompileRequest &request,
                            const CompiledModel &model) {
  std::string text;
  raw_string_ostream out(text);
  json::OStream json(out, /*IndentSize=*/2);
  json.object([&] {
    json.attribute("model", getModelName(request.model));
    json.attribute("compiler", "tercet " TERCET_VERSION);
    writeTarget(json, request.target);
    if (!request.levels.empty())
      json.attributeArray("levels", [&] {
        for (const TargetSpec &level : request.levels)
          json.object([&] { writeTarget(json, level); });
      });
    json.attribute("ternary_weights", model.ternaryWeights);
    json.attribute("ternary_bytes", model.ternaryBytes);
    json.attribute("weights_bytes", model.weightsSize);
    if (model.signature) {
      writeTensors(json, "inputs", model.signature->inputs);
      writeTensors(json, "outputs", model.signature->outputs);
      return;
    }
    json.attribute("layers", model.numLayers);
    json.attribute("vocab_size", model.vocabSize);
    json.attribute("context", model.context);
    json.attribute("max_step_tokens", model.maxStepTokens);
    // The exact head has the weights of the model's file.
    bool isExact = request.head == "bf16" && !model.headName.empty();
    json.attribute("head", isExact ? model.headName : request.head);
    json.attribute("head_bytes", model.headBytes);
    json.attribute("kv", ternary::stringifyKVElement(request.kv));
    json.attribute("kv_bytes_per_token",
                   model.context ? model.kvSlotSize / model.context : 0);
    json.attribute("arena_bytes", model.arenaSize);
  });
  return text;
}

/// TERCET_SECTION_LEVELS.
static std::string encodeLevels(ArrayRef<TargetSpec> levels) {
  std::string bytes;
  for (const TargetSpec &level : levels) {
    tercet_level entry = {};
    strncpy(entry.target, level.text.c_str(), sizeof(entry.target) - 1);
    entry.cpu_features = level.cpuFeatures;
    bytes.append(reinterpret_cast<const char *>(&entry), sizeof(entry));
  }
  return bytes;
}

/// What the blobs of graphs and of language models have in common.
BlobContents Compilation::describeCommon(const CompiledModel &model,
                                         uint64_t modelHash) const {
  BlobContents contents;
  tercet_blob_header &header = contents.header;
  // A CPU's name may be long; a cut one is still zero-terminated.
  const TargetSpec &first =
      request.levels.empty() ? request.target : request.levels.front();
  strncpy(header.target, first.text.c_str(), sizeof(header.target) - 1);
  header.cpu_features = request.target.cpuFeatures;
  header.model_hash = modelHash;
  header.scratch_size = model.scratchSize;
  header.ternary_weights = model.ternaryWeights;
  header.ternary_bytes = model.ternaryBytes;
  contents.sections.push_back({TERCET_SECTION_INFO, makeInfo(request, model)});
  if (!request.levels.empty())
    contents.sections.push_back(
        {TERCET_SECTION_LEVELS, encodeLevels(request.levels)});
  contents.weights = model.weights;
  contents.weightsSize = model.weightsSize;
  return contents;
}

Expected<BlobContents> Compilation::describe(const CompiledModel &model) {
  Expected<uint64_t> modelHash = hashModel(request.model);
  if (!modelHash)
    return modelHash.takeError();
  BlobContents contents = describeCommon(model, *modelHash);
  tercet_blob_header &header = contents.header;
  if (model.signature) {
    header.kind = TERCET_ARTIFACT_GRAPH;
    contents.sections.push_back(
        {TERCET_SECTION_SIGNATURE, model.signature->encode()});
    return contents;
  }

  auto text = buildTextAssets(request.model, model.vocabSize);
  if (!text)
    return text.takeError();
  for (const std::string &warning : text->warnings)
    mlir::emitWarning(mlir::UnknownLoc::get(&context)) << warning;
  header.vocab_size = model.vocabSize;
  header.context = model.context;
  header.max_step_tokens = model.maxStepTokens;
  header.num_layers = model.numLayers;
  header.arena_size = model.arenaSize;
  header.kv_slot_size = model.kvSlotSize;
  using ternary::KVElement;
  static_assert(uint32_t(KVElement::F32) == TERCET_KV_F32 &&
                uint32_t(KVElement::BF16) == TERCET_KV_BF16 &&
                uint32_t(KVElement::Int8) == TERCET_KV_INT8 &&
                kKeysPerBlock == TERCET_KV_BLOCK);
  header.kv_element = static_cast<uint32_t>(request.kv);
  header.head_bytes = model.headBytes;
  header.hidden_size = model.hiddenSize;
  header.head_group_bytes = model.headGroupBytes;
  header.error_bounds = model.errorBounds;

  auto add = [&](tercet_section_kind kind, std::string bytes) {
    if (!bytes.empty())
      contents.sections.push_back({kind, std::move(bytes)});
  };
  add(TERCET_SECTION_TOKENIZER,
      {text->tokenizer.begin(), text->tokenizer.end()});
  add(TERCET_SECTION_CHAT_TEMPLATE, text->chatTemplate);
  add(TERCET_SECTION_GENERATION,
      {reinterpret_cast<const char *>(&text->generation),
       sizeof(text->generation)});
  add(TERCET_SECTION_KERNELS, model.kernels);
  return contents;
}

/// Names the archives that an artifact links, first users first.
static Error findArchives(const CompileRequest &request, LinkJob &job) {
  std::vector<StringRef> names = {"libtercet_main.a", "libtercet_runtime.a"};
  if (request.isGraph())
    names = {"libtercet_graph_main.a", "libtercet_graph.a"};
  else if (isHostArchitecture(request.target))
    job.libraries = {"libpcre2-8.a"};
  else // Debian has it for the host alone: ours is beside the runtime.
    names.push_back("libpcre2-8.a");
  if (job.kind == LinkKind::SharedLibrary)
    names.erase(names.begin());
  for (StringRef name : names) {
    Expected<std::string> path = findRuntimeArchive(name, request.target);
    if (!path)
      return path.takeError();
    job.archives.push_back(*path);
  }
  return Error::success();
}

/// Writes the C header beside the library.
static Error writeHeader(const CompileRequest &request) {
  SmallString<128> path(sys::path::parent_path(request.output));
  sys::path::append(path, request.isGraph() ? "graph.h" : "tercet.h");
  return writeOutput(path, request.isGraph() ? kGraphHeader : kTercetHeader);
}

Error Compilation::generate(mlir::ModuleOp module, const TargetSpec &target,
                            LinkJob &job) {
  mlir::TimingScope scope = step("generate code");
  auto code = emitCode(module, target, CodeKind::Object);
  if (!code)
    return code.takeError();
  job.objects.push_back(std::move(*code));
  return Error::success();
}

/// One model with the code of all levels: they read the same weights, and
/// memory is for the one that needs most.
Expected<CompiledModel> Compilation::compileLevels(LinkJob &job) {
  if (request.levels.empty()) {
    Expected<CompiledModel> model = compile(request);
    if (model)
      if (Error error = generate(*model->module, request.target, job))
        return std::move(error);
    return model;
  }
  std::vector<std::string> suffixes;
  for (const TargetSpec &target : request.levels)
    suffixes.push_back("." + target.text);
  std::optional<CompiledModel> result;
  for (auto [target, suffix] : zip_equal(request.levels, suffixes)) {
    CompileRequest level = request;
    level.target = target;
    Expected<CompiledModel> model = compile(level);
    if (!model)
      return model;
    if (!result) {
      auto dispatch = buildLevelDispatch(*model->module, suffixes);
      if (Error error = generate(*dispatch, target, job))
        return std::move(error);
    }
    renameLevel(*model->module, suffix);
    if (Error error = generate(*model->module, target, job))
      return std::move(error);
    if (!result)
      result = std::move(*model);
    assert(model->weightsSize == result->weightsSize &&
           model->kvSlotSize == result->kvSlotSize);
    result->arenaSize = std::max(result->arenaSize, model->arenaSize);
    result->scratchSize = std::max(result->scratchSize, model->scratchSize);
  }
  return std::move(*result);
}

Error Compilation::makeArtifact() {
  // What can be refused at once is refused before the long steps.
  Expected<OutputFile> output = OutputFile::create(request.output);
  if (!output)
    return output.takeError();
  LinkJob job;
  job.kind = request.emit == EmitKind::Lib ? LinkKind::SharedLibrary
                                           : LinkKind::Executable;
  job.target = request.target;
  if (Error error = checkLinkable(job.kind, job.target))
    return error;
  if (Error error = findArchives(request, job))
    return error;

  Expected<CompiledModel> model = compileLevels(job);
  if (!model)
    return model.takeError();
  Expected<BlobContents> contents = describe(*model);
  if (!contents)
    return contents.takeError();
  {
    mlir::TimingScope scope = step("link");
    if (Error error = link(job, output->temporaryPath()))
      return error;
  }
  {
    mlir::TimingScope scope = step("pack weights");
    BlobWriteOptions options;
    options.threads = request.threads;
    options.progress = [&](uint64_t done, uint64_t total) {
      progress.update(done, total);
    };
    if (Error error = writeBlob(output->temporaryPath(), *contents, options))
      return error;
  }
  if (request.emit == EmitKind::Lib)
    if (Error error = writeHeader(request))
      return error;
  if (Triple(request.target.triple).isWasm())
    if (Error error = writeOutput(request.output + ".mjs", kLauncher))
      return error;
  return output->commit();
}

static Error checkPhase(StringRef option, StringRef name) {
  SmallVector<StringRef> names;
  for (const Phase &phase : getPhases())
    names.push_back(phase.name);
  if (name.empty() || is_contained(names, name))
    return Error::success();
  return createStringError(option + name + ": the phases are " +
                           join(names, ", ") + suggest(name, names));
}

std::string tercet::getHead(const Arguments &arguments) {
  StringRef head = arguments.get(OPT_head, "auto");
  return head == "auto" ? "bf16" : head.str();
}

/// Options that an ONNX graph has no use for.
static Error checkGraphOptions(const Arguments &arguments) {
  for (auto [option, name] :
       {std::pair(OPT_head, "--head"), std::pair(OPT_context, "--context"),
        std::pair(OPT_kv, "--kv")})
    if (arguments.has(option))
      return createStringError("%s: only language models have one, and '%s' is "
                               "an ONNX graph",
                               name, arguments.positionals()[0]);
  return Error::success();
}

/// The levels of --target=A,B,...: all of one architecture, oldest first.
static Expected<std::vector<TargetSpec>> parseLevels(StringRef text) {
  SmallVector<StringRef> names;
  text.split(names, ',');
  std::vector<TargetSpec> levels;
  for (StringRef name : names) {
    Expected<TargetSpec> level = parseTarget(name);
    if (!level)
      return level.takeError();
    if (!levels.empty() && levels[0].triple != level->triple)
      return createStringError("targets of one binary have one architecture, "
                               "not '" +
                               levels[0].text + "' and '" + level->text + "'");
    if (any_of(levels, [&](auto &l) { return l.text == level->text; }))
      return createStringError("target '" + level->text + "' is named twice");
    levels.push_back(std::move(*level));
  }
  if (levels.size() > 1 && Triple(levels[0].triple).isWasm())
    return createStringError("'" + text +
                             "': engines refuse a module with an "
                             "instruction that they lack, so that one of "
                             "several levels would run nowhere else");
  sort(levels, [](const TargetSpec &a, const TargetSpec &b) {
    return std::pair(popcount(a.cpuFeatures), StringRef(a.text)) <
           std::pair(popcount(b.cpuFeatures), StringRef(b.text));
  });
  return levels;
}

/// What all levels have, under all their names.
static TargetSpec intersect(ArrayRef<TargetSpec> levels) {
  TargetSpec common = levels.front();
  for (const TargetSpec &level : levels.drop_front()) {
    common.text += "," + level.text;
    common.cpuFeatures &= level.cpuFeatures;
  }
  return common;
}

/// Several levels read the same weights, so how trits are packed must not
/// depend on the level; of heads select-layout takes care.
static Error shareWeights(CompileRequest &request) {
  bool isArtifact =
      request.emit == EmitKind::Exe || request.emit == EmitKind::Lib;
  if (!isArtifact || !request.compileTo.empty())
    return createStringError("several targets make an executable or a library: "
                             "name one of '" +
                             request.target.text + "' for other output");
  if (request.packing == "auto")
    request.packing = "i2";
  return Error::success();
}

Expected<CompileRequest>
CompileRequest::fromArguments(const Arguments &arguments) {
  CompileRequest request;
  request.model = arguments.positionals()[0];
  if (request.isGraph())
    if (Error error = checkGraphOptions(arguments))
      return error;
  request.output = arguments.get(OPT_output);
  auto levels = parseLevels(arguments.get(OPT_target, "native"));
  if (!levels)
    return levels.takeError();
  request.target = intersect(*levels);
  if (levels->size() > 1)
    request.levels = std::move(*levels);
  request.emit = StringSwitch<EmitKind>(arguments.get(OPT_emit, "exe"))
                     .Case("exe", EmitKind::Exe)
                     .Case("lib", EmitKind::Lib)
                     .Case("obj", EmitKind::Obj)
                     .Case("asm", EmitKind::Asm)
                     .Case("llvm", EmitKind::Llvm)
                     .Case("mlir", EmitKind::Mlir);
  request.compileTo = arguments.get(OPT_compile_to);
  request.printAfter = arguments.get(OPT_print_after);
  if (Error error = checkPhase("--compile-to=", request.compileTo))
    return error;
  if (Error error = checkPhase("--mlir-print-ir-after=", request.printAfter))
    return error;
  request.packing = arguments.get(OPT_packing, "auto");
  request.head = getHead(arguments);
  if (!request.levels.empty())
    if (Error error = shareWeights(request))
      return error;
  request.tune = arguments.get(OPT_tune, "db");
  request.database = arguments.get(OPT_db);
  request.kv = *ternary::symbolizeKVElement(arguments.get(OPT_kv, "f32"));
  request.explain = arguments.has(OPT_explain);
  request.timing = arguments.has(OPT_timing);
  Expected<int64_t> context = arguments.getNumber(OPT_context, 0);
  if (!context)
    return context.takeError();
  request.context = *context;
  unsigned cpus = hardware_concurrency().compute_thread_count();
  Expected<int64_t> threads =
      arguments.getNumber(OPT_threads, std::min(cpus, 8u));
  if (!threads)
    return threads.takeError();
  request.threads = *threads;
  return request;
}

Error tercet::compileModel(const CompileRequest &request) {
  return Compilation(request).run();
}

Error tercet::runCompile(const Arguments &arguments) {
  auto request = CompileRequest::fromArguments(arguments);
  if (!request)
    return request.takeError();
  bool isText = !request->compileTo.empty() || request->emit == EmitKind::Asm ||
                request->emit == EmitKind::Llvm ||
                request->emit == EmitKind::Mlir;
  if (request->output.empty()) {
    if (!isText)
      return createStringError("no output file; give -o OUT");
    request->output = "-";
  }
  return compileModel(*request);
}
