// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The bound of docs/decisions/0008 against what both heads compute.

#include "compiler/Support/ErrorBound.h"
#include "compiler/Reference/ReferenceOps.h"
#include "runtime/src/LogitBounds.h"

#include "llvm/ADT/bit.h"
#include "gtest/gtest.h"

#include <cmath>
#include <random>

using namespace tercet;
using namespace tercet::reference;
using ternary::CodeFormat;

namespace {

float toBF16(float value) {
  return llvm::bit_cast<float>(llvm::bit_cast<uint32_t>(value) & 0xffff0000);
}

/// A row of a head, its copy in codes, and how far they are apart.
class Row {
public:
  Row(CodeFormat format, std::vector<float> newWeights)
      : format(format), weights(std::move(newWeights)),
        matrix(encodeRows(format, weights, weights.size())),
        bound(getErrorBound(weights, matrix, 0)) {}

  /// The weights less what the codes stand for.
  std::vector<float> differences() const {
    ternary::CodeFormatInfo info = ternary::getCodeFormatInfo(format);
    std::vector<float> result(weights);
    for (size_t k = 0; k < result.size(); ++k)
      result[k] -= matrix.groupsOf(0)[k / info.group].scale *
                   (float(matrix.codesOf(0)[k]) - float(info.zero()));
    return result;
  }

  /// |approximation - logit| as a part of the bound.
  double getShare(llvm::ArrayRef<float> hidden) const {
    auto columns = int64_t(weights.size());
    Floats x({1, columns}, hidden.vec()), w({1, columns}, weights);
    float exact = linear(x, w, 1).data[0];
    int64_t group = ternary::getCodeFormatInfo(format).group;
    float rounded = quantizedLinear(quantizeWide(x, group), matrix, 1).data[0];
    float norm = activationNorm({hidden.data(), hidden.size()});
    // As the runtime does it: the ends of the interval are rounded, too.
    float low = rounded - bound * norm, high = rounded + bound * norm;
    EXPECT_TRUE(low <= exact && exact <= high)
        << rounded << " for " << exact << ", bound " << bound * norm;
    return std::fabs(double(rounded) - exact) / (double(bound) * norm);
  }

  CodeFormat format;
  std::vector<float> weights;
  CodeMatrix matrix;
  float bound;
};

/// Values of several distributions: dense, with outliers, sparse, large, tiny.
std::vector<float> makeValues(std::mt19937 &generator, size_t count,
                              unsigned kind) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float &value : values) {
    value = normal(generator);
    if (kind == 1 && generator() % 50 == 0)
      value *= 100;
    if (kind == 2 && generator() % 10 != 0)
      value = 0;
    if (kind == 3)
      value *= 0x1p30f;
    if (kind == 4)
      value *= 0x1p-70f;
    if (kind == 5)
      value = value > 0 ? 1.0f : -1.0f;
    value = toBF16(value);
  }
  return values;
}

class ErrorBoundTest : public ::testing::TestWithParam<CodeFormat> {};

TEST_P(ErrorBoundTest, HoldsForRandomRows) {
  std::mt19937 generator(1);
  double largest = 0;
  for (size_t columns : {1, 2, 15, 64, 65, 200, 576, 2560})
    for (unsigned kind = 0; kind < 6; ++kind)
      for (int i = 0; i < 12; ++i) {
        Row row(GetParam(), makeValues(generator, columns, kind));
        ASSERT_GT(row.bound, 0);
        for (unsigned other = 0; other < 6; ++other)
          largest = std::max(
              largest, row.getShare(makeValues(generator, columns, other)));
      }
  EXPECT_LE(largest, 1);
  EXPECT_GT(largest, 0.05) << "the bound says nothing";
}

/// Hidden states along the error of the codes make the most of it: half of the
/// bound would be exceeded.
TEST_P(ErrorBoundTest, IsTightForAdversarialRows) {
  std::mt19937 generator(2);
  double smallest = 1;
  for (size_t columns : {64, 256, 576, 2560})
    for (int i = 0; i < 20; ++i) {
      Row row(GetParam(), makeValues(generator, columns, 0));
      double share = row.getShare(row.differences());
      EXPECT_LE(share, 1);
      smallest = std::min(smallest, share);
    }
  EXPECT_GT(smallest, 0.5);
}

/// So do activations half a step from their codes, where weights are codes
/// themselves and only the activations are rounded.
TEST_P(ErrorBoundTest, CoversRoundedActivations) {
  std::mt19937 generator(3);
  for (size_t columns : {64, 576, 2560}) {
    std::vector<float> weights(columns), hidden(columns);
    for (size_t k = 0; k < columns; ++k) {
      weights[k] = k % 64 == 0
                       ? -float(ternary::getCodeFormatInfo(GetParam()).zero())
                       : float(generator() % 31);
      // x * (32639 / 32639) is an integer and almost a half.
      hidden[k] = k == 0 ? 32639.0f : float(generator() % 1000) + 0.4998f;
    }
    Row row(GetParam(), weights);
    for (float difference : row.differences())
      ASSERT_EQ(difference, 0);
    EXPECT_GT(row.getShare(hidden), 0);
    EXPECT_LE(row.getShare(hidden), 1);
  }
}

TEST_P(ErrorBoundTest, DegenerateRows) {
  Row zeros(GetParam(), std::vector<float>(100, 0.0f));
  EXPECT_LT(zeros.bound, 1e-6);
  EXPECT_EQ(zeros.getShare(std::vector<float>(100, 3.0f)), 0);
  // Nothing is known where sums might overflow.
  Row huge(GetParam(), std::vector<float>(100, 0x1p100f));
  EXPECT_TRUE(std::isinf(huge.bound));
  // Below the smallest step of the activations.
  Row row(GetParam(), std::vector<float>(100, 0.75f));
  EXPECT_LE(row.getShare(std::vector<float>(100, 1e-36f)), 1);
  EXPECT_LE(row.getShare(std::vector<float>(100, 0.0f)), 1);
}

INSTANTIATE_TEST_SUITE_P(Formats, ErrorBoundTest,
                         ::testing::Values(CodeFormat::I8, CodeFormat::Q6),
                         [](const auto &info) {
                           return stringifyCodeFormat(info.param).str();
                         });

} // namespace
