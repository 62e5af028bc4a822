// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// In a trained model the share of zeros in a column of a matrix goes with, or
// against, the weight that the norm before it gives that feature. Only the
// right layout puts columns where they belong.

#include "dialect/Ternary/SourceEncoding.h"
#include "frontends/GGUF/GGUFWeights.h"
#include "frontends/Support/InputError.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Parallel.h"
#include <cmath>

using namespace llvm;
using namespace tercet;
using ternary::Encoding;

static constexpr Encoding kLayouts[] = {Encoding::I2S, Encoding::I2SArm,
                                        Encoding::I2SRows};
using Scores = std::array<double, std::size(kLayouts)>;

/// Enough to be sure; all of them would be no surer.
constexpr size_t kMaxMatrices = 56;

static double correlate(ArrayRef<float> x, ArrayRef<float> y) {
  auto count = double(x.size());
  double meanX = 0, meanY = 0, xx = 0, yy = 0, xy = 0;
  for (auto [a, b] : zip_equal(x, y)) {
    meanX += a / count;
    meanY += b / count;
  }
  for (auto [a, b] : zip_equal(x, y)) {
    xx += (a - meanX) * (a - meanX);
    yy += (b - meanY) * (b - meanY);
    xy += (a - meanX) * (b - meanY);
  }
  return xx > 0 && yy > 0 ? xy / std::sqrt(xx * yy) : 0;
}

/// How many weights of each column are not zero, in a layout.
static std::vector<float> countNonzeros(const GGUFTensor &weight,
                                        Encoding layout) {
  int64_t rows = weight.shape[0], columns = weight.shape[1];
  std::vector<int8_t> trits(columns);
  std::vector<float> counts(columns);
  for (int64_t row = 0; row < rows; ++row) {
    decodeTrits(layout, weight.bytes.data(), rows, row, trits);
    for (auto [count, trit] : zip_equal(counts, trits))
      count += trit != 0 ? 1.0f : 0.0f;
  }
  return counts;
}

/// How far norm and columns are correlated in each layout: by chance 1 on
/// average, whatever the number of columns. 0 in one that cannot hold the
/// matrix.
static Scores scoreLayouts(const I2SMatrix &matrix) {
  std::vector<float> norm(matrix.inputNorm->shape[0]);
  decodeFloats(*getEncoding(*matrix.inputNorm->type),
               matrix.inputNorm->bytes.data(), /*begin=*/0, norm);
  for (float &weight : norm)
    weight = std::abs(weight);
  Scores scores = {};
  for (auto [layout, score] : zip_equal(kLayouts, scores)) {
    if (!getSourceSize(layout, matrix.weight->shape))
      continue;
    double r = correlate(norm, countNonzeros(*matrix.weight, layout));
    score = double(norm.size()) * r * r;
  }
  return scores;
}

Expected<Encoding> tercet::chooseI2SLayout(const GGUFReader &reader,
                                           ArrayRef<I2SMatrix> matrices) {
  // llama-quantize, which writes the layout of the machine that it runs on,
  // leaves this key; BitNet's Python converter does not, and knows one layout.
  if (!reader.findValue("general.quantization_version"))
    return Encoding::I2S;

  matrices = matrices.take_front(kMaxMatrices);
  std::vector<Scores> scores(matrices.size());
  parallelFor(0, matrices.size(),
              [&](size_t i) { scores[i] = scoreLayouts(matrices[i]); });
  Scores sums = {};
  for (const Scores &score : scores)
    for (auto [sum, value] : zip_equal(sums, score))
      sum += value;

  auto best = llvm::max_element(sums);
  bool isSure = *best > 3 * double(matrices.size()) &&
                llvm::all_of(sums, [&](const double &sum) {
                  return &sum == best || *best > 2 * sum;
                });
  if (isSure)
    return kLayouts[best - sums.begin()];
  return inputError(
      describe(*matrices.front().weight),
      "I2_S has a layout of x86 and one of Arm, and it could not be told which "
      "this is; convert the model again to TQ2_0, or to I2_S with BitNet's "
      "Python converter");
}
