// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Support/ParameterReader.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/Endian.h"

#include <cmath>

using namespace llvm;
using namespace tercet;
using namespace tercet::ternary;

static Error failure(ParameterOp parameter, const Twine &message) {
  return createStringError("parameter '" + parameter.getSymName() +
                           "': " + message);
}

//===----------------------------------------------------------------------===//
// Floats
//===----------------------------------------------------------------------===//

static float widen(float value) { return value; }

struct BF16 {
  uint16_t bits;
};
static float widen(BF16 value) {
  return bit_cast<float>(uint32_t(value.bits) << 16);
}

struct F16 {
  uint16_t bits;
};
/// Multiplying by 2^112 rebases the exponent and normalises subnormals, both
/// exactly; only infinities and NaNs need their exponent completed.
static float widen(F16 value) {
  uint32_t magnitude = uint32_t(value.bits & 0x7fff) << 13;
  uint32_t bits = bit_cast<uint32_t>(bit_cast<float>(magnitude) * 0x1p112f);
  if ((value.bits & 0x7c00) == 0x7c00)
    bits |= 0x7f800000;
  return bit_cast<float>(bits | uint32_t(value.bits & 0x8000) << 16);
}

/// Source bytes have any alignment; memcpy of one element is a plain load.
template <typename T>
static void widenElements(const uint8_t *bytes, MutableArrayRef<float> floats) {
  for (float &result : floats) {
    T element;
    memcpy(&element, bytes, sizeof(T));
    result = widen(element);
    bytes += sizeof(T);
  }
}

void tercet::widenFloats(const uint8_t *bytes, Encoding encoding,
                         MutableArrayRef<float> floats) {
  if (encoding == Encoding::F32)
    return widenElements<float>(bytes, floats);
  if (encoding == Encoding::BF16)
    return widenElements<BF16>(bytes, floats);
  widenElements<F16>(bytes, floats);
}

static int64_t getFloatSize(Encoding encoding) {
  return encoding == Encoding::F32 ? 4 : 2;
}

/// Row p of the [C, H] table: cos(p * f_i), i < H/2, then sin(p * f_i).
static void readRopeTable(double theta, int64_t width, int64_t begin,
                          MutableArrayRef<float> floats) {
  int64_t half = width / 2;
  SmallVector<float> frequencies(half);
  for (int64_t i = 0; i < half; ++i) {
    double power =
        std::pow(double(float(theta)), double(float(2 * i) / float(width)));
    frequencies[i] = 1.0f / float(power);
  }
  for (auto [i, result] : enumerate(floats)) {
    int64_t position = (begin + i) / width, column = (begin + i) % width;
    double angle = float(position) * frequencies[column % half];
    result = float(column < half ? std::cos(angle) : std::sin(angle));
  }
}

