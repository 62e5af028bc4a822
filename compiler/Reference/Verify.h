// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// `tercet verify`: is what the compiler made of a model what the model means?
// docs/verify.md explains the comparisons.

#ifndef TERCET_COMPILER_REFERENCE_VERIFY_H
#define TERCET_COMPILER_REFERENCE_VERIFY_H

#include "dialect/Ternary/Ternary.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/Support/Error.h"

#include <functional>

namespace tercet {

/// A module in the middle of the pipeline that the interpreter can run.
/// `weights` are the bytes that ternary.packed_parameter addresses, if any.
using PhaseCallback =
    llvm::function_ref<llvm::Error(llvm::StringRef phase, mlir::ModuleOp module,
                                   llvm::ArrayRef<uint8_t> weights)>;

struct VerifyOptions {
  std::string model;
  /// Positions of the import; 0: the model's own.
  int64_t context = 0;
  ternary::KVElement kv = ternary::KVElement::F32;
  /// Token ids to run; empty: a fixed sequence of 32.
  std::vector<int32_t> tokens;
  /// An executable that was compiled from the model; may be empty.
  std::string artifact;
  /// A directory written by tests/e2e/dump_reference.py; may be empty.
  std::string dump;
  bool json = false;
  /// Makes the imported module mean what was asked for (the head's precision);
  /// may be null.
  std::function<llvm::Expected<mlir::OwningOpRef<mlir::ModuleOp>>(
      mlir::ModuleOp)>
      prepare;
  /// Says what the precision of the head costs; may be null.
  std::function<llvm::Expected<std::string>()> measureHead;
  /// Runs the phases on tensors on a module (a clone of the imported one) and
  /// calls back after each; may be null.
  std::function<llvm::Error(mlir::ModuleOp, PhaseCallback)> runPhases;
  /// Runs the phases up to plan-memory on such a module; if null, the kernels
  /// of the executable are not compared.
  std::function<llvm::Expected<mlir::OwningOpRef<mlir::ModuleOp>>(
      mlir::ModuleOp)>
      planMemory;
};

/// Reports to `output`. A difference, like a failure to compare, is an error.
llvm::Error verify(const VerifyOptions &options, llvm::raw_ostream &output);

} // namespace tercet

#endif // TERCET_COMPILER_REFERENCE_VERIFY_H
