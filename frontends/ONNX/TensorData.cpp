// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/ONNX/TensorData.h"
#include "frontends/Support/InputError.h"

#include "mlir/IR/AsmState.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::onnx;
using llvm::Error;
using llvm::Expected;
using llvm::formatv;
using llvm::MemoryBuffer;
using llvm::StringRef;
using llvm::WritableMemoryBuffer;

std::string tercet::onnx::printDataType(int32_t dataType) {
  // Those that libonnx 1.12 does not know.
  static constexpr size_t kFirst = 17;
  static constexpr StringRef kNewerNames[] = {
      "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "UINT4",
      "INT4",         "FLOAT4E2M1",     "FLOAT8E8M0", "UINT2",          "INT2"};
  if (proto::TensorProto::DataType_IsValid(dataType))
    return proto::TensorProto::DataType_Name(dataType);
  if (size_t index = dataType - kFirst; index < std::size(kNewerNames))
    return kNewerNames[index].str();
  return formatv("data type {0}", dataType).str();
}

/// Elements of a shape with sizes or dynamic dimensions, which count as 1;
/// nothing if 64 bits cannot count their bits.
static std::optional<int64_t> getNumElements(ArrayRef<int64_t> shape) {
  int64_t count = 1;
  for (int64_t size : shape) {
    if (ShapedType::isDynamic(size))
      continue;
    if (size < 0 || llvm::MulOverflow(count, std::max<int64_t>(size, 1), count))
      return std::nullopt;
  }
  if (count > INT64_MAX / 64)
    return std::nullopt;
  return llvm::is_contained(shape, 0) ? 0 : count;
}

Type tercet::onnx::getValueType(MLIRContext *context,
                                const proto::TypeProto &type) {
  Type elementType =
      type.has_tensor_type()
          ? getElementType(context, type.tensor_type().elem_type())
          : Type();
  if (!elementType)
    return UnknownType::get(context);
  if (!type.tensor_type().has_shape())
    return UnrankedTensorType::get(elementType);
  SmallVector<int64_t> shape;
  for (const auto &dim : type.tensor_type().shape().dim())
    shape.push_back(dim.has_dim_value() && dim.dim_value() >= 0
                        ? dim.dim_value()
                        : ShapedType::kDynamic);
  if (!getNumElements(shape))
    return UnknownType::get(context);
  return RankedTensorType::get(shape, elementType);
}

/// As files have them: sub-byte elements are packed, booleans are bytes.
static unsigned getStoredBits(Type elementType) {
  return elementType.isInteger(1) ? 8 : elementType.getIntOrFloatBitWidth();
}

unsigned tercet::onnx::getElementBytes(Type elementType) {
  return llvm::divideCeil(elementType.getIntOrFloatBitWidth(), 8);
}

static ArrayRef<int64_t> getShape(const auto &tensor) {
  return ArrayRef(tensor.dims().data(), tensor.dims_size());
}

static Error tensorError(ONNXReader &reader, const proto::TensorProto &tensor,
                         const char *format, auto &&...arguments) {
  return inputError(
      formatv("{0}: tensor '{1}'", reader.getPath(), tensor.name()).str(),
      format, std::forward<decltype(arguments)>(arguments)...);
}

template <typename T>
static TensorBytes
viewBytes(const google::protobuf::RepeatedField<T> &elements) {
  return {StringRef(reinterpret_cast<const char *>(elements.data()),
                    elements.size() * sizeof(T)),
          nullptr};
}

static TensorBytes own(std::shared_ptr<MemoryBuffer> buffer) {
  StringRef bytes = buffer->getBuffer();
  return {bytes, std::move(buffer)};
}

/// The low `bytes` bytes of each element, the host being little-endian.
template <typename T>
static TensorBytes
narrowElements(const google::protobuf::RepeatedField<T> &elements,
               unsigned bytes) {
  std::shared_ptr<WritableMemoryBuffer> buffer =
      WritableMemoryBuffer::getNewUninitMemBuffer(elements.size() * bytes);
  for (auto [index, element] : llvm::enumerate(elements))
    memcpy(buffer->getBufferStart() + index * bytes, &element, bytes);
  return own(std::move(buffer));
}

