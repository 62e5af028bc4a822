// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The whole compiler: a table of phases from an imported model to the LLVM
// dialect. Emit takes it from there.

#ifndef TERCET_COMPILER_PIPELINE_PIPELINE_H
#define TERCET_COMPILER_PIPELINE_PIPELINE_H

#include "compiler/Conversion/RecognizeBitLinear/RecognizeBitLinear.h"
#include "compiler/Support/GraphSignature.h"
#include "compiler/Support/ParameterReader.h"
#include "compiler/Support/WeightPiece.h"
#include "compiler/Target/ParseTarget.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Pass/PassManager.h"

namespace tercet {

class LayoutPlanner;

struct CompileOptions {
  TargetSpec target;
  /// All targets that read the same weights, if there are several.
  std::vector<TargetSpec> levels;
  /// Packing of ternary weights by name; auto: what the planner selects.
  std::string packing = "auto";
  /// Who chooses layouts; null: the cost model of a CPU nobody has described.
  LayoutPlanner *planner = nullptr;
  /// Precision of the head: bf16 (as the model has it), i8, q6, q4 or
  /// screened.
  std::string head = "bf16";
  /// Capacity of one step, in tokens.
  int64_t maxStepTokens = 128;
  /// Stop after this phase; empty: run all.
  std::string compileTo;
  /// Print the module to stderr after this phase.
  std::string printAfter;
  /// Where each phase and pass is timed, if anywhere.
  mlir::TimingScope *timing = nullptr;
  /// Evaluates the constant nodes of a graph; without it they are not folded.
  GraphEvaluator evaluate;
  /// Called after each phase, with its number and name.
  std::function<void(unsigned, llvm::StringRef)> progress;
};

/// A phase of the compiler.
struct Phase {
  llvm::StringRef name;
  /// What holds after it.
  llvm::StringRef invariant;
  void (*addPasses)(mlir::OpPassManager &, const CompileOptions &,
                    ParameterReader &, std::vector<WeightPiece> &);
  /// Checks the invariant.
  llvm::LogicalResult (*verify)(mlir::ModuleOp);
};

/// All phases in order, `import` (which a frontend does) first.
llvm::ArrayRef<Phase> getPhases();

/// A module after the last phase that was asked for, with what Emit needs to
/// know once the last phase is `to-llvm`.
struct CompiledModel {
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::vector<WeightPiece> weights;
  /// TERCET_SECTION_KERNELS.
  std::string kernels;
  uint64_t weightsSize = 0;
  uint64_t arenaSize = 0;
  uint64_t scratchSize = 0;
  uint64_t kvSlotSize = 0;
  uint64_t ternaryWeights = 0;
  uint64_t ternaryBytes = 0;
  uint64_t headBytes = 0;
  std::string headName; ///< of the weights of a head of floats, else empty
  /// Of a screened head: where its table of error bounds is in the weights, the
  /// bytes of 16 rows, and the width of its hidden states. 0: no such head.
  uint64_t errorBounds = 0;
  uint64_t headGroupBytes = 0;
  uint32_t hiddenSize = 0;
  uint32_t vocabSize = 0;
  uint32_t context = 0;
  uint32_t maxStepTokens = 0;
  uint32_t numLayers = 0;
  /// Of an ONNX graph; a language model has none.
  std::optional<GraphSignature> signature;
};

/// Runs the phases after import on `module`. Pieces read through `reader`,
/// which has to live as long as they do.
llvm::Expected<CompiledModel>
runPipeline(mlir::OwningOpRef<mlir::ModuleOp> module,
            const CompileOptions &options, ParameterReader &reader);

/// Dialects and interfaces that the phases need.
void registerPipelineDialects(mlir::DialectRegistry &registry);

/// Every pass of the project, for tercet-opt.
void registerPipelinePasses();

} // namespace tercet

#endif // TERCET_COMPILER_PIPELINE_PIPELINE_H
