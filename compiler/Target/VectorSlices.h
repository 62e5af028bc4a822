// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_COMPILER_TARGET_VECTORSLICES_H
#define TERCET_COMPILER_TARGET_VECTORSLICES_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/Value.h"

namespace tercet {

/// What `emit` makes of each slice of `lanes` elements of `vector`, in its
/// place. It also gets the slices of `operands`, as many as `vector` has; their
/// elements, and those of `vector`, are a multiple of the slices.
mlir::Value replaceSlices(
    mlir::OpBuilder &b, mlir::Location loc, mlir::Value vector, int64_t lanes,
    mlir::ValueRange operands,
    llvm::function_ref<mlir::Value(mlir::Value, mlir::ValueRange)> emit);

} // namespace tercet

#endif // TERCET_COMPILER_TARGET_VECTORSLICES_H
