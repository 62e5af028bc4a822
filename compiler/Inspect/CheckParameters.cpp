// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Inspect/CheckParameters.h"
#include "compiler/Inspect/PackedTrits.h"
#include "compiler/Support/ParameterReader.h"
#include "dialect/Ternary/SourceEncoding.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Parallel.h"

#include <cmath>

using namespace llvm;
using namespace tercet;
using namespace tercet::ternary;

namespace {

/// A range of a parameter's bytes, or of its rows where only what they decode
/// to can be judged; small enough to be shared out evenly.
struct Chunk {
  mutable ParameterOp parameter; // an op's accessors are not const
  SourceAttr source;
  ArrayRef<uint8_t> parameterBytes;
  size_t begin, size;
  bool invalid = false;
  uint64_t zeros = 0;

  mlir::RankedTensorType type() const {
    return cast<mlir::RankedTensorType>(parameter.getType());
  }
  ArrayRef<uint8_t> bytes() const { return parameterBytes.slice(begin, size); }
};

} // namespace

constexpr size_t kChunkBytes = 1 << 20, kChunkElements = 1 << 20;

static bool isDecoded(SourceAttr source) {
  return !is_contained(
      {Encoding::F32, Encoding::F16, Encoding::BF16, Encoding::HFPacked},
      source.getEncoding());
}

/// Whether a float has all bits of `Exponent` set: infinity or NaN.
template <typename Word, Word Exponent>
static bool isInvalid(const uint8_t *bytes) {
  Word word;
  memcpy(&word, bytes, sizeof(Word));
  return (word & Exponent) == Exponent;
}

template <typename Word, Word Exponent>
static bool anyInvalid(ArrayRef<uint8_t> bytes) {
  bool invalid = false; // no early exit: the loop is vectorised
  for (size_t i = 0; i + sizeof(Word) <= bytes.size(); i += sizeof(Word))
    invalid |= isInvalid<Word, Exponent>(bytes.data() + i);
  return invalid;
}

/// The index of the first byte of an invalid element.
template <typename Word, Word Exponent>
static size_t findInvalid(ArrayRef<uint8_t> bytes) {
  size_t i = 0;
  while (!isInvalid<Word, Exponent>(bytes.data() + i))
    i += sizeof(Word);
  return i;
}

/// The first element of a row that is no trit and no finite number.
static std::optional<int64_t> findInvalid(ParameterReader &reader,
                                          const Chunk &chunk, int64_t row,
                                          uint64_t &zeros) {
  int64_t columns = chunk.type().getShape().back();
  if (chunk.type().getElementType().isInteger(2)) {
    std::vector<int8_t> trits(columns);
    Error error = reader.readTrits(chunk.parameter, row, row + 1, trits);
    zeros += llvm::count(trits, 0);
    if (!error)
      return std::nullopt;
    consumeError(std::move(error));
    return llvm::find(trits, 2) - trits.begin();
  }
  std::vector<float> floats(columns);
  if (Error error = reader.readFloats(chunk.parameter, row * columns,
                                      (row + 1) * columns, floats))
    return consumeError(std::move(error)), 0;
  auto it = llvm::find_if_not(floats,
                              [](float value) { return std::isfinite(value); });
  return it == floats.end() ? std::nullopt : std::optional(it - floats.begin());
}

static void checkRows(ParameterReader &reader, Chunk &chunk) {
  for (size_t row = chunk.begin; row < chunk.begin + chunk.size; ++row)
    chunk.invalid |=
        findInvalid(reader, chunk, int64_t(row), chunk.zeros).has_value();
}

static void check(ParameterReader &reader, Chunk &chunk) {
  switch (chunk.source.getEncoding()) {
  case Encoding::F32:
    chunk.invalid = anyInvalid<uint32_t, 0x7f800000>(chunk.bytes());
    return;
  case Encoding::F16:
    chunk.invalid = anyInvalid<uint16_t, 0x7c00>(chunk.bytes());
    return;
  case Encoding::BF16:
    chunk.invalid = anyInvalid<uint16_t, 0x7f80>(chunk.bytes());
    return;
  case Encoding::HFPacked:
    chunk.invalid = anyCode3(chunk.bytes());
    chunk.zeros = countZeroTrits(chunk.bytes());
    return;
  default:
    return checkRows(reader, chunk);
  }
}

template <typename... Ts>
static Error failure(const Chunk &chunk, const char *format, Ts &&...args) {
  std::string where = formatv("{0}: tensor '{1}': ", chunk.source.getPath(),
                              chunk.parameter.getSymName());
  return createStringError(where +
                           formatv(format, std::forward<Ts>(args)...).str());
}

