// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What ONNX says of each version of an operator: how many operands and results
// it has, of which element types and ranks, and which attributes of which kind.
// Passes rely on it; extents and values of attributes they check themselves.
// Nothing is known of operators that are not ONNX's own.

#ifndef TERCET_DIALECT_ONNX_OPERATORSCHEMAS_H
#define TERCET_DIALECT_ONNX_OPERATORSCHEMAS_H

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Operation.h"

namespace tercet::onnx {

/// An error that names operator, node and version.
mlir::InFlightDiagnostic emitNodeError(mlir::Operation *node);

/// Reports what of the numbers of operands and results, and of the attributes,
/// is not as the operator has it. The verifier of the dialect does.
llvm::LogicalResult verifyNode(mlir::Operation *node);

/// Reports which operand has not the element type or rank that the operator
/// wants. Of a missing operand the type is null.
llvm::LogicalResult
verifyOperands(mlir::Operation *node,
               llvm::ArrayRef<mlir::RankedTensorType> types);

} // namespace tercet::onnx

#endif // TERCET_DIALECT_ONNX_OPERATORSCHEMAS_H
