// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Support/GraphSignature.h"
#include "dialect/ONNX/ONNX.h"

#include "llvm/ADT/TypeSwitch.h"
#include <map>
#include <optional>

using namespace mlir;
using namespace tercet;

static std::optional<tercet_element> getIntegerElement(IntegerType type) {
  bool isUnsigned = type.isUnsigned();
  switch (type.getWidth()) {
  case 1:
    return TERCET_ELEMENT_BOOL;
  case 2:
    return isUnsigned ? TERCET_ELEMENT_UI2 : TERCET_ELEMENT_I2;
  case 4:
    return isUnsigned ? TERCET_ELEMENT_UI4 : TERCET_ELEMENT_I4;
  case 8:
    return isUnsigned ? TERCET_ELEMENT_UI8 : TERCET_ELEMENT_I8;
  case 16:
    return isUnsigned ? TERCET_ELEMENT_UI16 : TERCET_ELEMENT_I16;
  case 32:
    return isUnsigned ? TERCET_ELEMENT_UI32 : TERCET_ELEMENT_I32;
  case 64:
    return isUnsigned ? TERCET_ELEMENT_UI64 : TERCET_ELEMENT_I64;
  default:
    return std::nullopt;
  }
}

static std::optional<tercet_element> getElement(Type type) {
  using Element = std::optional<tercet_element>;
  return llvm::TypeSwitch<Type, Element>(type)
      .Case([](IntegerType type) { return getIntegerElement(type); })
      .Case([](Float32Type) { return TERCET_ELEMENT_F32; })
      .Case([](Float64Type) { return TERCET_ELEMENT_F64; })
      .Case([](Float16Type) { return TERCET_ELEMENT_F16; })
      .Case([](BFloat16Type) { return TERCET_ELEMENT_BF16; })
      .Case([](Float8E4M3FNType) { return TERCET_ELEMENT_F8E4M3FN; })
      .Case([](Float8E4M3FNUZType) { return TERCET_ELEMENT_F8E4M3FNUZ; })
      .Case([](Float8E5M2Type) { return TERCET_ELEMENT_F8E5M2; })
      .Case([](Float8E5M2FNUZType) { return TERCET_ELEMENT_F8E5M2FNUZ; })
      .Case([](Float8E8M0FNUType) { return TERCET_ELEMENT_F8E8M0FNU; })
      .Case([](Float4E2M1FNType) { return TERCET_ELEMENT_F4E2M1FN; })
      .Default(std::nullopt);
}

/// `kind` is "input" or "output".
static FailureOr<GraphTensor> getTensor(func::FuncOp graph, StringRef kind,
                                        DictionaryAttr attributes) {
  auto name = attributes.getAs<StringAttr>(onnx::kNameAttr);
  auto type = attributes.getAs<TypeAttr>(onnx::kTypeAttr);
  if (!name || !type)
    return graph.emitOpError("expected ")
           << onnx::kNameAttr << " and " << onnx::kTypeAttr << " of each "
           << kind;
  auto fail = [&]() -> InFlightDiagnostic {
    return mlir::emitError(graph.getLoc())
           << kind << " '" << name.getValue() << "' ";
  };
  GraphTensor tensor;
  tensor.name = name.str();
  tensor.type = dyn_cast<RankedTensorType>(type.getValue());
  if (!tensor.type)
    return fail() << "has no known rank";
  if (tensor.type.getRank() > TERCET_MAX_RANK)
    return fail() << "has rank " << tensor.type.getRank() << "; at most "
                  << TERCET_MAX_RANK << " is supported";
  auto element = getElement(tensor.type.getElementType());
  if (!element)
    return fail() << "has elements of type " << tensor.type.getElementType()
                  << ", which is not supported";
  tensor.element = *element;
  tensor.symbols.resize(tensor.type.getRank());
  auto dims = attributes.getAs<ArrayAttr>(onnx::kDimsAttr);
  if (dims && dims.size() == tensor.symbols.size())
    for (auto [axis, dim] : llvm::enumerate(dims.getAsRange<StringAttr>()))
      if (tensor.type.isDynamicDim(axis))
        tensor.symbols[axis] = dim.str();
  return tensor;
}

FailureOr<GraphSignature> GraphSignature::get(func::FuncOp graph) {
  auto attributesOf = [&](ArrayAttr all, unsigned index) {
    return all ? cast<DictionaryAttr>(all[index])
               : DictionaryAttr::get(graph.getContext());
  };
  GraphSignature signature;
  for (unsigned i = 0; i < graph.getNumArguments(); ++i) {
    auto tensor =
        getTensor(graph, "input", attributesOf(graph.getArgAttrsAttr(), i));
    if (failed(tensor))
      return failure();
    signature.inputs.push_back(*tensor);
  }
  for (unsigned i = 0; i < graph.getNumResults(); ++i) {
    auto tensor =
        getTensor(graph, "output", attributesOf(graph.getResAttrsAttr(), i));
    if (failed(tensor))
      return failure();
    signature.outputs.push_back(*tensor);
  }
  return signature;
}

namespace {
/// Zero-terminated strings, each once.
class StringTable {
public:
  explicit StringTable(size_t start) : start(start) {}

  /// Where it is in the section.
  uint32_t add(const std::string &text) {
    auto [entry, isNew] = offsets.try_emplace(text, start + bytes.size());
    if (isNew)
      bytes.append(text.c_str(), text.size() + 1);
    return entry->second;
  }

  std::string bytes;

private:
  size_t start;
  std::map<std::string, uint32_t> offsets;
};
} // namespace

std::string GraphSignature::encode() const {
  size_t numTensors = inputs.size() + outputs.size();
  StringTable strings(sizeof(tercet_signature) +
                      numTensors * sizeof(tercet_signature_tensor));
  tercet_signature head = {static_cast<uint32_t>(inputs.size()),
                           static_cast<uint32_t>(outputs.size())};
  std::string bytes(reinterpret_cast<const char *>(&head), sizeof head);
  for (const auto *tensors : {&inputs, &outputs})
    for (const GraphTensor &tensor : *tensors) {
      tercet_signature_tensor entry = {};
      entry.name = strings.add(tensor.name);
      entry.element = tensor.element;
      entry.rank = tensor.type.getRank();
      for (auto [axis, extent] : llvm::enumerate(tensor.type.getShape()))
        entry.dims[axis] = ShapedType::isDynamic(extent)
                               ? -1 - int64_t(strings.add(tensor.symbols[axis]))
                               : extent;
      bytes.append(reinterpret_cast<const char *>(&entry), sizeof entry);
    }
  return bytes + strings.bytes;
}
