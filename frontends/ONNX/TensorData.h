// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From the types and tensors of ONNX to those of MLIR.

#ifndef TERCET_FRONTENDS_ONNX_TENSORDATA_H
#define TERCET_FRONTENDS_ONNX_TENSORDATA_H

#include "dialect/ONNX/ONNX.h"
#include "frontends/ONNX/ONNXReader.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"

namespace tercet::onnx {

/// "FLOAT", "INT2".
std::string printDataType(int32_t dataType);

/// The type of a value: a tensor, ranked if its shape is given, or
/// `!onnx.unknown` if it is not one, or absurdly large. Negative and symbolic
/// dimensions are dynamic.
mlir::Type getValueType(mlir::MLIRContext *context,
                        const proto::TypeProto &type);

/// The bytes of one element of an attribute: sub-byte ones have one each.
unsigned getElementBytes(mlir::Type elementType);

/// Attributes of at most this many bytes, and all of booleans, are dense;
/// others are resources.
inline constexpr uint64_t kMaxDenseBytes = 4096;

/// The value of a tensor; a resource is over the mapped file, unless elements
/// are smaller than a byte or in the field of their type. Its bytes may have
/// any alignment.
llvm::Expected<mlir::ElementsAttr>
convertTensor(mlir::MLIRContext *context, const proto::TensorProto &tensor,
              ONNXReader &reader);

/// The same for one that lists only some of its elements; the others are 0.
llvm::Expected<mlir::ElementsAttr>
convertSparseTensor(mlir::MLIRContext *context,
                    const proto::SparseTensorProto &tensor, ONNXReader &reader);

} // namespace tercet::onnx

#endif // TERCET_FRONTENDS_ONNX_TENSORDATA_H
