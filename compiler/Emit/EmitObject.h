// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// LLVM dialect to machine code, in process.

#ifndef TERCET_COMPILER_EMIT_EMITOBJECT_H
#define TERCET_COMPILER_EMIT_EMITOBJECT_H

#include "compiler/Target/ParseTarget.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Passes/OptimizationLevel.h"
#include "llvm/Support/Error.h"

namespace tercet {

enum class CodeKind { Object, Assembly, LLVMIR };

/// Translates a module of the LLVM dialect, optimises it, and generates
/// position-independent code (WebAssembly has none). Floating point is
/// evaluated as written: nothing is fused or reassociated (docs/numerics.md).
llvm::Expected<llvm::SmallString<0>>
emitCode(mlir::ModuleOp module, const TargetSpec &target, CodeKind kind,
         llvm::OptimizationLevel level = llvm::OptimizationLevel::O3);

/// Section and size of the placeholder that ArtifactWriter replaces by the
/// blob.
inline constexpr llvm::StringLiteral kBlobSection = ".tercet";
inline constexpr uint64_t kBlobPlaceholderSize = 64 << 10;

/// An object that defines `tercet_blob` as a read-only placeholder.
llvm::Expected<llvm::SmallString<0>>
emitBlobPlaceholder(const TargetSpec &target);

} // namespace tercet

#endif // TERCET_COMPILER_EMIT_EMITOBJECT_H
