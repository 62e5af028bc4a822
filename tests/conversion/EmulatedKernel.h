// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A kernel for a machine of another architecture, run by qemu-user on the
// oldest of its CPUs that has the features of the target, or on each of them
// where vectors have a length of the CPU's own. WebAssembly is run by node.

#ifndef TERCET_TESTS_CONVERSION_EMULATEDKERNEL_H
#define TERCET_TESTS_CONVERSION_EMULATEDKERNEL_H

#include "compiler/Emit/OutputFile.h"
#include "compiler/Target/ParseTarget.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/ArrayRef.h"

#include <vector>

namespace tercet {

/// A memref, or an integer. An empty memref may have no data.
struct KernelArgument {
  int64_t value = 0;
  void *data = nullptr;
  int64_t elementSizeInBytes = 0;
  std::vector<int64_t> sizes = {}, strides = {};

  bool isMemRef() const { return !sizes.empty(); }

  /// From the first element to the end of the last.
  int64_t getSizeInBytes() const;
};

class EmulatedKernel {
public:
  /// Whether what running such code takes is installed: an emulator, and a C
  /// library for the target when the tests were built.
  static bool isAvailable(const TargetSpec &target);

  /// Of a module of the LLVM dialect with a function @kernel.
  static llvm::Expected<EmulatedKernel> load(mlir::ModuleOp module,
                                             const TargetSpec &target);

  /// Ends the program with a diagnostic if the kernel fails, writes within a
  /// few hundred bytes of a memref's memory, or gives each CPU other bytes.
  void run(llvm::ArrayRef<KernelArgument> arguments) const;

private:
  using Command = std::vector<std::string>;

  EmulatedKernel(std::vector<Command> emulators, ScratchFile program)
      : emulators(std::move(emulators)), program(std::move(program)) {}

  std::vector<Command> emulators; ///< one for each CPU
  ScratchFile program;
};

} // namespace tercet

#endif // TERCET_TESTS_CONVERSION_EMULATEDKERNEL_H