static Error describeInvalidRows(ParameterReader &reader, const Chunk &chunk) {
  std::optional<int64_t> column;
  uint64_t zeros = 0;
  auto row = int64_t(chunk.begin);
  while (!(column = findInvalid(reader, chunk, row, zeros)))
    ++row;
  if (chunk.type().getElementType().isInteger(2))
    return failure(chunk,
                   "row {0}, column {1} has the invalid code 3; the file is "
                   "damaged, or not of type {2}",
                   row, *column, stringifyEncoding(chunk.source.getEncoding()));
  return failure(chunk,
                 "row {0}, column {1} is infinite or not a number; the file is "
                 "damaged",
                 row, *column);
}

static Error describeInvalid(ParameterReader &reader, const Chunk &chunk) {
  if (isDecoded(chunk.source))
    return describeInvalidRows(reader, chunk);
  ArrayRef<uint8_t> bytes = chunk.bytes();
  mlir::RankedTensorType type = chunk.type();
  Encoding encoding = chunk.source.getEncoding();
  if (encoding == Encoding::HFPacked) {
    size_t at = 0;
    while (!anyCode3(bytes.slice(at, 1)))
      ++at;
    unsigned plane = 0;
    while ((bytes[at] >> 2 * plane & 3) != 3)
      ++plane;
    int64_t columns = type.getDimSize(1), packed = chunk.begin + at;
    return failure(chunk,
                   "row {0}, column {1} has the invalid code 3; the file is "
                   "damaged, or not packed as transformers packs",
                   packed / columns + plane * (type.getDimSize(0) / 4),
                   packed % columns);
  }
  size_t at =
      encoding == Encoding::F32   ? findInvalid<uint32_t, 0x7f800000>(bytes) / 4
      : encoding == Encoding::F16 ? findInvalid<uint16_t, 0x7c00>(bytes) / 2
                                  : findInvalid<uint16_t, 0x7f80>(bytes) / 2;
  at += chunk.begin / (encoding == Encoding::F32 ? 4 : 2);
  int64_t columns = type.getShape().back();
  std::string where =
      type.getRank() == 2
          ? formatv("row {0}, column {1}", at / columns, at % columns).str()
          : formatv("element {0}", at).str();
  return failure(chunk, "{0} is infinite or not a number; the file is damaged",
                 where);
}

/// Divides a parameter into chunks.
static void addChunks(ParameterOp parameter, SourceAttr source,
                      ArrayRef<uint8_t> bytes, std::vector<Chunk> &chunks) {
  size_t end = bytes.size(), step = kChunkBytes;
  if (isDecoded(source)) {
    auto type = cast<mlir::RankedTensorType>(parameter.getType());
    auto columns = size_t(type.getShape().back());
    end = type.getNumElements() / columns;
    step = std::max<size_t>(kChunkElements / columns, 1);
  }
  for (size_t at = 0; at < end; at += step)
    chunks.push_back({parameter, source, bytes, at, std::min(step, end - at)});
}

Error tercet::checkParameters(mlir::ModuleOp module) {
  ParameterReader reader;
  std::vector<Chunk> chunks;
  for (auto parameter : module.getOps<ParameterOp>()) {
    auto source = dyn_cast<SourceAttr>(parameter.getValue());
    if (!source)
      continue;
    Expected<ArrayRef<uint8_t>> bytes = reader.rawBytes(parameter);
    if (!bytes)
      return bytes.takeError();
    addChunks(parameter, source, *bytes, chunks);
  }
  parallelFor(0, chunks.size(), [&](size_t i) { check(reader, chunks[i]); });

  // Sequential from here, so that the error does not depend on the threads.
  uint64_t zeros = 0;
  for (const auto &[index, chunk] : enumerate(chunks)) {
    if (chunk.invalid)
      return describeInvalid(reader, chunk);
    zeros = chunk.begin == 0 ? chunk.zeros : zeros + chunk.zeros;
    bool last = index + 1 == chunks.size() || chunks[index + 1].begin == 0;
    uint64_t count = chunk.type().getNumElements();
    if (last && getEncodingInfo(chunk.source.getEncoding()).isTernary &&
        chunk.type().getElementType().isInteger(2) && isSignOnly(zeros, count))
      return failure(chunk,
                     "only {0} of {1} weights are zero; this is no ternary "
                     "matrix but the signs of one: convert the model again",
                     zeros, count);
  }
  return Error::success();
}
