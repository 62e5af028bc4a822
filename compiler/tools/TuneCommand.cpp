// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// `tercet tune`: measures kernels of a model's matmuls, or of shapes, on this
// CPU, and stores the winners.

#include "compiler/Emit/OutputFile.h"
#include "compiler/Pipeline/Pipeline.h"
#include "compiler/Tune/MeasureCpu.h"
#include "compiler/tools/Commands.h"
#include "compiler/tools/CompileModel.h"
#include "compiler/tools/MakePlanner.h"
#include "frontends/Import.h"
#include "mlir/IR/MLIRContext.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace tercet;

static Expected<std::string> getDatabasePath(const Arguments &arguments) {
  std::string path = arguments.get(OPT_db).str();
  if (path.empty())
    path = TuningDatabase::getDefaultPath();
  if (path.empty())
    return createStringError("no cache directory: neither XDG_CACHE_HOME nor "
                             "HOME is set; give --db=FILE");
  return path;
}

static Error exportDatabase(StringRef path, StringRef file) {
  auto database = TuningDatabase::openToRead(path);
  if (!database)
    return database.takeError();
  std::string text;
  raw_string_ostream out(text);
  if (Error error = database->exportTo(out))
    return error;
  return writeOutput(file, text);
}

static Error importDatabase(StringRef path, StringRef file) {
  auto text = MemoryBuffer::getFileOrSTDIN(file);
  if (!text)
    return createFileError(file, text.getError());
  auto database = TuningDatabase::openToWrite(path);
  if (!database)
    return database.takeError();
  auto numResults = database->importFrom((*text)->getBuffer());
  if (!numResults)
    return createFileError(file, numResults.takeError());
  outs() << formatv("{0} results\n", *numResults);
  return Error::success();
}

/// 30, 30s or 0.5s.
static Expected<double> parseSeconds(StringRef text) {
  double seconds;
  StringRef number = text;
  number.consume_back("s");
  if (number.getAsDouble(seconds) || !(seconds > 0) || seconds > 1e6)
    return createStringError("--budget=" + text +
                             ": the value is a number of seconds above 0");
  return seconds;
}

/// MxK*N,...: rows and columns as an artifact would pad them.
static Expected<ModelShapes> parseShapes(StringRef text) {
  ModelShapes model;
  for (StringRef part : split(text, ',')) {
    auto [shape, count] = part.split('*');
    auto [rows, cols] = shape.split('x');
    int64_t m, k, n = 1;
    constexpr int64_t kMost = 1 << 20;
    if (rows.getAsInteger(10, m) || cols.getAsInteger(10, k) ||
        (part.contains('*') && count.getAsInteger(10, n)) || m <= 0 ||
        m > kMost || k <= 0 || k > ternary::kMaxK || n <= 0 || n > kMost)
      return createStringError(
          formatv("--shapes={0}: '{1}' is not MxK or MxK*N with M up to {2} "
                  "and K up to {3}",
                  text, part, kMost, ternary::kMaxK)
              .str());
    model.matmuls.insert(model.matmuls.end(), n,
                         {int64_t(alignTo(m, ternary::kRowGroup)),
                          int64_t(alignTo(k, ternary::kRowGroup))});
  }
  return model;
}

/// Compiles MODEL until its matmuls have layouts.
static Error planModel(StringRef path, const TargetSpec &target, StringRef head,
                       TunedLayouts &layouts) {
  mlir::DialectRegistry registry;
  registerPipelineDialects(registry);
  mlir::MLIRContext context(registry);
  auto module = importModel(context, path, {});
  if (!module)
    return module.takeError();
  CompileOptions options;
  options.target = target;
  options.head = head;
  options.planner = &layouts;
  options.compileTo = "select-layout";
  ParameterReader reader;
  return runPipeline(std::move(*module), options, reader).takeError();
}

/// Packed bytes per second of a decode.
static double getReadRate(const TunedShape &tuned) {
  return double(tuned.shape.rows) * tuned.shape.cols *
         getBitsPerTrit(tuned.layout.choice.packing) / 8 /
         tuned.layout.decode.seconds;
}

static double getProductRate(const TunedShape &tuned) {
  return double(tuned.shape.rows) * tuned.shape.cols * kPrefillTokens /
         tuned.layout.prefill.seconds;
}

