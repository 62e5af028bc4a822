// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Inspect/CheckParameters.h"
#include "compiler/Inspect/PackedTrits.h"
#include "compiler/Support/ParameterReader.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Parallel.h"

using namespace llvm;
using namespace tercet;
using namespace tercet::ternary;

namespace {

/// A range of a parameter's bytes, small enough to be shared out evenly.
struct Chunk {
  mutable ParameterOp parameter; // an op's accessors are not const
  SourceAttr source;
  ArrayRef<uint8_t> parameterBytes;
  size_t begin, size;
  bool invalid = false;
  uint64_t zeros = 0;

  ArrayRef<uint8_t> bytes() const { return parameterBytes.slice(begin, size); }
};

} // namespace

constexpr size_t kChunkBytes = 1 << 20;

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

static void check(Chunk &chunk) {
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
  }
}

template <typename... Ts>
static Error failure(const Chunk &chunk, const char *format, Ts &&...args) {
  std::string where = formatv("{0}: tensor '{1}': ", chunk.source.getPath(),
                              chunk.parameter.getSymName());
  return createStringError(where +
                           formatv(format, std::forward<Ts>(args)...).str());
}

static Error describeInvalid(const Chunk &chunk) {
  ArrayRef<uint8_t> bytes = chunk.bytes();
  auto type = cast<mlir::RankedTensorType>(chunk.parameter.getType());
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
    for (size_t at = 0; at < bytes->size(); at += kChunkBytes)
      chunks.push_back({parameter, source, *bytes, at,
                        std::min(kChunkBytes, bytes->size() - at)});
  }
  parallelFor(0, chunks.size(), [&](size_t i) { check(chunks[i]); });

  // Sequential from here, so that the error does not depend on the threads.
  uint64_t zeros = 0;
  for (const Chunk &chunk : chunks) {
    if (chunk.invalid)
      return describeInvalid(chunk);
    zeros = chunk.begin == 0 ? chunk.zeros : zeros + chunk.zeros;
    bool last = chunk.begin + chunk.size == chunk.parameterBytes.size();
    if (chunk.source.getEncoding() == Encoding::HFPacked && last &&
        isSignOnly(zeros, 4 * chunk.parameterBytes.size()))
      return failure(chunk,
                     "only {0} of {1} weights are zero; this is no ternary "
                     "matrix but the signs of one: convert the model again",
                     zeros, 4 * chunk.parameterBytes.size());
  }
  return Error::success();
}
