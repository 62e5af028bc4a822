// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Support/ParameterReader.h"
#include "dialect/Ternary/SourceEncoding.h"

#include "llvm/ADT/StringExtras.h"

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

/// Calls `decode` with the parts of a range of elements that are stored one
/// after another, and where each is stored.
static void
forEachRun(SourceAttr source, mlir::RankedTensorType type, int64_t begin,
           MutableArrayRef<float> floats,
           function_ref<void(int64_t, MutableArrayRef<float>)> decode) {
  if (source.getRotaryHeads() == 0)
    return decode(begin, floats);
  int64_t rows = type.getDimSize(0), columns = type.getDimSize(1);
  while (!floats.empty()) {
    int64_t row = begin / columns, column = begin % columns;
    size_t size = std::min<size_t>(columns - column, floats.size());
    decode(source.getStoredRow(row, rows) * columns + column,
           floats.take_front(size));
    floats = floats.drop_front(size);
    begin += int64_t(size);
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
  if (auto source = dyn_cast<SourceAttr>(parameter.getValue())) {
    Expected<ArrayRef<uint8_t>> bytes = rawBytes(parameter);
    if (!bytes)
      return bytes.takeError();
    bool isTernary = getEncodingInfo(source.getEncoding()).isTernary;
    if (isTernary && !type.getElementType().isF32())
      return failure(parameter, "does not hold floats");
    forEachRun(source, type, begin, floats, [&](int64_t at, auto run) {
      if (isTernary)
        decodeScales(source.getEncoding(), *bytes, type.getNumElements(), at,
                     run);
      else
        decodeFloats(source.getEncoding(), bytes->data(), at, run);
    });
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

Error ParameterReader::readRows(ParameterOp parameter, int64_t begin,
                                int64_t end, MutableArrayRef<uint8_t> rows) {
  Expected<ArrayRef<uint8_t>> bytes = rawBytes(parameter);
  if (!bytes)
    return bytes.takeError();
  auto source = cast<SourceAttr>(parameter.getValue());
  int64_t numRows =
      cast<mlir::RankedTensorType>(parameter.getType()).getDimSize(0);
  size_t rowSize = bytes->size() / numRows;
  assert(rows.size() == rowSize * (end - begin) && "whole rows");
  for (int64_t row = begin; row < end; ++row)
    memcpy(&rows[(row - begin) * rowSize],
           &(*bytes)[source.getStoredRow(row, numRows) * rowSize], rowSize);
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Trits
//===----------------------------------------------------------------------===//

/// Rows from `begin` on.
static Error readPackedTrits(ParameterOp parameter, SourceAttr source,
                             ArrayRef<uint8_t> bytes, int64_t begin,
                             MutableArrayRef<int8_t> trits) {
  auto type = cast<mlir::RankedTensorType>(parameter.getType());
  int64_t numRows = type.getDimSize(0), numColumns = type.getDimSize(1);
  for (int64_t row = begin; !trits.empty(); ++row) {
    MutableArrayRef<int8_t> result = trits.take_front(numColumns);
    trits = trits.drop_front(numColumns);
    if (decodeTrits(source.getEncoding(), bytes.data(), numRows,
                    source.getStoredRow(row, numRows), result))
      continue;
    int64_t column =
        std::find(result.begin(), result.end(), 2) - result.begin();
    return failure(parameter, "invalid ternary code 3 at row " + Twine(row) +
                                  ", column " + Twine(column));
  }
  return Error::success();
}

/// clip(roundeven(w / g), -1, 1): a tie at +-0.5 goes to zero.
static void readLatentTrits(SourceAttr source, ArrayRef<uint8_t> bytes,
                            int64_t numRows, int64_t numColumns, int64_t begin,
                            MutableArrayRef<int8_t> trits) {
  float scale = source.getAbsmean().getValue().convertToFloat();
  SmallVector<float> latent(numColumns);
  for (int64_t row = begin; !trits.empty(); ++row) {
    decodeFloats(source.getEncoding(), bytes.data(),
                 source.getStoredRow(row, numRows) * numColumns, latent);
    for (auto [weight, result] : zip(latent, trits)) {
      float ratio = weight / scale;
      result = int8_t((ratio > 0.5f) - (ratio < -0.5f));
    }
    trits = trits.drop_front(numColumns);
  }
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
    if (getEncodingInfo(source.getEncoding()).isTernary)
      return readPackedTrits(parameter, source, *bytes, begin, trits);
    if (!source.getAbsmean())
      return failure(parameter, "latent weights without an absmean");
    readLatentTrits(source, *bytes, numRows, numColumns, begin, trits);
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
