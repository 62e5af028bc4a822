// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Inspect/InspectModel.h"
#include "compiler/JIT/GraphJIT.h"
#include "compiler/Pipeline/Pipeline.h"
#include "compiler/tools/Commands.h"

using namespace llvm;
using namespace tercet;

/// Runs a copy of the module to the end of the phase.
static Error recognizeBitLinears(mlir::ModuleOp module) {
  mlir::DialectRegistry registry;
  registerPipelineDialects(registry);
  module.getContext()->appendDialectRegistry(registry);
  ParameterReader reader;
  CompileOptions options;
  options.compileTo = "recognise";
  options.evaluate = evaluateGraph;
  return runPipeline(module.clone(), options, reader).takeError();
}

Error tercet::runInspect(const Arguments &arguments) {
  return inspectModel(arguments.positionals()[0], arguments.has(OPT_json),
                      recognizeBitLinears, outs());
}
