// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerONNX/Constants.h"
#include "compiler/Conversion/LowerONNX/GraphBuilder.h"

#include "mlir/Dialect/Utils/IndexingUtils.h"
#include "mlir/IR/AsmState.h"
#include "mlir/IR/DialectResourceBlobManager.h"

using namespace mlir;
using namespace tercet;

ArrayRef<char> tercet::getRawBytes(ElementsAttr value) {
  if (auto resource = dyn_cast<DenseResourceElementsAttr>(value))
    return resource.getRawHandle().getBlob()->getData();
  return cast<DenseElementsAttr>(value).getRawData();
}

ElementsAttr tercet::toStorage(ElementsAttr value) {
  auto type = cast<RankedTensorType>(value.getType());
  Type element = type.getElementType();
  auto stored = type.clone(getStorageType(element));
  if (stored == type)
    return value;
  if (element.isInteger(1)) {
    SmallVector<int8_t> bytes;
    for (bool bit : cast<DenseElementsAttr>(value).getValues<bool>())
      bytes.push_back(bit);
    return DenseElementsAttr::get(stored, ArrayRef<int8_t>(bytes));
  }
  unsigned width = element.getIntOrFloatBitWidth();
  if (isa<IntegerType>(element) && width < 8) {
    SmallVector<int8_t> bytes;
    for (char byte : getRawBytes(value)) {
      auto high = uint8_t(uint8_t(byte) << (8 - width));
      bytes.push_back(element.isUnsignedInteger()
                          ? int8_t(high >> (8 - width))
                          : int8_t(int8_t(high) >> (8 - width)));
    }
    return DenseElementsAttr::get(stored, ArrayRef<int8_t>(bytes));
  }
  if (auto resource = dyn_cast<DenseResourceElementsAttr>(value))
    return DenseResourceElementsAttr::get(stored, resource.getRawHandle());
  return DenseElementsAttr::getFromRawBuffer(stored, getRawBytes(value));
}

ElementsAttr tercet::reshapeConstant(ElementsAttr value,
                                     RankedTensorType type) {
  if (auto resource = dyn_cast<DenseResourceElementsAttr>(value))
    return DenseResourceElementsAttr::get(type, resource.getRawHandle());
  return cast<DenseElementsAttr>(value).reshape(type);
}

/// `bytes` as a constant of the kind that `like` is.
static ElementsAttr copyConstant(ElementsAttr like, RankedTensorType type,
                                 ArrayRef<char> bytes) {
  if (!isa<DenseResourceElementsAttr>(like))
    return DenseElementsAttr::getFromRawBuffer(type, bytes);
  return DenseResourceElementsAttr::get(
      type, "derived",
      HeapAsmResourceBlob::allocateAndCopyWithAlign(bytes, /*align=*/64,
                                                    /*dataIsMutable=*/false));
}

ElementsAttr tercet::sliceRows(ElementsAttr value, RankedTensorType type,
                               int64_t first) {
  if (auto dense = dyn_cast<DenseElementsAttr>(value); dense && dense.isSplat())
    return dense.resizeSplat(type);
  size_t size = type.getNumElements() * (type.getElementTypeBitWidth() / 8);
  size_t rowSize = size / type.getDimSize(0);
  return copyConstant(value, type,
                      getRawBytes(value).slice(first * rowSize, size));
}

ElementsAttr tercet::transposeConstant(ElementsAttr value,
                                       RankedTensorType type,
                                       ArrayRef<int64_t> permutation) {
  if (auto dense = dyn_cast<DenseElementsAttr>(value); dense && dense.isSplat())
    return dense.reshape(type);
  ArrayRef<char> bytes = getRawBytes(value);
  size_t size = type.getElementTypeBitWidth() / 8;
  std::vector<char> moved(bytes.size());
  SmallVector<int64_t> strides =
      computeStrides(cast<RankedTensorType>(value.getType()).getShape());
  SmallVector<int64_t> shape(type.getShape()), index(type.getRank());
  for (size_t to = 0; to < moved.size(); to += size) {
    int64_t from = 0;
    for (auto [i, dim] : llvm::zip(index, permutation))
      from += i * strides[dim];
    memcpy(&moved[to], &bytes[from * size], size);
    for (int64_t dim = type.getRank() - 1; dim >= 0; --dim) {
      if (++index[dim] < shape[dim])
        break;
      index[dim] = 0;
    }
  }
  return copyConstant(value, type, moved);
}
