// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Code of several ISA levels in one artifact.

#ifndef TERCET_COMPILER_EMIT_LEVELDISPATCH_H
#define TERCET_COMPILER_EMIT_LEVELDISPATCH_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/ADT/ArrayRef.h"

namespace tercet {

/// A module of the LLVM dialect that defines the functions which `level`, the
/// code of one level, gives the runtime. They call the ones with the same name
/// and a suffix, that of number tercet_active_level.
mlir::OwningOpRef<mlir::ModuleOp>
buildLevelDispatch(mlir::ModuleOp level, llvm::ArrayRef<std::string> suffixes);

/// Appends `suffix` to the names of these functions.
void renameLevel(mlir::ModuleOp level, llvm::StringRef suffix);

} // namespace tercet

#endif // TERCET_COMPILER_EMIT_LEVELDISPATCH_H
