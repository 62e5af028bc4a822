// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Pipeline/Pipeline.h"
#include "compiler/Conversion/LowerKernels/LowerKernels.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"
#include "compiler/Passes/Passes.h"
#include "compiler/Support/KVCacheLayout.h"
#include "compiler/Support/Kernels.h"
#include "compiler/Target/Backend.h"
#include "dialect/ONNX/ONNX.h"
#include "dialect/Ternary/Ternary.h"
#include "dialect/Ternary/TernaryBufferization.h"

#include "mlir/Conversion/AffineToStandard/AffineToStandard.h"
#include "mlir/Conversion/ReconcileUnrealizedCasts/ReconcileUnrealizedCasts.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Transforms/BufferizableOpInterfaceImpl.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Bufferization/Transforms/FuncBufferizableOpInterfaceImpl.h"
#include "mlir/Dialect/Bufferization/Transforms/Passes.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Transforms/BufferizableOpInterfaceImpl.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/SCF/Transforms/BufferizableOpInterfaceImpl.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Tensor/IR/TensorInferTypeOpInterfaceImpl.h"
#include "mlir/Dialect/Tensor/Transforms/BufferizableOpInterfaceImpl.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

namespace tercet {

//===----------------------------------------------------------------------===//
// Invariants
//===----------------------------------------------------------------------===//

/// Fails on the first op of one of the types, with the reason why it may not
/// be there any more.
template <typename... OpTys>
static LogicalResult verifyGone(ModuleOp module, StringRef reason) {
  WalkResult result = module.walk([&](Operation *op) {
    if (!isa<OpTys...>(op))
      return WalkResult::advance();
    op->emitOpError(reason);
    return WalkResult::interrupt();
  });
  return failure(result.wasInterrupted());
}

static LogicalResult verifyImported(ModuleOp module) {
  if (module.lookupSymbol<func::FuncOp>(onnx::kGraphName))
    return success();
  auto step = module.lookupSymbol<func::FuncOp>("step");
  if (!step)
    return module.emitError("expected a function @step or @graph");
  for (Type type : step.getArgumentTypes())
    if (!isa<TensorType, ternary::KVCacheType>(type))
      return step.emitOpError("expected tensors and a KV cache as arguments");
  return success();
}

static LogicalResult verifyLowered(ModuleOp module) {
  WalkResult result = module.walk([](Operation *op) {
    if (!isa<onnx::ONNXDialect>(op->getDialect()))
      return WalkResult::advance();
    op->emitOpError("must be gone after 'lower-onnx'");
    return WalkResult::interrupt();
  });
  return failure(result.wasInterrupted());
}

static LogicalResult verifyFused(ModuleOp module) {
  WalkResult result = module.walk([&](ternary::BitLinearOp op) {
    auto type = cast<ShapedType>(op.getOuts().getType());
    if (type.getDimSize(1) % ternary::kRowGroup == 0)
      return WalkResult::advance();
    op.emitOpError("has a width that is not a multiple of 16");
    return WalkResult::interrupt();
  });
  return failure(result.wasInterrupted());
}

static LogicalResult verifyQuantised(ModuleOp module) {
  return verifyGone<ternary::BitLinearOp, ternary::AbsmeanQuantizeOp>(
      module, "must be gone after 'quantise'");
}

static LogicalResult verifyLayouts(ModuleOp module) {
  WalkResult result = module.walk([&](ternary::MatmulOp op) {
    if (op.getLayout())
      return WalkResult::advance();
    op.emitOpError("has no layout");
    return WalkResult::interrupt();
  });
  return failure(result.wasInterrupted());
}

static LogicalResult verifyPacked(ModuleOp module) {
  return verifyGone<ternary::ParameterOp, ternary::GetParameterOp,
                    ternary::MatmulOp, ternary::RescaleOp>(
      module, "must be gone after 'pack-weights'");
}

static LogicalResult verifyBufferised(ModuleOp module) {
  WalkResult result = module.walk([&](Operation *op) {
    for (Type type : op->getResultTypes())
      if (isa<TensorType>(type)) {
        op->emitOpError("has a tensor result after 'bufferise'");
        return WalkResult::interrupt();
      }
    return WalkResult::advance();
  });
  return failure(result.wasInterrupted());
}

static LogicalResult verifyPlanned(ModuleOp module) {
  // A graph allocates when it runs.
  if (module.lookupSymbol<func::FuncOp>("step") &&
      failed(verifyGone<memref::AllocOp>(module,
                                         "must be gone after 'plan-memory'")))
    return failure();
  return verifyGone<memref::CopyOp, ternary::PackedParameterOp>(
      module, "must be gone after 'plan-memory'");
}

static LogicalResult verifyKernels(ModuleOp module) {
  WalkResult result = module.walk([&](DestinationStyleOpInterface op) {
    op.emitOpError("has no kernel");
    return WalkResult::interrupt();
  });
  if (result.wasInterrupted())
    return failure();
  return verifyGone<ternary::KVUpdateOp>(module, "has no kernel");
}

static LogicalResult verifyOutlined(ModuleOp module) {
  return verifyGone<scf::ParallelOp, ternary::WorkerScratchOp>(
      module, "must be gone after 'outline-parallel'");
}

static LogicalResult verifyVectors(ModuleOp module) {
  return verifyGone<ternary::UnpackOp, ternary::UnpackT5Op, ternary::UnpackT3Op,
                    ternary::DotOp, ternary::DotBlockOp, ternary::DotPairsOp,
                    ternary::AddPairsOp, ternary::LookupOp>(
      module, "must be gone after 'lower-vectors'");
}

static LogicalResult verifyLLVM(ModuleOp module) {
  WalkResult result = module.walk([&](Operation *op) {
    if (isa<ModuleOp>(op) || isa<LLVM::LLVMDialect>(op->getDialect()))
      return WalkResult::advance();
    op->emitOpError("is not of the LLVM dialect");
    return WalkResult::interrupt();
  });
  return failure(result.wasInterrupted());
}

//===----------------------------------------------------------------------===//
// The table
//===----------------------------------------------------------------------===//

using Pieces = std::vector<WeightPiece>;

static void cleanUp(OpPassManager &passes) {
  passes.addPass(createCanonicalizerPass());
  passes.addPass(createCSEPass());
}

/// The same, but a loop of one item stays parallel: that each kernel is one
/// call of the pool is what `tercet verify` numbers them by.
static void cleanUpKernels(OpPassManager &passes) {
  passes.addPass(createCanonicalizerPass(
      GreedyRewriteConfig(),
      {"(anonymous namespace)::ParallelOpSingleOrZeroIterationDimsFolder"}));
  passes.addPass(createCSEPass());
}

static const Phase kPhases[] = {
    {"import",
     "the whole model as tensors, with the head that was asked for; weights "
     "are symbols, not constants",
     [](OpPassManager &passes, const CompileOptions &options, ParameterReader &,
        Pieces &) {
       if (options.head == "bf16")
         return;
       if (options.head == "screened") {
         passes.addPass(createScreenOutputHead());
         return;
       }
       QuantizeOutputHeadOptions head;
       head.format = options.head;
       passes.addNestedPass<func::FuncOp>(createQuantizeOutputHead(head));
     },
     verifyImported},

    {"recognise",
     "graphs: each BitLinear is one node, and no other node has only constant "
     "operands",
     [](OpPassManager &passes, const CompileOptions &options, ParameterReader &,
        Pieces &) {
       passes.addPass(createDropStraightThrough());
       if (options.evaluate)
         passes.addPass(createFoldConstants(options.evaluate));
       passes.addPass(createRecognizeBitLinear());
     },
     [](ModuleOp) { return success(); }},

    {"lower-onnx", "a graph is linalg, tensor, arith, math, scf and ternary",
     [](OpPassManager &passes, const CompileOptions &, ParameterReader &,
        Pieces &) {
       passes.addPass(createLowerONNX());
       cleanUp(passes);
       passes.addNestedPass<func::FuncOp>(createSinkTransposes());
       passes.addNestedPass<func::FuncOp>(createFuseElementwise());
       cleanUp(passes);
     },
     verifyLowered},

    {"fuse", "bit_linears of one input are one; widths are multiples of 16",
     [](OpPassManager &passes, const CompileOptions &, ParameterReader &,
        Pieces &) {
       passes.addNestedPass<func::FuncOp>(createFuseBitLinear());
     },
     verifyFused},

    {"quantise",
     "bit_linear is quantisation, integer matmul and rescale; all "
     "weights are trits",
     [](OpPassManager &passes, const CompileOptions &, ParameterReader &reader,
        Pieces &) {
       passes.addPass(createQuantizeWeights(reader));
       passes.addNestedPass<func::FuncOp>(createLowerBitLinear());
     },
     verifyQuantised},

    {"select-layout", "each matmul and the head carry packing and schedule",
     [](OpPassManager &passes, const CompileOptions &options, ParameterReader &,
        Pieces &) {
       SelectLayoutOptions layout;
       layout.target = options.target.text;
       layout.packing = options.packing;
       for (const TargetSpec &level : options.levels)
         layout.levels.push_back(level.text);
       passes.addPass(options.planner
                          ? createSelectLayout(*options.planner, layout)
                          : createSelectLayout(layout));
     },
     verifyLayouts},

    {"pack-weights", "weights are offsets into the weights section",
     [](OpPassManager &passes, const CompileOptions &, ParameterReader &reader,
        Pieces &pieces) { passes.addPass(createPackWeights(reader, pieces)); },
     verifyPacked},

    {"bufferise", "no tensors: every op writes its own buffer",
     [](OpPassManager &passes, const CompileOptions &, ParameterReader &,
        Pieces &) {
       bufferization::OneShotBufferizePassOptions bufferize;
       bufferize.bufferizeFunctionBoundaries = true;
       // Of graphs: what a loop carries may be another buffer each time.
       bufferize.allowReturnAllocsFromLoops = true;
       bufferize.functionBoundaryTypeConversion =
           bufferization::LayoutMapOption::IdentityLayoutMap;
       // What is inserted into a tensor, as between padding, is computed there.
       passes.addPass(bufferization::createEmptyTensorEliminationPass());
       passes.addPass(bufferization::createOneShotBufferizePass(bufferize));
       cleanUp(passes);
     },
     verifyBufferised},

    {"fuse-rows",
     "gate, norm and quantisation of a row are one op; what is between them is "
     "no buffer",
     [](OpPassManager &passes, const CompileOptions &, ParameterReader &,
        Pieces &) { passes.addNestedPass<func::FuncOp>(createFuseRows()); },
     [](ModuleOp) { return success(); }},

    {"plan-memory",
     "@step, what a screened head has beside it, or a graph, have their C "
     "signature; static buffers are places in one arena",
     [](OpPassManager &passes, const CompileOptions &options, ParameterReader &,
        Pieces &) {
       PlanMemoryOptions plan;
       plan.maxStepTokens = options.maxStepTokens;
       passes.addPass(createPlanMemory(plan));
       passes.addPass(createPlanGraph());
     },
     verifyPlanned},

    {"outline", "equal layers are one function, called with offsets",
     [](OpPassManager &passes, const CompileOptions &, ParameterReader &,
        Pieces &) { passes.addPass(createOutlineRepeats()); },
     [](ModuleOp) { return success(); }},

    {"lower-kernels",
     "parallel loops over vectors, in the canonical float order",
     [](OpPassManager &passes, const CompileOptions &options, ParameterReader &,
        Pieces &) {
       passes.addNestedPass<func::FuncOp>(
           createLowerKernels(getLowerKernelsOptions(options.target)));
       passes.addNestedPass<func::FuncOp>(createLowerMath());
       AddDotPeakOptions peak;
       peak.target = options.target.text;
       passes.addPass(createAddDotPeak(peak));
       cleanUpKernels(passes);
     },
     verifyKernels},

    {"outline-parallel",
     "a parallel loop is a function of its items and a call of "
     "the runtime's pool",
     [](OpPassManager &passes, const CompileOptions &options, ParameterReader &,
        Pieces &) {
       OutlineParallelOptions outline;
       outline.separatesKinds =
           getBackend(options.target).separatesKinds(options.target);
       passes.addPass(createOutlineParallel(outline));
     },
     verifyOutlined},

    {"lower-vectors", "the backend has lowered the vector-level ops",
     [](OpPassManager &passes, const CompileOptions &options, ParameterReader &,
        Pieces &) {
       LowerVectorOpsOptions vectors;
       vectors.target = options.target.text;
       passes.addNestedPass<func::FuncOp>(createLowerVectorOps(vectors));
     },
     verifyVectors},

    {"to-llvm", "nothing but the LLVM dialect",
     [](OpPassManager &passes, const CompileOptions &, ParameterReader &,
        Pieces &) {
       passes.addPass(memref::createExpandStridedMetadataPass());
       passes.addPass(createLowerAffinePass());
       cleanUp(passes);
       passes.addPass(createSCFToControlFlowPass());
       passes.addPass(createConvertToLLVM());
       passes.addPass(createReconcileUnrealizedCastsPass());
       cleanUp(passes);
     },
     verifyLLVM},
};

ArrayRef<Phase> getPhases() { return kPhases; }

//===----------------------------------------------------------------------===//
// Running it
//===----------------------------------------------------------------------===//

/// What a language model's own signature says.
static void readStep(ModuleOp module, CompiledModel &model) {
  auto step = module.lookupSymbol<func::FuncOp>("step");
  if (!step)
    return;
  auto getWidth = [](func::FuncOp function) -> uint32_t {
    return cast<ShapedType>(function.getResultTypes()[0]).getShape().back();
  };
  model.vocabSize = getWidth(step);
  if (auto rows = module.lookupSymbol<func::FuncOp>("head_rows")) {
    model.hiddenSize = getWidth(step);
    model.vocabSize = getWidth(rows);
  }
  for (Type type : step.getArgumentTypes())
    if (auto cache = dyn_cast<ternary::KVCacheType>(type)) {
      model.context = cache.getCapacity();
      model.numLayers = cache.getLayers();
      model.kvSlotSize = getKVSlotSizeInBytes(cache);
    }
}

static LogicalResult readGraph(ModuleOp module, CompiledModel &model) {
  auto graph = module.lookupSymbol<func::FuncOp>(onnx::kGraphName);
  if (!graph)
    return success();
  FailureOr<GraphSignature> signature = GraphSignature::get(graph);
  if (failed(signature))
    return failure();
  model.signature = std::move(*signature);
  return success();
}

llvm::Expected<CompiledModel> runPipeline(OwningOpRef<ModuleOp> module,
                                          const CompileOptions &options,
                                          ParameterReader &reader) {
  MLIRContext *context = module->getContext();
  // Nested runs of the pipeline, which fold constants, may not load dialects.
  context->loadAllAvailableDialects();
  // Diagnostics of a pass become the error that the user sees.
  std::string diagnostics;
  ScopedDiagnosticHandler handler(context, [&](Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() != DiagnosticSeverity::Error)
      return failure();
    if (diagnostics.empty())
      diagnostics = diagnostic.str();
    return success();
  });
  auto fail = [&](StringRef phase) {
    return llvm::createStringError("phase '" + phase + "': " + diagnostics);
  };
  bool isLast = false;
  auto finish = [&](const Phase &phase) {
    isLast = options.compileTo == phase.name;
  };

