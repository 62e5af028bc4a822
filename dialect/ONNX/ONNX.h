// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// ONNX graphs as the file has them. No operation is registered: a node
//
//   %y:2 = "onnx.Split"(%x, %sizes) {axis = 1 : i64, onnx.version = 18 : i64}
//
// is its operator, its attributes under their own names, and the version of the
// operator set that the model imports. "onnx.None" is a missing optional input,
// "onnx.Constant" an initializer. The types of results are what the file says
// of them, often nothing: hints.

#ifndef TERCET_DIALECT_ONNX_ONNX_H
#define TERCET_DIALECT_ONNX_ONNX_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/Operation.h"

namespace tercet::onnx {

class ONNXDialect : public mlir::Dialect {
public:
  explicit ONNXDialect(mlir::MLIRContext *context);
  static constexpr llvm::StringLiteral getDialectNamespace() { return "onnx"; }

  mlir::Type parseType(mlir::DialectAsmParser &parser) const override;
  void printType(mlir::Type type,
                 mlir::DialectAsmPrinter &printer) const override;
  /// Checks each node by its operator's schema.
  llvm::LogicalResult
  verifyOperationAttribute(mlir::Operation *op,
                           mlir::NamedAttribute attribute) override;
};

/// `!onnx.unknown`: of a value whose type neither file nor inference tells.
class UnknownType
    : public mlir::Type::TypeBase<UnknownType, mlir::Type, mlir::TypeStorage> {
public:
  using Base::Base;
  static constexpr llvm::StringLiteral name = "onnx.unknown";
};

// Attributes of operations and of the arguments and results of @graph.
inline constexpr llvm::StringLiteral kNameAttr = "onnx.name";
inline constexpr llvm::StringLiteral kDimsAttr = "onnx.dims";
inline constexpr llvm::StringLiteral kTypeAttr = "onnx.type";
inline constexpr llvm::StringLiteral kVersionAttr = "onnx.version";
inline constexpr llvm::StringLiteral kRegionsAttr = "onnx.regions";
inline constexpr llvm::StringLiteral kIRVersionAttr = "onnx.ir_version";

inline constexpr llvm::StringLiteral kGraphName = "graph";
inline constexpr llvm::StringLiteral kConstantOp = "onnx.Constant";
inline constexpr llvm::StringLiteral kNoneOp = "onnx.None";
inline constexpr llvm::StringLiteral kYieldOp = "onnx.yield";
// What RecognizeBitLinear makes; a convolution may have a scale for each image.
inline constexpr llvm::StringLiteral kBitLinearOp = "onnx.ternary.bit_linear";
inline constexpr llvm::StringLiteral kTernaryMatMulOp = "onnx.ternary.matmul";
inline constexpr llvm::StringLiteral kTernaryConvOp = "onnx.ternary.conv";

/// The type of a TensorProto.DataType, null if no tensor of it is supported
/// (strings, complex numbers). Signed integers are signless.
mlir::Type getElementType(mlir::MLIRContext *context, int64_t dataType);

/// "MatMul", "com.microsoft.MatMulNBits".
llvm::StringRef getOpName(mlir::Operation *op);

/// The name of the node, or of its first output when it has none.
llvm::StringRef getNodeName(mlir::Operation *op);

/// The version of the operator set of the node's domain.
int64_t getVersion(mlir::Operation *op);

/// Attributes of a node; the default also stands for one of another type.
int64_t getInt(mlir::Operation *op, llvm::StringRef name, int64_t otherwise);
float getFloat(mlir::Operation *op, llvm::StringRef name, float otherwise);
llvm::StringRef getString(mlir::Operation *op, llvm::StringRef name,
                          llvm::StringRef otherwise);
std::optional<llvm::ArrayRef<int64_t>> getInts(mlir::Operation *op,
                                               llvm::StringRef name);

/// Whether an optional input is missing.
bool isNone(mlir::Value value);

/// The value of an "onnx.Constant", else null.
mlir::ElementsAttr getConstant(mlir::Value value);

/// A constant with a copy of `bytes`, in the layout of DenseElementsAttr but
/// for i1: a byte each. A large one is a resource, called `name` or similar.
mlir::ElementsAttr makeElements(mlir::RankedTensorType type,
                                llvm::ArrayRef<char> bytes,
                                llvm::StringRef name);

mlir::Value createConstant(mlir::OpBuilder &b, mlir::Location loc,
                           mlir::ElementsAttr value);

} // namespace tercet::onnx

MLIR_DECLARE_EXPLICIT_TYPE_ID(tercet::onnx::ONNXDialect)
MLIR_DECLARE_EXPLICIT_TYPE_ID(tercet::onnx::UnknownType)

#endif // TERCET_DIALECT_ONNX_ONNX_H
