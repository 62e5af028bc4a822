// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_COMPILER_TUNE_LOADEDCODE_H
#define TERCET_COMPILER_TUNE_LOADEDCODE_H

#include "compiler/Target/ParseTarget.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/Error.h"
#include <memory>

namespace llvm::orc {
class LLJIT;
} // namespace llvm::orc

namespace tercet {

/// The object that an artifact would have of a module, in this process.
class LoadedCode {
public:
  /// Of a module of the LLVM dialect. The CPU has to have what the target asks
  /// for.
  static llvm::Expected<LoadedCode> load(mlir::ModuleOp module,
                                         const TargetSpec &target);
  LoadedCode(LoadedCode &&);
  LoadedCode &operator=(LoadedCode &&);
  ~LoadedCode();

  template <typename Function>
  llvm::Expected<Function *> lookup(llvm::StringRef name) const {
    llvm::Expected<uint64_t> address = findAddress(name);
    if (!address)
      return address.takeError();
    return reinterpret_cast<Function *>(*address);
  }

private:
  explicit LoadedCode(std::unique_ptr<llvm::orc::LLJIT> jit);
  llvm::Expected<uint64_t> findAddress(llvm::StringRef name) const;

  std::unique_ptr<llvm::orc::LLJIT> jit;
};

} // namespace tercet

#endif // TERCET_COMPILER_TUNE_LOADEDCODE_H
