// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Support/CodePacking.h"

#include "mlir/IR/MLIRContext.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/Endian.h"
#include "gtest/gtest.h"

#include <cmath>
#include <random>

using namespace tercet;
using namespace tercet::ternary;
using llvm::bit_cast;

namespace {

std::vector<float> makeWeights(size_t count) {
  std::mt19937 generator(count);
  std::normal_distribution<float> normal;
  std::vector<float> weights(count);
  for (float &weight : weights)
    weight = normal(generator);
  return weights;
}

bool isBF16(float value) { return !(bit_cast<uint32_t>(value) & 0xffff); }

float decode(CodeFormat format, CodeGroup group, uint8_t code) {
  float zero = getCodeFormatInfo(format).zero();
  return group.scale * (code - zero) + group.minimum;
}

struct Shape {
  int64_t rows, cols, tileRows;
};

class CodePackingTest
    : public ::testing::TestWithParam<std::tuple<CodeFormat, Shape>> {
protected:
  CodePackingTest() { context.loadDialect<TernaryDialect>(); }

  CodeLayoutAttr makeLayout(CodeFormat format, int64_t tileRows) {
    return CodeLayoutAttr::get(&context, format, tileRows, /*lanes=*/16,
                               /*parts=*/1, /*tokens=*/1, /*prefetch=*/0);
  }

  mlir::MLIRContext context;
};

/// docs/packings.md, written out for each format by itself.
TEST_P(CodePackingTest, CodesAndScalesAreWhereTheFormulaSays) {
  auto [format, shape] = GetParam();
  auto [rows, cols, T] = shape;
  CodeLayoutAttr layout = makeLayout(format, T);
  CodeMatrix matrix = encodeRows(format, makeWeights(rows * cols), cols);
  int64_t K = (cols + 15) / 16 * 16;
  ASSERT_EQ(matrix.columns, K);
  std::vector<uint8_t> packed(layout.getSize(rows, K), 0xee);
  packCodes(layout, matrix, packed);

  // Group size, bytes of a scale, columns and bytes of a chunk.
  auto [G, S, C, B] = format == CodeFormat::I8   ? std::tuple(64, 2, 4, 64)
                      : format == CodeFormat::Q6 ? std::tuple(64, 2, 16, 192)
                                                 : std::tuple(64, 4, 8, 64);
  int64_t blockSize = T * S + G / C * (T / 16) * B;
  int64_t rest = K % G;
  int64_t tileSize = K / G * blockSize +
                     (rest ? T * S + (rest + C - 1) / C * (T / 16) * B : 0);
  ASSERT_EQ(int64_t(packed.size()), (rows + T - 1) / T * tileSize);

  for (int64_t m = 0; m < rows; ++m)
    for (int64_t k = 0; k < K; ++k) {
      int64_t block = m / T * tileSize + k / G * blockSize;
      int64_t at = block + T * S + (k % G / C * (T / 16) + m % T / 16) * B +
                   4 * (m % 16) + k % 4;
      int64_t p = k % C / 4;
      int code = format == CodeFormat::I8 ? packed[at]
                 : format == CodeFormat::Q4
                     ? packed[at] >> 4 * p & 15
                     : (packed[at + 64 * (p / 2)] >> 4 * (p % 2) & 15) |
                           (packed[at + 128] >> 2 * p & 3) << 4;
      ASSERT_EQ(code, matrix.codesOf(m)[k]) << m << "," << k;
      const uint8_t *scale = &packed[block + m % T * S];
      CodeGroup group = matrix.groupsOf(m)[k / G];
      ASSERT_EQ(llvm::support::endian::read16le(scale),
                bit_cast<uint32_t>(group.scale) >> 16);
      if (S == 4) {
        ASSERT_EQ(llvm::support::endian::read16le(scale + 2),
                  bit_cast<uint32_t>(group.minimum) >> 16);
      }
    }

  CodeMatrix back = unpackCodes(layout, packed, rows, K);
  EXPECT_EQ(back.codes, matrix.codes);
  for (auto [a, b] : llvm::zip(back.groups, matrix.groups))
    ASSERT_TRUE(a.scale == b.scale && a.minimum == b.minimum);
}

TEST_P(CodePackingTest, TilesArePackedIndependently) {
  auto [format, shape] = GetParam();
  auto [rows, cols, tileRows] = shape;
  CodeLayoutAttr layout = makeLayout(format, tileRows);
  std::vector<float> weights = makeWeights(rows * cols);
  int64_t columns = getPaddedColumns(cols);
  std::vector<uint8_t> whole(layout.getSize(rows, columns)),
      pieces(whole.size());
  packCodes(layout, encodeRows(format, weights, cols), whole);
  int64_t tileSize = layout.getTileSize(columns);
  for (int64_t row = 0; row < rows; row += tileRows) {
    auto part = llvm::ArrayRef(weights).slice(
        row * cols, std::min(tileRows, rows - row) * cols);
    packCodes(layout, encodeRows(format, part, cols),
              llvm::MutableArrayRef(pieces).slice(row / tileRows * tileSize,
                                                  tileSize));
  }
  EXPECT_EQ(whole, pieces);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, CodePackingTest,
    ::testing::Combine(
        ::testing::Values(CodeFormat::I8, CodeFormat::Q6, CodeFormat::Q4),
        ::testing::Values(Shape{1, 1, 16}, Shape{64, 64, 64}, Shape{65, 66, 64},
                          Shape{33, 130, 16}, Shape{40, 95, 32})),
    [](const auto &info) {
      Shape shape = std::get<1>(info.param);
      return stringifyCodeFormat(std::get<0>(info.param)).str() + "_" +
             std::to_string(shape.rows) + "x" + std::to_string(shape.cols);
    });

class EncodeGroupTest : public ::testing::TestWithParam<CodeFormat> {};

/// No weight is further from its code than clamping the outermost ones allows,
/// and the mean error is that of the format's number of codes.
TEST_P(EncodeGroupTest, ErrorsAreSmall) {
  CodeFormatInfo info = getCodeFormatInfo(GetParam());
  std::vector<float> weights = makeWeights(info.group * 64);
  double error = 0, energy = 0;
  for (int64_t i = 0; i < 64; ++i) {
    auto part = llvm::ArrayRef(weights).slice(i * info.group, info.group);
    std::vector<uint8_t> codes(info.group);
    CodeGroup group = encodeGroup(GetParam(), part, codes);
    EXPECT_TRUE(isBF16(group.scale) && isBF16(group.minimum));
    EXPECT_TRUE(info.hasMinimum || group.minimum == 0);
    for (auto [weight, code] : llvm::zip(part, codes)) {
      ASSERT_LT(code, info.numCodes());
      double difference = decode(GetParam(), group, code) - weight;
      error += difference * difference;
      energy += weight * weight;
    }
  }
  double bound = GetParam() == CodeFormat::I8   ? 0.008
                 : GetParam() == CodeFormat::Q6 ? 0.025
                                                : 0.1;
  EXPECT_LT(std::sqrt(error / energy), bound);
  EXPECT_GT(std::sqrt(error / energy), bound / 4) << "bound is too loose";
}

/// Zeros, one weight, and a constant are exact but for the bf16 of the scale.
TEST_P(EncodeGroupTest, DegenerateGroups) {
  for (auto weights : {std::vector<float>(20, 0.0f), std::vector<float>{1.5f},
                       std::vector<float>(20, -0.75f)}) {
    std::vector<uint8_t> codes(weights.size(), 99);
    CodeGroup group = encodeGroup(GetParam(), weights, codes);
    for (auto [weight, code] : llvm::zip(weights, codes))
      EXPECT_NEAR(decode(GetParam(), group, code), weight,
                  std::fabs(weight) / 128);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, EncodeGroupTest,
                         ::testing::Values(CodeFormat::I8, CodeFormat::Q6,
                                           CodeFormat::Q4),
                         [](const auto &info) {
                           return stringifyCodeFormat(info.param).str();
                         });

} // namespace
