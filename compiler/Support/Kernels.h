// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The kernels of a step. Each op of @step that has effects after plan-memory
// becomes one tercet_parallel_for, in the same order: that is how verify and
// --bench know a kernel from its number.

#ifndef TERCET_COMPILER_SUPPORT_KERNELS_H
#define TERCET_COMPILER_SUPPORT_KERNELS_H

#include "mlir/IR/BuiltinOps.h"

#include <string>

namespace tercet {

/// Whether an op, on tensors or on memrefs, becomes a kernel.
bool isKernel(mlir::Operation *op);

/// The layers that an op was imported from.
std::string getLayerName(mlir::Operation *op);

/// The kernels of @step after plan-memory as TERCET_SECTION_KERNELS holds them;
/// none of a graph.
std::string listKernels(mlir::ModuleOp planned);

} // namespace tercet

#endif // TERCET_COMPILER_SUPPORT_KERNELS_H
