// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/RecognizeBitLinear/TernaryMatrix.h"

#include "llvm/Support/MathExtras.h"

#include <cmath>

using namespace tercet;
using llvm::ArrayRef;

/// How far apart equal magnitudes may be. A straight-through estimator that was
/// folded, w + (q - w), rounds at the magnitude of w, which may be 16 times q.
static constexpr double kTolerance = 0x1p-19;

/// Group sizes as `ternary.bit_linear` has them.
static constexpr int64_t kMinGroup = 16;

FloatMatrix FloatMatrix::transposed() const {
  FloatMatrix result{columns, rows, std::vector<float>(values.size())};
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < columns; ++column)
      result.values[column * rows + row] = values[row * columns + column];
  return result;
}

/// The mean magnitude of the values that are not zero, if they all have it; 0
/// if there are none.
static std::optional<float> getMagnitude(ArrayRef<float> values) {
  double sum = 0, smallest = INFINITY, largest = 0;
  int64_t count = 0;
  for (float value : values) {
    if (value == 0)
      continue;
    double magnitude = std::fabs(value);
    smallest = std::min(smallest, magnitude);
    largest = std::max(largest, magnitude);
    if (!std::isfinite(value) || largest - smallest > kTolerance * largest)
      return std::nullopt;
    sum += magnitude;
    ++count;
  }
  return count ? float(sum / double(count)) : 0.0f;
}

/// The scales of groups of `group` columns; of the whole matrix for 0.
static std::optional<std::vector<float>> getScales(const FloatMatrix &matrix,
                                                   int64_t group) {
  ArrayRef<float> values = matrix.values;
  int64_t rowSize = group ? matrix.columns : values.size();
  group = group ? group : values.size();
  std::vector<float> scales;
  for (; !values.empty(); values = values.drop_front(rowSize))
    for (int64_t column = 0; column < rowSize; column += group) {
      std::optional<float> scale =
          getMagnitude(values.slice(column, std::min(group, rowSize - column)));
      if (!scale)
        return std::nullopt;
      scales.push_back(*scale);
    }
  return scales;
}

std::optional<TernaryMatrix> tercet::splitTernary(const FloatMatrix &matrix) {
  // The matrix, rows, powers of two. One or two weights have one magnitude by
  // chance.
  llvm::SmallVector<int64_t> groups = {0};
  if (matrix.columns > 2)
    groups.push_back(llvm::alignTo(matrix.columns, kMinGroup));
  for (int64_t group = llvm::bit_floor(uint64_t(matrix.columns - 1));
       group >= kMinGroup; group /= 2)
    groups.push_back(group);
  for (int64_t group : groups) {
    std::optional<std::vector<float>> scales = getScales(matrix, group);
    if (!scales)
      continue;
    TernaryMatrix result{
        matrix.rows, matrix.columns, {}, group, std::move(*scales)};
    for (float value : matrix.values)
      result.trits.push_back((value > 0) - (value < 0));
    return result;
  }
  return std::nullopt;
}

void TernaryMatrix::spreadScales() {
  if (group)
    return;
  group = llvm::alignTo(columns, kMinGroup);
  scales.assign(rows, scales.front());
}
