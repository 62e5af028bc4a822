// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// mlir-opt for the project: every pass, alone or in a pipeline.

#include "compiler/JIT/GraphJIT.h"
#include "compiler/Pipeline/Pipeline.h"

#include "mlir/Dialect/Bufferization/Transforms/Passes.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassOptions.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;
using namespace tercet;

namespace {

struct PipelineOptions : PassPipelineOptions<PipelineOptions> {
  Option<std::string> target{*this, "target", llvm::cl::init("native"),
                             llvm::cl::desc("what to compile for")};
  Option<std::string> head{*this, "head", llvm::cl::init("bf16"),
                           llvm::cl::desc("bf16, i8, q6 or q4")};
  Option<std::string> compileTo{*this, "compile-to",
                                llvm::cl::desc("last phase; default: all")};
  Option<int64_t> maxStepTokens{
      *this, "max-step-tokens", llvm::cl::init(128),
      llvm::cl::desc("capacity of one step, in tokens")};
};

/// What the passes share; packed bytes are dropped.
struct Compilation {
  CompileOptions options;
  ParameterReader reader;
  std::vector<WeightPiece> pieces;
};

/// Checks the invariant of a phase; keeps the compilation alive.
struct VerifyPhase : PassWrapper<VerifyPhase, OperationPass<ModuleOp>> {
  VerifyPhase(const Phase &phase, std::shared_ptr<Compilation> compilation)
      : phase(phase), compilation(std::move(compilation)) {}

  void runOnOperation() override {
    if (failed(phase.verify(getOperation())))
      signalPassFailure();
  }

  const Phase &phase;
  std::shared_ptr<Compilation> compilation;
};

using ErrorHandler = function_ref<LogicalResult(const Twine &)>;

/// --tercet-pipeline="target=.. compile-to=..": the phase table, from a module
/// as a frontend makes it.
LogicalResult addPhases(OpPassManager &passes, StringRef text,
                        ErrorHandler onError) {
  PipelineOptions options;
  if (failed(options.parseFromString(text)))
    return failure();
  llvm::Expected<TargetSpec> target = parseTarget(options.target);
  if (!target)
    return onError(llvm::toString(target.takeError()));
  auto compilation = std::make_shared<Compilation>();
  compilation->options.target = *target;
  compilation->options.head = options.head;
  compilation->options.evaluate = evaluateGraph;
  compilation->options.maxStepTokens = options.maxStepTokens;
  for (const Phase &phase : getPhases()) {
    phase.addPasses(passes, compilation->options, compilation->reader,
                    compilation->pieces);
    passes.addPass(std::make_unique<VerifyPhase>(phase, compilation));
    if (options.compileTo == phase.name)
      return success();
  }
  if (options.compileTo.empty())
    return success();
  return onError("no phase is called '" + options.compileTo + "'");
}

} // namespace

int main(int argc, char **argv) {
  DialectRegistry registry;
  registerPipelineDialects(registry);
  registerTransformsPasses();
  bufferization::registerBufferizationPasses();
  registerPipelinePasses();
  registerPass([] { return createFoldConstants(evaluateGraph); });
  registerPassPipeline(
      "tercet-pipeline", "the compiler's phases, up to compile-to", addPhases,
      [](function_ref<void(const detail::PassOptions &)> describe) {
        describe(PipelineOptions());
      });
  return asMainReturnCode(
      MlirOptMain(argc, argv, "Tercet optimizer driver\n", registry));
}