/// The bytes of a tensor whose elements are in the field of their type.
static TensorBytes getTypedData(const proto::TensorProto &tensor,
                                Type elementType) {
  switch (tensor.data_type()) {
  case proto::TensorProto::FLOAT:
    return viewBytes(tensor.float_data());
  case proto::TensorProto::DOUBLE:
    return viewBytes(tensor.double_data());
  case proto::TensorProto::INT64:
    return viewBytes(tensor.int64_data());
  case proto::TensorProto::UINT64:
    return viewBytes(tensor.uint64_data());
  case proto::TensorProto::UINT32:
    return narrowElements(tensor.uint64_data(), 4);
  default: // sub-byte ones have a packed byte an entry
    return narrowElements(tensor.int32_data(), getElementBytes(elementType));
  }
}

/// Spreads elements of 2 or 4 bits, the first in the lowest bits of a byte, to
/// a byte each. As in MLIR's attributes the other bits are 0.
static TensorBytes unpack(StringRef packed, unsigned bits, int64_t count) {
  std::shared_ptr<WritableMemoryBuffer> buffer =
      WritableMemoryBuffer::getNewUninitMemBuffer(count);
  for (int64_t i = 0; i < count; ++i)
    buffer->getBufferStart()[i] =
        uint8_t(packed[i * bits / 8]) >> (i * bits % 8) & ((1 << bits) - 1);
  return own(std::move(buffer));
}

static Expected<RankedTensorType> getType(MLIRContext *context,
                                          const proto::TensorProto &tensor,
                                          ONNXReader &reader) {
  Type elementType = getElementType(context, tensor.data_type());
  if (!elementType)
    return tensorError(reader, tensor,
                       "has elements of {0}, which are not "
                       "supported",
                       printDataType(tensor.data_type()));
  if (tensor.has_segment())
    return tensorError(reader, tensor,
                       "is one segment of a tensor; only whole tensors are "
                       "supported");
  ArrayRef<int64_t> shape = getShape(tensor);
  if (!getNumElements(shape) || llvm::is_contained(shape, ShapedType::kDynamic))
    return tensorError(reader, tensor,
                       "has shape {0}, which no tensor can have",
                       printShape(shape));
  return RankedTensorType::get(shape, elementType);
}

/// The elements of a tensor, each in whole bytes.
static Expected<TensorBytes> getElements(const proto::TensorProto &tensor,
                                         RankedTensorType type,
                                         ONNXReader &reader) {
  unsigned bits = getStoredBits(type.getElementType());
  uint64_t size = llvm::divideCeil(type.getNumElements() * bits, 8);
  Expected<std::optional<TensorBytes>> bytes = reader.getBytes(tensor, size);
  if (!bytes)
    return bytes.takeError();
  TensorBytes data =
      *bytes ? std::move(**bytes) : getTypedData(tensor, type.getElementType());
  if (data.bytes.size() != size)
    return tensorError(reader, tensor,
                       "has {0} bytes of data, but {1} of shape {2} needs {3}",
                       data.bytes.size(), printDataType(tensor.data_type()),
                       printShape(type.getShape()), size);
  if (bits < 8)
    return unpack(data.bytes, bits, type.getNumElements());
  return data;
}

static ElementsAttr makeAttribute(RankedTensorType type, TensorBytes data,
                                  StringRef name) {
  if (type.getElementType().isInteger(1)) {
    SmallVector<bool> values(
        llvm::map_range(data.bytes, [](char byte) { return byte != 0; }));
    return DenseElementsAttr::get(type, values);
  }
  ArrayRef<char> bytes(data.bytes.data(), data.bytes.size());
  if (bytes.size() <= kMaxDenseBytes)
    return DenseElementsAttr::getFromRawBuffer(type, bytes);
  // Those of an initializer begin anywhere in the file.
  AsmResourceBlob blob =
      data.owner ? AsmResourceBlob(
                       bytes, /*dataAlignment=*/1,
                       [owner = data.owner](void *, size_t, size_t) {},
                       /*dataIsMutable=*/false)
                 : HeapAsmResourceBlob::allocateAndCopyWithAlign(
                       bytes, getElementBytes(type.getElementType()),
                       /*dataIsMutable=*/false);
  return DenseResourceElementsAttr::get(type, name.empty() ? "tensor" : name,
                                        std::move(blob));
}

