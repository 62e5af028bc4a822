// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Floats of 8 and 4 bits, which no target computes with: their codes from and
// to f32, by integer operations that have vectors.

#ifndef TERCET_COMPILER_CONVERSION_LOWERONNX_SMALLFLOAT_H
#define TERCET_COMPILER_CONVERSION_LOWERONNX_SMALLFLOAT_H

#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace tercet {

/// Whether elements of the type are such codes: f8E4M3FN, f8E4M3FNUZ, f8E5M2,
/// f8E5M2FNUZ, f8E8M0FNU or f4E2M1FN.
bool isSmallFloat(mlir::Type element);

/// The number that a code (i8) stands for, as f32.
mlir::Value decodeSmallFloat(mlir::ImplicitLocOpBuilder &b, mlir::Value code,
                             mlir::FloatType type);

/// The code (i8) nearest to a number (f32), of two the even one. Numbers beyond
/// the greatest become that if `saturates`, else infinity, or NaN in a type
/// without; NaN is -0 in f4E2M1FN. `rounding` is that of f8E8M0FNU: "up",
/// "down" or "nearest".
mlir::Value encodeSmallFloat(mlir::ImplicitLocOpBuilder &b, mlir::Value number,
                             mlir::FloatType type, bool saturates,
                             llvm::StringRef rounding);

} // namespace tercet

#endif // TERCET_COMPILER_CONVERSION_LOWERONNX_SMALLFLOAT_H
