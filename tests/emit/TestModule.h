// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_TESTS_EMIT_TESTMODULE_H
#define TERCET_TESTS_EMIT_TESTMODULE_H

#include "compiler/Emit/EmitObject.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"

namespace tercet::test {

/// A program whose exit status is the last byte of its blob.
inline constexpr llvm::StringLiteral kLastByteProgram = R"mlir(
  llvm.mlir.global external constant @tercet_blob() : !llvm.array<0 x i8>
  llvm.func @main() -> i32 {
    %blob = llvm.mlir.addressof @tercet_blob : !llvm.ptr
    %size_at = llvm.getelementptr %blob[16] : (!llvm.ptr) -> !llvm.ptr, i8
    %size = llvm.load %size_at : !llvm.ptr -> i64
    %end = llvm.getelementptr %blob[%size] : (!llvm.ptr, i64) -> !llvm.ptr, i8
    %last_at = llvm.getelementptr %end[-1] : (!llvm.ptr) -> !llvm.ptr, i8
    %last = llvm.load %last_at : !llvm.ptr -> i8
    %status = llvm.zext %last : i8 to i32
    llvm.return %status : i32
  }
)mlir";

/// Code for `source`, a module of the LLVM dialect.
inline llvm::SmallString<0> emit(llvm::StringRef source, llvm::StringRef target,
                                 CodeKind kind) {
  mlir::MLIRContext context;
  context.loadDialect<mlir::LLVM::LLVMDialect>();
  auto module = mlir::parseSourceString<mlir::ModuleOp>(source, &context);
  auto code = emitCode(*module, llvm::cantFail(parseTarget(target)), kind);
  if (!code) {
    ADD_FAILURE() << llvm::toString(code.takeError());
    return {};
  }
  return *code;
}

} // namespace tercet::test

#endif // TERCET_TESTS_EMIT_TESTMODULE_H