Expected<ElementsAttr>
tercet::onnx::convertTensor(MLIRContext *context,
                            const proto::TensorProto &tensor,
                            ONNXReader &reader) {
  Expected<RankedTensorType> type = getType(context, tensor, reader);
  if (!type)
    return type.takeError();
  Expected<TensorBytes> data = getElements(tensor, *type, reader);
  if (!data)
    return data.takeError();
  return makeAttribute(*type, std::move(*data), tensor.name());
}

/// The position of each value in the dense tensor, -1 if it lies outside.
/// Indices are positions already, or a row of coordinates each.
static SmallVector<int64_t> getPositions(StringRef indices, size_t numValues,
                                         ArrayRef<int64_t> shape,
                                         bool areCoordinates) {
  SmallVector<int64_t> positions;
  int64_t numElements = *getNumElements(shape);
  auto readIndex = [&] {
    int64_t index = llvm::support::endian::read64le(indices.data());
    indices = indices.drop_front(sizeof(index));
    return index;
  };
  for (size_t i = 0; i < numValues; ++i) {
    int64_t position = 0;
    bool isInside = true;
    if (areCoordinates) {
      for (int64_t size : shape) {
        int64_t index = readIndex();
        isInside &= index >= 0 && index < size;
        position = isInside ? position * size + index : 0;
      }
    } else {
      position = readIndex();
      isInside = position >= 0 && position < numElements;
    }
    positions.push_back(isInside ? position : -1);
  }
  return positions;
}

Expected<ElementsAttr>
tercet::onnx::convertSparseTensor(MLIRContext *context,
                                  const proto::SparseTensorProto &tensor,
                                  ONNXReader &reader) {
  constexpr int64_t maxBytes = 1 << 28;
  const proto::TensorProto &valuesProto = tensor.values();
  Expected<RankedTensorType> valuesType = getType(context, valuesProto, reader);
  if (!valuesType)
    return valuesType.takeError();
  Expected<RankedTensorType> indicesType =
      getType(context, tensor.indices(), reader);
  if (!indicesType)
    return indicesType.takeError();

  ArrayRef<int64_t> shape = getShape(tensor);
  bool areCoordinates = indicesType->getRank() != 1;
  int64_t numValues = valuesType->getNumElements();
  unsigned elementBytes = getElementBytes(valuesType->getElementType());
  if (!indicesType->getElementType().isInteger(64) ||
      indicesType->getNumElements() !=
          numValues * int64_t(areCoordinates ? shape.size() : 1))
    return tensorError(reader, valuesProto,
                       "is sparse with {0} values, which need as many int64 "
                       "indices",
                       numValues);
  std::optional<int64_t> numElements = getNumElements(shape);
  if (!numElements || llvm::is_contained(shape, ShapedType::kDynamic) ||
      *numElements > maxBytes / elementBytes)
    return tensorError(reader, valuesProto,
                       "is sparse of shape {0}, which is more than the {1} "
                       "bytes that are supported",
                       printShape(shape), maxBytes);
  Expected<TensorBytes> values = getElements(valuesProto, *valuesType, reader);
  if (!values)
    return values.takeError();
  Expected<TensorBytes> indices =
      getElements(tensor.indices(), *indicesType, reader);
  if (!indices)
    return indices.takeError();

  std::shared_ptr<WritableMemoryBuffer> dense =
      WritableMemoryBuffer::getNewMemBuffer(*numElements * elementBytes);
  for (auto [i, position] : llvm::enumerate(
           getPositions(indices->bytes, numValues, shape, areCoordinates))) {
    if (position < 0)
      return tensorError(reader, valuesProto,
                         "is sparse, and its index {0} lies outside shape {1}",
                         i, printShape(shape));
    memcpy(dense->getBufferStart() + position * elementBytes,
           values->bytes.data() + i * elementBytes, elementBytes);
  }
  return makeAttribute(
      RankedTensorType::get(shape, valuesType->getElementType()),
      own(std::move(dense)), valuesProto.name());
}
