// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Support/ErrorBound.h"

#include <cmath>

using namespace llvm;
using namespace tercet;
using namespace tercet::ternary;

namespace {
/// Sums of squares of a row: of its weights, of what its codes stand for, and
/// of their differences.
struct Squares {
  double weights = 0, decoded = 0, differences = 0;

  /// In float and lanes that may be a vector; a group has so few terms that the
  /// rounding is a part of the slack in getErrorBound.
  void add(ArrayRef<float> group, ArrayRef<uint8_t> codes, float scale,
           float zero) {
    constexpr size_t numLanes = 8;
    float sums[3][numLanes] = {};
    auto addTo = [&](size_t lane, float weight, uint8_t code) {
      float value = scale * (float(code) - zero); // exact
      float difference = weight - value;
      sums[0][lane] += weight * weight;
      sums[1][lane] += value * value;
      sums[2][lane] += difference * difference;
    };
    size_t i = 0;
    for (; i + numLanes <= group.size(); i += numLanes)
      for (size_t lane = 0; lane < numLanes; ++lane)
        addTo(lane, group[i + lane], codes[i + lane]);
    for (; i < group.size(); ++i)
      addTo(i % numLanes, group[i], codes[i]);
    for (size_t lane = 0; lane < numLanes; ++lane) {
      weights += sums[0][lane];
      decoded += sums[1][lane];
      differences += sums[2][lane];
    }
  }
};
} // namespace

float tercet::getErrorBound(ArrayRef<float> weights, const CodeMatrix &matrix,
                            int64_t row) {
  CodeFormatInfo info = getCodeFormatInfo(matrix.format);
  assert(!info.hasMinimum && "the proof is for codes without a minimum");
  Squares squares;
  for (auto [i, group] : enumerate(matrix.groupsOf(row))) {
    size_t first = i * info.group;
    if (first >= weights.size())
      break;
    size_t count = std::min<size_t>(info.group, weights.size() - first);
    squares.add(weights.slice(first, count),
                matrix.codesOf(row).slice(first, count), group.scale,
                float(info.zero()));
  }
  double columns = double(weights.size());
  double exactNorm = std::sqrt(squares.weights);
  double decodedNorm = std::sqrt(squares.decoded);
  // The terms of the proof: rounded weights, activations of 32639 steps, and
  // the roundings of both sums.
  double bound = std::sqrt(squares.differences) +
                 decodedNorm * std::sqrt(columns) / 65278 +
                 1.01 * (columns + 16) * 0x1p-24 * (exactNorm + decodedNorm);
  // Slack for this computation; the constant is for squares and products that
  // underflow.
  bound = bound * (1 + 0x1p-18) + 0x1p-24;
  // Larger rows might overflow in the sums: their bound says nothing.
  if (!(exactNorm < 0x1p40 && decodedNorm < 0x1p40))
    return INFINITY;
  return std::nextafter(float(bound), INFINITY);
}
