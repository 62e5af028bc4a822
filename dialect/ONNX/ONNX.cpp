// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "dialect/ONNX/ONNX.h"

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
