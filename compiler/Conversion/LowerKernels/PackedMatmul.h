// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the kernels of packed_matmul share.

#ifndef TERCET_COMPILER_CONVERSION_LOWERKERNELS_PACKEDMATMUL_H
#define TERCET_COMPILER_CONVERSION_LOWERKERNELS_PACKEDMATMUL_H

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "dialect/Ternary/Ternary.h"

namespace tercet {

/// The kernel of a layout that uses tables.
void emitLookupMatmul(ternary::PackedMatmulOp op, KernelBuilder &b);

/// Stores the results of `token`, its indices, and the rows from `firstRow` of
/// a group of 16, as many as `result` has lanes.
void storeRows(KernelBuilder &b, ternary::PackedMatmulOp op, mlir::Value result,
               mlir::ValueRange token, mlir::Value rowGroup, int64_t firstRow);

/// What the sums of a token are multiplied with in a group of 16 rows.
mlir::Value getFactor(KernelBuilder &b, ternary::PackedMatmulOp op,
                      mlir::ValueRange token, mlir::Value rowGroup);

/// The same of exact sums, times `factor`, which is otherwise `getFactor`.
void storeRescaled(KernelBuilder &b, ternary::PackedMatmulOp op,
                   mlir::Value exact, mlir::ValueRange token,
                   mlir::Value rowGroup, int64_t firstRow,
                   mlir::Value factor = {});

} // namespace tercet

#endif // TERCET_COMPILER_CONVERSION_LOWERKERNELS_PACKEDMATMUL_H
