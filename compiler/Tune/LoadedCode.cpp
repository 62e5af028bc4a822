// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Tune/LoadedCode.h"
#include "compiler/Emit/EmitObject.h"
#include "tercet/artifact.h"
#include "llvm/ExecutionEngine/Orc/AbsoluteSymbols.h"
#include "llvm/ExecutionEngine/Orc/ExecutionUtils.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"

using namespace llvm;
using namespace tercet;

LoadedCode::LoadedCode(std::unique_ptr<orc::LLJIT> jit) : jit(std::move(jit)) {}
LoadedCode::LoadedCode(LoadedCode &&) = default;
LoadedCode &LoadedCode::operator=(LoadedCode &&) = default;
LoadedCode::~LoadedCode() = default;

Expected<LoadedCode> LoadedCode::load(mlir::ModuleOp module,
                                      const TargetSpec &target) {
  auto object = emitCode(module, target, CodeKind::Object);
  if (!object)
    return object.takeError();
  registerLLVMTargets();
  auto jit = orc::LLJITBuilder().create();
  if (!jit)
    return jit.takeError();
  orc::JITDylib &library = (*jit)->getMainJITDylib();
  // memset and its like
  auto process = orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(
      (*jit)->getDataLayout().getGlobalPrefix());
  if (!process)
    return process.takeError();
  library.addGenerator(std::move(*process));
  orc::SymbolMap runtime = {
      {(*jit)->mangleAndIntern("tercet_parallel_for"),
       orc::ExecutorSymbolDef::fromPtr(&tercet_parallel_for)}};
  if (Error error = library.define(orc::absoluteSymbols(std::move(runtime))))
    return std::move(error);
  if (Error error =
          (*jit)->addObjectFile(MemoryBuffer::getMemBufferCopy(*object)))
    return std::move(error);
  return LoadedCode(std::move(*jit));
}

Expected<uint64_t> LoadedCode::findAddress(StringRef name) const {
  auto address = jit->lookup(name);
  if (!address)
    return address.takeError();
  return address->getValue();
}