  CompiledModel model;
  model.maxStepTokens = options.maxStepTokens;
  for (auto [number, phase] : llvm::enumerate(getPhases())) {
    if (options.progress)
      options.progress(number, phase.name);
    PassManager passes(context);
    passes.enableVerifier(false); // phase.verify and one verification per phase
    TimingScope scope;
    if (options.timing)
      passes.enableTiming(scope = options.timing->nest(phase.name));
    phase.addPasses(passes, options, reader, model.weights);
    bool ok = succeeded(passes.run(*module));
    if (ok && options.printAfter == phase.name)
      module->print(llvm::errs());
    if (!ok || failed(mlir::verify(*module)) || failed(phase.verify(*module)))
      return fail(phase.name);
    if (number == 0)
      readStep(*module, model);
    if (phase.name == "lower-onnx" && failed(readGraph(*module, model)))
      return fail(phase.name);
    if (phase.name == "plan-memory")
      model.kernels = listKernels(*module);
    finish(phase);
    if (isLast)
      break;
  }

  auto attribute = [&](StringRef name) -> uint64_t {
    auto value = (*module)->getAttrOfType<IntegerAttr>(name);
    return value ? value.getInt() : 0;
  };
  model.weightsSize = attribute("ternary.weights_size");
  model.arenaSize = attribute("ternary.arena_size");
  model.scratchSize = attribute("ternary.scratch_size");
  model.ternaryWeights = attribute("ternary.num_trits");
  model.ternaryBytes = attribute("ternary.ternary_bytes");
  model.headBytes = attribute("ternary.head_bytes");
  if (auto name = (*module)->getAttrOfType<StringAttr>("ternary.head"))
    model.headName = name.str();
  model.headGroupBytes = attribute("ternary.head_group_bytes");
  model.errorBounds = attribute("ternary.error_bounds");
  model.module = std::move(module);
  return model;
}

void registerPipelineDialects(DialectRegistry &registry) {
  registry.insert<affine::AffineDialect, arith::ArithDialect,
                  cf::ControlFlowDialect, bufferization::BufferizationDialect,
                  func::FuncDialect, linalg::LinalgDialect, LLVM::LLVMDialect,
                  math::MathDialect, memref::MemRefDialect, scf::SCFDialect,
                  onnx::ONNXDialect, tensor::TensorDialect,
                  ternary::TernaryDialect, vector::VectorDialect>();
  arith::registerBufferizableOpInterfaceExternalModels(registry);
  bufferization::func_ext::registerBufferizableOpInterfaceExternalModels(
      registry);
  linalg::registerBufferizableOpInterfaceExternalModels(registry);
  scf::registerBufferizableOpInterfaceExternalModels(registry);
  tensor::registerBufferizableOpInterfaceExternalModels(registry);
  tensor::registerInferTypeOpInterfaceExternalModels(registry);
  ternary::registerBufferizableOpInterfaces(registry);
}

void registerPipelinePasses() {
  registerTercetPasses();
  registerLowerKernelsPass();
  registerRecognizeBitLinearPasses();
  registerLowerONNXPass();
}

} // namespace tercet
