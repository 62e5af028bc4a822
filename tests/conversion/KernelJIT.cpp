// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "tests/conversion/KernelJIT.h"

#include "compiler/Conversion/LowerKernels/LowerKernels.h"
#include "compiler/Passes/Passes.h"
#include "dialect/Ternary/Ternary.h"
#include "tercet/artifact.h"
#include "tests/support/avxvnni/AVXVNNIEmulator.h"

#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVMPass.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/ReconcileUnrealizedCasts/ReconcileUnrealizedCasts.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVMPass.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"

using namespace mlir;
using namespace tercet;

/// One worker runs everything here: its scratch, of which every op is the
/// beginning, is on the stack.
static void allocateScratch(func::FuncOp function) {
  SmallVector<ternary::WorkerScratchOp> ops;
  int64_t size = 0;
  function.walk([&](ternary::WorkerScratchOp op) {
    auto type = cast<MemRefType>(op.getResult().getType());
    ops.push_back(op);
    size = std::max(size,
                    type.getNumElements() * type.getElementTypeBitWidth() / 8);
  });
  if (ops.empty())
    return;
  OpBuilder builder(function.getBody());
  Location loc = function.getLoc();
  Value scratch = memref::AllocaOp::create(
      builder, loc, MemRefType::get(size, builder.getI8Type()),
      builder.getI64IntegerAttr(64));
  Value zero = arith::ConstantIndexOp::create(builder, loc, 0);
  for (ternary::WorkerScratchOp op : ops) {
    auto type = cast<MemRefType>(op.getResult().getType());
    op.replaceAllUsesWith(
        memref::ViewOp::create(builder, loc, type, scratch, zero, ValueRange())
            .getResult());
    op.erase();
  }
}

static LogicalResult lowerToLLVM(ModuleOp module, int64_t accumulators,
                                 const TargetSpec &target) {
  PassManager kernels(module.getContext());
  LowerKernelsOptions options = getLowerKernelsOptions(target);
  options.accumulators = accumulators;
  kernels.addPass(createLowerKernels(options));
  if (failed(kernels.run(module)))
    return failure();
  for (auto function : module.getOps<func::FuncOp>())
    allocateScratch(function);

  PassManager conversions(module.getContext());
  LowerVectorOpsOptions vectorOptions;
  vectorOptions.target = target.text;
  conversions.addNestedPass<func::FuncOp>(createLowerVectorOps(vectorOptions));
  conversions.addPass(createSCFToControlFlowPass());
  conversions.addPass(createConvertVectorToLLVMPass());
  conversions.addPass(createConvertMathToLLVMPass());
  conversions.addPass(createArithToLLVMConversionPass());
  conversions.addPass(createFinalizeMemRefToLLVMConversionPass());
  conversions.addPass(createConvertControlFlowToLLVMPass());
  conversions.addPass(createConvertFuncToLLVMPass());
  conversions.addPass(createReconcileUnrealizedCastsPass());
  return conversions.run(module);
}

/// The module of the LLVM dialect.
static OwningOpRef<ModuleOp> lower(MLIRContext &context, llvm::StringRef source,
                                   int64_t accumulators,
                                   const TargetSpec &target) {
  auto module = parseSourceString<ModuleOp>(source, &context);
  if (!module)
    llvm::report_fatal_error("kernel does not parse");
  module->walk([](func::FuncOp function) {
    function->setAttr(LLVM::LLVMDialect::getEmitCWrapperAttrName(),
                      UnitAttr::get(function.getContext()));
  });
  if (failed(lowerToLLVM(*module, accumulators, target)))
    llvm::report_fatal_error("kernel does not lower");
  return module;
}

static TargetSpec getTestTarget() {
  const char *target = std::getenv("TERCET_TEST_TARGET");
  return llvm::cantFail(parseTarget(target ? target : "native"));
}

/// Whether it is for another architecture than this machine's.
static bool isForeign(const TargetSpec &target) {
  return target.triple != llvm::cantFail(parseTarget("native")).triple;
}

KernelJIT::Support KernelJIT::prepareFor(llvm::StringRef target) {
  TargetSpec wanted = llvm::cantFail(parseTarget(target));
  if (isForeign(wanted))
    return EmulatedKernel::isAvailable(wanted) ? Support::Foreign
                                               : Support::None;
  TargetSpec native = llvm::cantFail(parseTarget("native"));
  uint64_t missing = wanted.cpuFeatures & ~native.cpuFeatures;
  if (missing == 0)
    return Support::Native;
  if (missing != TERCET_CPU_AVXVNNI || !avxvnni::installEmulator())
    return Support::None;
  return avxvnni::executesAVXVNNI() ? Support::Native : Support::Emulated;
}

KernelJIT::KernelJIT(llvm::StringRef source, int64_t accumulators,
                     std::optional<TargetSpec> given) {
  TargetSpec target = given ? *given : getTestTarget();
  DialectRegistry registry;
  registry.insert<arith::ArithDialect, func::FuncDialect, LLVM::LLVMDialect,
                  linalg::LinalgDialect, math::MathDialect,
                  memref::MemRefDialect, scf::SCFDialect,
                  ternary::TernaryDialect, vector::VectorDialect>();
  MLIRContext context(registry);
  auto module = lower(context, source, accumulators, target);
  if (isForeign(target)) {
    emulated.emplace(llvm::cantFail(EmulatedKernel::load(*module, target)));
    return;
  }
  code = llvm::cantFail(LoadedCode::load(*module, target));
  function = llvm::cantFail(code->lookup<void()>("_mlir_ciface_kernel"));
}
