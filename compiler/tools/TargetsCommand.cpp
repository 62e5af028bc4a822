// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Target/ParseTarget.h"
#include "compiler/tools/Commands.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace tercet;

static void printText(const TargetSpec &native) {
  outs() << "--target=BASE[+feature...]\n\n";
  for (const TargetLevel &level : targetLevels())
    outs() << formatv(
        "  {0,-11}{1}\n{2,13}+ {3}\n", level.name, level.description, "",
        level.features.empty() ? "none" : join(level.features, " + "));
  outs() << "\nA CPU's name (znver5, sapphirerapids, neoverse-n1) stands for "
            "the newest level\nand features it has. This CPU:\n\n"
         << formatv("  native     = {0}, tuned for {1}\n", native.text,
                    native.tuneCpu);
}

static void printJson(const TargetSpec &native) {
  auto toJson = [](ArrayRef<StringRef> names) { return json::Array(names); };
  json::Array levels;
  for (const TargetLevel &level : targetLevels())
    levels.push_back(json::Object{{"name", level.name},
                                  {"description", level.description},
                                  {"features", toJson(level.features)}});
  outs() << json::Value(json::Object{
                {"levels", std::move(levels)},
                {"native",
                 json::Object{{"target", native.text},
                              {"cpu", native.tuneCpu},
                              {"features",
                               toJson(cpuFeatureNames(native.cpuFeatures))}}}})
         << "\n";
}

Error tercet::runTargets(const Arguments &arguments) {
  Expected<TargetSpec> native = parseTarget("native");
  if (!native)
    return native.takeError();
  if (arguments.has(OPT_json))
    printJson(*native);
  else
    printText(*native);
  return Error::success();
}