static void printText(const TunedLayouts &layouts) {
  for (const TunedShape &tuned : layouts.getShapes()) {
    if (tuned.layout.decode.seconds == 0)
      continue; // missing
    outs() << formatv(
        "{0}x{1}{2}: {3}\n  decode {4:f1} us ({5:f1} GB/s), prefill of {6} "
        "{7:f2} ms ({8:f0} GMAC/s){9}\n",
        tuned.shape.rows, tuned.shape.cols,
        tuned.count > 1 ? "*" + std::to_string(tuned.count) : "",
        printLayout(tuned.layout.choice), tuned.layout.decode.seconds * 1e6,
        getReadRate(tuned) / 1e9, kPrefillTokens,
        tuned.layout.prefill.seconds * 1e3, getProductRate(tuned) / 1e9,
        tuned.isNew
            ? formatv(", {0} candidates", tuned.layout.numCandidates).str()
            : ", tuned before");
  }
}

static void printJson(const TunedLayouts &layouts, const CpuDescription &cpu) {
  json::Array shapes;
  for (const TunedShape &tuned : layouts.getShapes()) {
    if (tuned.layout.decode.seconds == 0)
      continue;
    shapes.push_back(
        json::Object{{"rows", tuned.shape.rows},
                     {"cols", tuned.shape.cols},
                     {"group", tuned.shape.group},
                     {"count", tuned.count},
                     {"layout", printLayout(tuned.layout.choice)},
                     {"decode_s", tuned.layout.decode.seconds},
                     {"decode_spread", tuned.layout.decode.spread},
                     {"prefill_s", tuned.layout.prefill.seconds},
                     {"prefill_spread", tuned.layout.prefill.spread},
                     {"candidates", tuned.layout.numCandidates},
                     {"tuned_now", tuned.isNew}});
  }
  outs() << json::Value(json::Object{{"cpu", toJSON(cpu)},
                                     {"shapes", std::move(shapes)},
                                     {"missing", layouts.getNumMissing()}})
         << "\n";
}

Error tercet::runTune(const Arguments &arguments) {
  Expected<std::string> path = getDatabasePath(arguments);
  if (!path)
    return path.takeError();
  ArrayRef<const char *> positionals = arguments.positionals();
  if (positionals.size() == 2) {
    StringRef action = positionals[0];
    if (action == "export")
      return exportDatabase(*path, positionals[1]);
    if (action == "import")
      return importDatabase(*path, positionals[1]);
    return createStringError("tune: expected one MODEL, or export or import "
                             "and a FILE, not '" +
                             action + "'");
  }
  StringRef shapes = arguments.get(OPT_shapes);
  if (positionals.empty() == shapes.empty())
    return createStringError("tune: give a MODEL or --shapes");
  Expected<double> budget = parseSeconds(arguments.get(OPT_budget, "30s"));
  if (!budget)
    return budget.takeError();
  Expected<int64_t> threads =
      arguments.getNumber(OPT_threads, availableThreads());
  if (!threads)
    return threads.takeError();
  Expected<TargetSpec> target =
      parseTarget(arguments.get(OPT_target, "native"));
  if (!target)
    return target.takeError();
  if (!canRun(*target))
    return createStringError("--target=" + target->text +
                             ": this CPU does not run code for it");
  ModelShapes given;
  if (!shapes.empty()) {
    auto parsed = parseShapes(shapes);
    if (!parsed)
      return parsed.takeError();
    given = std::move(*parsed);
  }

  auto database = TuningDatabase::openToWrite(*path);
  if (!database)
    return database.takeError();
  Progress progress;
  progress.step("measure this CPU");
  auto cpu = TunedLayouts::measureCpu(*database, *target);
  if (!cpu)
    return cpu.takeError();
  TunedLayouts layouts(std::move(*database), *cpu, *target, *threads,
                       getCompilerVersion());
  layouts.tuneMissing(*budget);
  showProgress(layouts, progress);
  progress.step("tune");
  if (shapes.empty()) {
    if (Error error =
            planModel(positionals[0], *target, getHead(arguments), layouts))
      return error;
  } else if (auto plan = layouts.plan(given, std::nullopt); !plan) {
    return plan.takeError();
  }

  progress.clear();
  for (const TunedShape &tuned : layouts.getShapes())
    for (const LayoutChoice &choice : tuned.layout.wrong)
      errs() << "tercet: warning: the kernel of " << printLayout(choice)
             << " computes something else; please report this\n";
  if (arguments.has(OPT_json))
    printJson(layouts, *cpu);
  else
    printText(layouts);
  if (int64_t missing = layouts.getNumMissing())
    errs() << formatv("tercet: warning: no time for {0} of {1} matmuls; the "
                      "next run goes on with them\n",
                      missing, layouts.getShapes().size());
  return Error::success();
}