Error ParameterReader::readFloats(ParameterOp parameter, int64_t begin,
                                  int64_t end, MutableArrayRef<float> floats) {
  auto type = cast<mlir::RankedTensorType>(parameter.getType());
  assert(0 <= begin && begin <= end && end <= type.getNumElements() &&
         int64_t(floats.size()) == end - begin && "range outside parameter");

  if (auto rope = dyn_cast<RopeTableAttr>(parameter.getValue())) {
    readRopeTable(rope.getTheta().getValueAsDouble(), type.getDimSize(1), begin,
                  floats);
    return Error::success();
  }
  if (auto source = dyn_cast<SourceAttr>(parameter.getValue());
      source && source.getEncoding() != Encoding::HFPacked) {
    Expected<ArrayRef<uint8_t>> bytes = rawBytes(parameter);
    if (!bytes)
      return bytes.takeError();
    widenFloats(bytes->data() + begin * getFloatSize(source.getEncoding()),
                source.getEncoding(), floats);
    return Error::success();
  }
  if (auto resource =
          dyn_cast<mlir::DenseResourceElementsAttr>(parameter.getValue());
      resource && type.getElementType().isF32()) {
    memcpy(floats.data(), resource.getData().data() + begin * sizeof(float),
           floats.size() * sizeof(float));
    return Error::success();
  }
  auto literal = dyn_cast<mlir::DenseElementsAttr>(parameter.getValue());
  if (!literal || !isa<mlir::FloatType>(literal.getElementType()))
    return failure(parameter, "does not hold floats");
  auto values = literal.getValues<APFloat>();
  for (auto [i, result] : enumerate(floats))
    result = float(values[begin + i].convertToDouble());
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Trits
//===----------------------------------------------------------------------===//

/// Decodes one plane of packed bytes; returns false if a code is 3. Written for
/// the vectoriser: no branch in the loop, a constant shift.
template <int Plane>
static bool decodePlane(const uint8_t *bytes, size_t size, int8_t *trits) {
  uint8_t invalid = 0;
  for (size_t i = 0; i < size; ++i) {
    uint8_t code = (bytes[i] >> (2 * Plane)) & 3;
    invalid |= code & (code >> 1);
    trits[i] = int8_t(code - 1);
  }
  return !invalid;
}

/// Logical row r + i * rows/4 is plane i of packed row r.
static Error readPackedTrits(ParameterOp parameter, ArrayRef<uint8_t> bytes,
                             int64_t numRows, int64_t numColumns, int64_t begin,
                             int64_t end, int8_t *trits) {
  static constexpr decltype(&decodePlane<0>) decode[] = {
      decodePlane<0>, decodePlane<1>, decodePlane<2>, decodePlane<3>};
  int64_t packedRows = numRows / 4;
  for (int64_t row = begin; row < end; ++row, trits += numColumns) {
    const uint8_t *packed = bytes.data() + row % packedRows * numColumns;
    if (decode[row / packedRows](packed, numColumns, trits))
      continue;
    int64_t column = std::find(trits, trits + numColumns, 2) - trits;
    return failure(parameter, "invalid ternary code 3 at row " + Twine(row) +
                                  ", column " + Twine(column));
  }
  return Error::success();
}

Error ParameterReader::readTrits(ParameterOp parameter, int64_t begin,
                                 int64_t end, MutableArrayRef<int8_t> trits) {
  auto type = cast<mlir::RankedTensorType>(parameter.getType());
  int64_t numRows = type.getDimSize(0), numColumns = type.getDimSize(1);
  assert(0 <= begin && begin <= end && end <= numRows &&
         int64_t(trits.size()) == (end - begin) * numColumns &&
         "range outside parameter");

  if (auto source = dyn_cast<SourceAttr>(parameter.getValue())) {
    Expected<ArrayRef<uint8_t>> bytes = rawBytes(parameter);
    if (!bytes)
      return bytes.takeError();
    if (source.getEncoding() == Encoding::HFPacked)
      return readPackedTrits(parameter, *bytes, numRows, numColumns, begin, end,
                             trits.data());
    if (!source.getAbsmean())
      return failure(parameter, "latent weights without an absmean");
    float scale = source.getAbsmean().getValue().convertToFloat();
    int64_t rowSize = numColumns * getFloatSize(source.getEncoding());
    SmallVector<float> latent(numColumns);
    for (int64_t row = begin; row < end; ++row) {
      widenFloats(bytes->data() + row * rowSize, source.getEncoding(), latent);
      int8_t *result = trits.data() + (row - begin) * numColumns;
      // clip(roundeven(w / g), -1, 1): a tie at +-0.5 goes to zero.
      for (int64_t i = 0; i < numColumns; ++i) {
        float ratio = latent[i] / scale;
        result[i] = int8_t((ratio > 0.5f) - (ratio < -0.5f));
      }
    }
    return Error::success();
  }
  if (auto resource =
          dyn_cast<mlir::DenseResourceElementsAttr>(parameter.getValue())) {
    ArrayRef<char> codes = resource.getData().slice(begin * numColumns);
    for (auto [code, result] : zip(codes, trits)) // the low two bits
      result = int8_t(code << 6) >> 6;
    return Error::success();
  }
  auto literal = dyn_cast<mlir::DenseElementsAttr>(parameter.getValue());
  if (!literal || !literal.getElementType().isInteger(2))
    return failure(parameter, "does not hold trits");
  auto values = literal.getValues<APInt>();
  for (auto [i, result] : enumerate(trits))
    result = int8_t(values[begin * numColumns + i].getSExtValue());
  return Error::success();
}

Expected<float> tercet::computeAbsmean(ParameterReader &reader,
                                       ParameterOp parameter) {
  constexpr int64_t kBlock = 4096, kLanes = 8;
  auto type = cast<mlir::RankedTensorType>(parameter.getType());
  int64_t count = type.getNumElements();
  double lanes[kLanes] = {};
  float block[kBlock];
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    int64_t size = std::min(kBlock, count - begin);
    if (Error error = reader.readFloats(parameter, begin, begin + size,
                                        {block, size_t(size)}))
      return std::move(error);
    std::fill(block + size, block + kBlock, 0.0f);
    for (int64_t i = 0; i < kBlock; i += kLanes)
      for (int64_t lane = 0; lane < kLanes; ++lane)
        lanes[lane] += std::fabs(block[i + lane]);
  }
  double sum = 0;
  for (double lane : lanes)
    sum += lane;
  return float(std::max(sum / double(count), 1e-5));
}

//===----------------------------------------------------------------------===//
// Files
//===----------------------------------------------------------------------===//

Expected<ArrayRef<uint8_t>> ParameterReader::rawBytes(ParameterOp parameter) {
  auto source = dyn_cast<SourceAttr>(parameter.getValue());
  if (!source)
    return failure(parameter, "is not stored in a file");
  MemoryBuffer *file;
  {
    std::scoped_lock lock(mutex);
    std::unique_ptr<MemoryBuffer> &entry = files[source.getPath()];
    if (!entry) {
      auto buffer = MemoryBuffer::getFile(source.getPath(), /*IsText=*/false,
                                          /*RequiresNullTerminator=*/false);
      if (!buffer)
        return createFileError(source.getPath(), buffer.getError());
      entry = std::move(*buffer);
    }
    file = entry.get();
  }
  // The frontend checked the range, but the file may have changed since.
  uint64_t fileSize = file->getBufferSize();
  if (source.getOffset() > fileSize ||
      source.getSize() > fileSize - source.getOffset())
    return failure(parameter, "'" + source.getPath() + "' is too short");
  return arrayRefFromStringRef(file->getBuffer())
      .slice(source.getOffset(), source.getSize());
}
