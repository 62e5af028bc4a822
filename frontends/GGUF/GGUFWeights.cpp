// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/GGUF/GGUFWeights.h"
#include "dialect/Ternary/SourceEncoding.h"
#include "frontends/Support/InputError.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/MathExtras.h"
#include <cmath>

using namespace llvm;
using namespace tercet;
using ternary::Encoding;

std::optional<Encoding> tercet::getEncoding(const GGMLType &type) {
  static constexpr std::pair<StringLiteral, Encoding> encodings[] = {
      {"F32", Encoding::F32},       {"F16", Encoding::F16},
      {"BF16", Encoding::BF16},     {"I2_S", Encoding::I2S},
      {"TQ1_0", Encoding::TQ1_0},   {"TQ2_0", Encoding::TQ2_0},
      {"IQ1_BN", Encoding::IQ1_BN}, {"IQ2_BN", Encoding::IQ2_BN},
      {"Q4_0", Encoding::Q4_0},     {"Q4_1", Encoding::Q4_1},
      {"Q5_0", Encoding::Q5_0},     {"Q5_1", Encoding::Q5_1},
      {"Q8_0", Encoding::Q8_0},     {"Q4_K", Encoding::Q4_K},
      {"Q5_K", Encoding::Q5_K},     {"Q6_K", Encoding::Q6_K},
  };
  for (const auto &[name, encoding] : encodings)
    if (name == type.name)
      return encoding;
  return std::nullopt;
}

std::string tercet::describe(const GGUFTensor &tensor) {
  return formatv("{0}: tensor '{1}'", tensor.path, tensor.name);
}

//===----------------------------------------------------------------------===//
// Scales of ternary types
//===----------------------------------------------------------------------===//

/// The f32 behind the codes of I2_S.
static Error readMatrixScale(const GGUFTensor &tensor, Linear &linear) {
  int64_t numTrits = tensor.shape[0] * tensor.shape[1];
  linear.scale = support::endian::read<float, endianness::little>(
      tensor.bytes.data() + numTrits / 4);
  // Trained scales lie around 1; far outside, the bytes are something else.
  if (!(linear.scale >= 1e-6 && linear.scale <= 1e6))
    return inputError(describe(tensor),
                      "its scale is {0}, no plausible one (1e-6 to 1e6); the "
                      "file is damaged",
                      printNumber(linear.scale));
  return Error::success();
}

/// Whether all codes of a group of columns are zero.
static bool isZeroGroup(const GGUFTensor &tensor, Encoding encoding,
                        int64_t row, int64_t group, int64_t groupSize) {
  std::vector<int8_t> trits(tensor.shape[1]);
  decodeTrits(encoding, tensor.bytes.data(), tensor.shape[0], row, trits);
  auto columns = ArrayRef(trits).slice(group * groupSize).take_front(groupSize);
  return llvm::all_of(columns, [](int8_t trit) { return trit == 0; });
}

/// One scale for the matrix if it is the same wherever trits are not zero,
/// scales of rows or blocks otherwise.
static Error readInlineScales(const GGUFTensor &tensor, Encoding encoding,
                              Linear &linear) {
  int64_t rows = tensor.shape[0], columns = tensor.shape[1];
  ternary::EncodingInfo info = ternary::getEncodingInfo(encoding);
  int64_t groupSize =
      info.rowBytes != 0 ? int64_t(alignTo(columns, 16)) : info.blockSize;
  int64_t numGroups = int64_t(divideCeil(columns, groupSize));
  std::vector<float> scales(rows * numGroups);
  ternary::decodeScales(encoding, tensor.bytes, rows * numGroups, /*begin=*/0,
                        scales);
  auto isInvalid = [](float scale) { return !std::isfinite(scale); };
  if (auto it = llvm::find_if(scales, isInvalid); it != scales.end())
    return inputError(describe(tensor),
                      "row {0} has a scale that is infinite or not a number; "
                      "the file is damaged",
                      (it - scales.begin()) / numGroups);

  float common = 0;
  for (auto [index, scale] : enumerate(scales)) {
    if (scale == 0 || scale == common ||
        isZeroGroup(tensor, encoding, int64_t(index) / numGroups,
                    int64_t(index) % numGroups, groupSize))
      continue;
    if (common == 0) {
      common = scale;
      continue;
    }
    linear.group = groupSize;
    linear.groupScales = linear.weight;
    linear.groupScales->name += ".scales";
    linear.groupScales->shape = {rows, numGroups};
    return Error::success();
  }
  linear.scale = common == 0 ? 1 : common; // nothing but zeros
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Floats that are trits
//===----------------------------------------------------------------------===//

/// The s of values that are all -s, 0 or s; 1 if all are 0.
static std::optional<float> findTernaryScale(const GGUFTensor &tensor,
                                             Encoding encoding) {
  constexpr int64_t kBlock = 4096;
  int64_t count = tensor.shape[0] * tensor.shape[1];
  std::vector<float> block(std::min(kBlock, count));
  float scale = 0;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    MutableArrayRef<float> values =
        MutableArrayRef(block).take_front(count - begin);
    ternary::decodeFloats(encoding, tensor.bytes.data(), begin, values);
    for (float value : values) {
      if (scale == 0)
        scale = std::abs(value);
      if (value != 0 && (std::abs(value) != scale || !std::isfinite(value)))
        return std::nullopt;
    }
  }
  return scale == 0 ? 1 : scale;
}

Error tercet::readWeights(const GGUFTensor &tensor, Encoding encoding,
                          bool latentAllowed, Linear &linear) {
  linear.kind = Linear::Kind::Trits;
  linear.weight.encoding = encoding;
  if (!ternary::getSourceSize(encoding, tensor.shape))
    return inputError(describe(tensor), "{0} cannot hold the shape {1}",
                      tensor.type->name, printShape(tensor.shape));
  if (ternary::hasInlineScales(encoding))
    return readInlineScales(tensor, encoding, linear);
  if (ternary::getEncodingInfo(encoding).isTernary)
    return readMatrixScale(tensor, linear);

  if (std::optional<float> scale = findTernaryScale(tensor, encoding)) {
    linear.scale = *scale;
    linear.weight.absmean = scale;
    return Error::success();
  }
  bool isPlain = ternary::getEncodingInfo(encoding).blockSize == 1;
  if (latentAllowed && isPlain) {
    linear.kind = Linear::Kind::Latent;
    return Error::success();
  }
  return inputError(
      describe(tensor),
      isPlain ? "has values other than -s, 0 and s: this is an ordinary model, "
                "or one whose converter did not quantise its weights; convert "
                "it again with ternary weights ({0} may hold them)"
              : "has values other than -s, 0 and s, as {0} cannot hold ternary "
                "weights, or they never were ternary; convert the model again, "
                "to TQ2_0, I2_S or F16",
      tensor.type->name);
}
