// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/RecognizeBitLinear/TernaryMatrix.h"

#include "gtest/gtest.h"

#include <cmath>

using namespace tercet;

namespace {

/// Trits 1, 0, -1, 1, 0, -1, .. times scale(row, column).
template <typename F>
FloatMatrix makeMatrix(int64_t rows, int64_t columns, F scale) {
  FloatMatrix matrix{rows, columns, {}};
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < columns; ++column)
      matrix.values.push_back((1 - (row * columns + column) % 3) *
                              scale(row, column));
  return matrix;
}

/// trits * scales, which splitTernary promises to be the matrix.
std::vector<float> multiply(const TernaryMatrix &matrix) {
  std::vector<float> values;
  for (int64_t row = 0; row < matrix.rows; ++row)
    for (int64_t column = 0; column < matrix.columns; ++column) {
      int64_t scale =
          matrix.group ? row * matrix.numGroups() + column / matrix.group : 0;
      values.push_back(matrix.trits[row * matrix.columns + column] *
                       matrix.scales[scale]);
    }
  return values;
}

/// The group size of a matrix whose scales are those of groups of `group`
/// columns and differ; -1: it is not ternary.
int64_t findGroup(int64_t rows, int64_t columns, int64_t group) {
  FloatMatrix matrix = makeMatrix(rows, columns, [=](int64_t row, int64_t k) {
    return 0.5f + row + float(k / group) / 64;
  });
  std::optional<TernaryMatrix> split = splitTernary(matrix);
  if (!split)
    return -1;
  EXPECT_EQ(multiply(*split), matrix.values);
  return split->group;
}

TEST(TernaryMatrixTest, FindsTheFewestScales) {
  FloatMatrix matrix = makeMatrix(3, 5, [](int64_t, int64_t) { return 0.3f; });
  std::optional<TernaryMatrix> split = splitTernary(matrix);
  ASSERT_TRUE(split);
  EXPECT_EQ(split->group, 0);
  EXPECT_EQ(split->scales, std::vector<float>{0.3f});
  EXPECT_EQ(multiply(*split), matrix.values);

  EXPECT_EQ(findGroup(3, 40, 40), 48); // rows; a multiple of 16
  EXPECT_EQ(findGroup(3, 9, 9), 16);
  EXPECT_EQ(findGroup(3, 40, 32), 32); // the last group has 8 columns
  EXPECT_EQ(findGroup(3, 256, 128), 128);
  EXPECT_EQ(findGroup(3, 256, 16), 16);
}

TEST(TernaryMatrixTest, RefusesSmallGroups) {
  EXPECT_EQ(findGroup(3, 64, 8), -1);
  EXPECT_EQ(findGroup(3, 2, 2), -1); // one magnitude by chance
}

TEST(TernaryMatrixTest, ToleratesRounding) {
  float scale = 0.7f;
  auto perturb = [&](float factor) {
    FloatMatrix matrix =
        makeMatrix(4, 8, [&](int64_t, int64_t) { return scale; });
    matrix.values.front() *= factor;
    return splitTernary(matrix);
  };
  ASSERT_TRUE(perturb(1 + 0x1p-20f));
  EXPECT_NEAR(perturb(1 + 0x1p-20f)->scales.front(), scale, 0x1p-22f);
  EXPECT_FALSE(perturb(1 + 0x1p-17f));
  EXPECT_FALSE(perturb(0.5f));
  EXPECT_FALSE(perturb(INFINITY));
  EXPECT_FALSE(perturb(NAN));
}

TEST(TernaryMatrixTest, ZerosAreTernary) {
  std::optional<TernaryMatrix> split =
      splitTernary(FloatMatrix{2, 2, {0, 0, -0.0f, 0}});
  ASSERT_TRUE(split);
  EXPECT_EQ(split->trits, std::vector<int8_t>(4, 0));
}

/// w + (q - w), as torch folds it, with w up to 16 times q.
TEST(TernaryMatrixTest, FoldedStraightThrough) {
  float g = 0.0371f;
  FloatMatrix matrix{1, 512, {}};
  for (int i = 0; i < 512; ++i) {
    float w = (i - 256) * g / 16.3f;
    float q = std::fmax(-1, std::fmin(1, std::nearbyint(w / g))) * g;
    matrix.values.push_back(w + (q - w));
  }
  std::optional<TernaryMatrix> split = splitTernary(matrix);
  ASSERT_TRUE(split);
  EXPECT_EQ(split->group, 0);
  EXPECT_NEAR(split->scales.front(), g, g * 0x1p-20f);
}

} // namespace
