// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_COMPILER_CONVERSION_LOWERKERNELS_QUANTIZEHEAD_H
#define TERCET_COMPILER_CONVERSION_LOWERKERNELS_QUANTIZEHEAD_H

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

namespace tercet {

struct QuantizedHead {
  mlir::Value scale; ///< f32: a code's value is code * scale
  mlir::Value sum;   ///< i32: of the codes
};

/// numerics.md, "int8 keys and values": `headDim` floats from x[row, column]
/// on. `store` gets 16 codes, vector<16xi32>, for d and the 15 after it; those
/// from `lanes` on are zero.
QuantizedHead quantizeHead(
    KernelBuilder &b, mlir::Value x, mlir::Value row, mlir::Value column,
    int64_t headDim,
    llvm::function_ref<void(mlir::Value d, int64_t lanes, mlir::Value codes)>
        store);

} // namespace tercet

#endif // TERCET_COMPILER_CONVERSION_LOWERKERNELS_QUANTIZEHEAD_H
