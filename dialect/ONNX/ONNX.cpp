// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "dialect/ONNX/ONNX.h"
#include "dialect/ONNX/OperatorSchemas.h"

#include "mlir/IR/AsmState.h"
#include "mlir/IR/DialectImplementation.h"

using namespace mlir;
using namespace tercet::onnx;

MLIR_DEFINE_EXPLICIT_TYPE_ID(tercet::onnx::ONNXDialect)
MLIR_DEFINE_EXPLICIT_TYPE_ID(tercet::onnx::UnknownType)

ONNXDialect::ONNXDialect(MLIRContext *context)
    : Dialect(getDialectNamespace(), context, TypeID::get<ONNXDialect>()) {
  addTypes<UnknownType>();
  allowUnknownOperations();
}

Type ONNXDialect::parseType(DialectAsmParser &parser) const {
  if (parser.parseKeyword("unknown"))
    return {};
  return UnknownType::get(getContext());
}

void ONNXDialect::printType(Type, DialectAsmPrinter &printer) const {
  printer << "unknown";
}

LogicalResult ONNXDialect::verifyOperationAttribute(Operation *op,
                                                    NamedAttribute attribute) {
  bool isNode = attribute.getName() == kVersionAttr && op->getDialect() == this;
  return isNode ? verifyNode(op) : success();
}

Type tercet::onnx::getElementType(MLIRContext *context, int64_t dataType) {
  auto getUnsigned = [&](unsigned width) {
    return IntegerType::get(context, width, IntegerType::Unsigned);
  };
  switch (dataType) {
  case 1:
    return Float32Type::get(context);
  case 2:
    return getUnsigned(8);
  case 3:
    return IntegerType::get(context, 8);
  case 4:
    return getUnsigned(16);
  case 5:
    return IntegerType::get(context, 16);
  case 6:
    return IntegerType::get(context, 32);
  case 7:
    return IntegerType::get(context, 64);
  case 9:
    return IntegerType::get(context, 1);
  case 10:
    return Float16Type::get(context);
  case 11:
    return Float64Type::get(context);
  case 12:
    return getUnsigned(32);
  case 13:
    return getUnsigned(64);
  case 16:
    return BFloat16Type::get(context);
  case 17:
    return Float8E4M3FNType::get(context);
  case 18:
    return Float8E4M3FNUZType::get(context);
  case 19:
    return Float8E5M2Type::get(context);
  case 20:
    return Float8E5M2FNUZType::get(context);
  case 21:
    return getUnsigned(4);
  case 22:
    return IntegerType::get(context, 4);
  case 23:
    return Float4E2M1FNType::get(context);
  case 24:
    return Float8E8M0FNUType::get(context);
  case 25:
    return getUnsigned(2);
  case 26:
    return IntegerType::get(context, 2);
  default:
    return {};
  }
}

StringRef tercet::onnx::getOpName(Operation *op) {
  return op->getName().stripDialect();
}

StringRef tercet::onnx::getNodeName(Operation *op) {
  auto name = dyn_cast<NameLoc>(op->getLoc());
  return name ? name.getName().getValue() : getOpName(op);
}

int64_t tercet::onnx::getVersion(Operation *op) {
  return getInt(op, kVersionAttr, 0);
}

int64_t tercet::onnx::getInt(Operation *op, StringRef name, int64_t otherwise) {
  auto attribute = op->getAttrOfType<IntegerAttr>(name);
  return attribute ? attribute.getInt() : otherwise;
}

float tercet::onnx::getFloat(Operation *op, StringRef name, float otherwise) {
  auto attribute = op->getAttrOfType<FloatAttr>(name);
  return attribute ? float(attribute.getValueAsDouble()) : otherwise;
}

StringRef tercet::onnx::getString(Operation *op, StringRef name,
                                  StringRef otherwise) {
  auto attribute = op->getAttrOfType<StringAttr>(name);
  return attribute ? attribute.getValue() : otherwise;
}

std::optional<ArrayRef<int64_t>> tercet::onnx::getInts(Operation *op,
                                                       StringRef name) {
  if (auto attribute = op->getAttrOfType<DenseI64ArrayAttr>(name))
    return attribute.asArrayRef();
  return std::nullopt;
}

static Operation *getDefiningOp(Value value, StringRef name) {
  Operation *op = value.getDefiningOp();
  return op && op->getName().getStringRef() == name ? op : nullptr;
}

bool tercet::onnx::isNone(Value value) { return getDefiningOp(value, kNoneOp); }

ElementsAttr tercet::onnx::getConstant(Value value) {
  Operation *op = getDefiningOp(value, kConstantOp);
  return op ? op->getAttrOfType<ElementsAttr>("value") : ElementsAttr();
}

/// Larger constants are resources, which are not uniqued.
static constexpr size_t kMaxDenseBytes = 4096;

ElementsAttr tercet::onnx::makeElements(RankedTensorType type,
                                        ArrayRef<char> bytes, StringRef name) {
  if (type.getElementType().isInteger(1)) {
    SmallVector<bool> values(
        llvm::map_range(bytes, [](char byte) { return byte != 0; }));
    return DenseElementsAttr::get(type, values);
  }
  if (bytes.size() <= kMaxDenseBytes)
    return DenseElementsAttr::getFromRawBuffer(type, bytes);
  return DenseResourceElementsAttr::get(
      type, name,
      HeapAsmResourceBlob::allocateAndCopyWithAlign(bytes, /*align=*/64));
}

Value tercet::onnx::createConstant(OpBuilder &b, Location loc,
                                   ElementsAttr value) {
  OperationState state(loc, kConstantOp, ValueRange(), value.getType(),
                       b.getNamedAttr("value", value));
  return b.create(state)->getResult(0);
}
