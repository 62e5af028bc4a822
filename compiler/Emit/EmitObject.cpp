// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Emit/EmitObject.h"
#include "mlir/Target/LLVMIR/Dialect/ArmNeon/ArmNeonToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/ArmSVE/ArmSVEToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "tercet/artifact.h"
#include "llvm/Analysis/TargetLibraryInfo.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"

using namespace llvm;
using namespace tercet;

/// Blocks without loops have thousands of loads and stores where a target has
/// few or short registers, and LLVM's scheduler compares each with up to 1000
/// others: most of the time of compiling them. No inner loop has 200.
static void limitMemoryDependences() {
  static const bool isLimited = [] {
    cl::Option *option =
        cl::getRegisteredOptions().lookup("dag-maps-huge-region");
    return option && !option->addOccurrence(0, option->ArgStr, "200");
  }();
  assert(isLimited && "LLVM has another name for it");
  (void)isLimited;
}

static Expected<std::unique_ptr<TargetMachine>>
createTargetMachine(const TargetSpec &spec, OptimizationLevel level) {
  registerLLVMTargets();
  limitMemoryDependences();
  std::string error;
  Triple triple(spec.triple);
  const Target *target = TargetRegistry::lookupTarget(triple, error);
  if (!target)
    return createStringError(error);
  TargetOptions options;
  options.AllowFPOpFusion = FPOpFusion::Strict;
  options.FunctionSections = true;
  options.DataSections = true;
  auto codeGenLevel = level == OptimizationLevel::O0
                          ? CodeGenOptLevel::None
                          : CodeGenOptLevel::Aggressive;
  // A WebAssembly module is placed by its linker.
  auto relocation = triple.isWasm() ? Reloc::Static : Reloc::PIC_;
  return std::unique_ptr<TargetMachine>(target->createTargetMachine(
      triple, spec.cpu, spec.featureString(), options, relocation,
      /*CM=*/std::nullopt, codeGenLevel));
}

static Expected<std::unique_ptr<Module>>
translateToLLVMIR(mlir::ModuleOp module, LLVMContext &context) {
  mlir::DialectRegistry registry;
  mlir::registerArmNeonDialectTranslation(registry);
  mlir::registerArmSVEDialectTranslation(registry);
  mlir::registerBuiltinDialectTranslation(registry);
  mlir::registerLLVMDialectTranslation(registry);
  module.getContext()->appendDialectRegistry(registry);
  std::unique_ptr<Module> translated =
      mlir::translateModuleToLLVMIR(module, context, "tercet");
  if (!translated)
    return createStringError("internal error: the compiled module does not "
                             "translate to LLVM IR");
  return translated;
}

static void optimise(Module &module, TargetMachine &machine,
                     OptimizationLevel level) {
  PassBuilder builder(&machine);
  LoopAnalysisManager loops;
  FunctionAnalysisManager functions;
  CGSCCAnalysisManager callGraph;
  ModuleAnalysisManager modules;
  functions.registerPass([&] {
    return TargetLibraryAnalysis(
        TargetLibraryInfoImpl(machine.getTargetTriple()));
  });
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(callGraph);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, callGraph, modules);
  builder.buildPerModuleDefaultPipeline(level).run(module, modules);
}

static Expected<SmallString<0>> generate(Module &module, TargetMachine &machine,
                                         CodeGenFileType type) {
  SmallString<0> code;
  raw_svector_ostream out(code);
  legacy::PassManager passes;
  if (machine.addPassesToEmitFile(passes, out, /*DwoOut=*/nullptr, type))
    return createStringError("no code generator for " +
                             machine.getTargetTriple().str());
  passes.run(module);
  return code;
}

static void prepare(Module &module, const TargetSpec &target,
                    TargetMachine &machine) {
  module.setTargetTriple(machine.getTargetTriple());
  module.setDataLayout(machine.createDataLayout());
  module.setPICLevel(PICLevel::BigPIC);
  for (Function &function : module) {
    if (function.isDeclaration())
      continue;
    function.addFnAttr("tune-cpu", target.tuneCpu);
    // Called from the same artifact only; a library exports the C API alone.
    if (!function.hasLocalLinkage())
      function.setVisibility(GlobalValue::HiddenVisibility);
  }
}

Expected<SmallString<0>> tercet::emitCode(mlir::ModuleOp source,
                                          const TargetSpec &target,
                                          CodeKind kind,
                                          OptimizationLevel level) {
  LLVMContext context;
  auto machine = createTargetMachine(target, level);
  if (!machine)
    return machine.takeError();
  auto module = translateToLLVMIR(source, context);
  if (!module)
    return module.takeError();
  prepare(**module, target, **machine);
  optimise(**module, **machine, level);
  if (kind == CodeKind::LLVMIR) {
    SmallString<0> text;
    raw_svector_ostream(text) << **module;
    return text;
  }
  return generate(**module, **machine,
                  kind == CodeKind::Object ? CodeGenFileType::ObjectFile
                                           : CodeGenFileType::AssemblyFile);
}

Expected<SmallString<0>> tercet::emitBlobPlaceholder(const TargetSpec &target) {
  LLVMContext context;
  auto machine = createTargetMachine(target, OptimizationLevel::O3);
  if (!machine)
    return machine.takeError();
  Module module("placeholder", context);
  prepare(module, target, **machine);
  auto *type = ArrayType::get(Type::getInt8Ty(context), kBlobPlaceholderSize);
  auto *blob = new GlobalVariable(
      module, type, /*isConstant=*/true, GlobalValue::ExternalLinkage,
      ConstantAggregateZero::get(type), "tercet_blob");
  blob->setSection(kBlobSection);
  blob->setAlignment(Align(TERCET_BLOB_ALIGNMENT));
  blob->setVisibility(GlobalValue::HiddenVisibility);
  return generate(module, **machine, CodeGenFileType::ObjectFile);
}
