// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Constants of a file, in its bytes or as a resource that maps them, moved
// without being loaded element by element.

#ifndef TERCET_COMPILER_CONVERSION_LOWERONNX_CONSTANTS_H
#define TERCET_COMPILER_CONVERSION_LOWERONNX_CONSTANTS_H

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"

namespace tercet {

/// The bytes of a constant; one element of a splat.
llvm::ArrayRef<char> getRawBytes(mlir::ElementsAttr value);

/// The constant in storage type (getStorageType).
mlir::ElementsAttr toStorage(mlir::ElementsAttr value);

// Of constants in storage type; `type` is that of the result.

mlir::ElementsAttr reshapeConstant(mlir::ElementsAttr value,
                                   mlir::RankedTensorType type);
mlir::ElementsAttr transposeConstant(mlir::ElementsAttr value,
                                     mlir::RankedTensorType type,
                                     llvm::ArrayRef<int64_t> permutation);
/// Rows `first` on, as many as `type` has.
mlir::ElementsAttr sliceRows(mlir::ElementsAttr value,
                             mlir::RankedTensorType type, int64_t first);

} // namespace tercet

#endif // TERCET_COMPILER_CONVERSION_LOWERONNX_CONSTANTS_H
