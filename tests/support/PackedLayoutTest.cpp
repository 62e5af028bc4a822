// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Support/PackedLayout.h"

#include "mlir/IR/MLIRContext.h"
#include "llvm/Support/Endian.h"
#include "gtest/gtest.h"

using namespace tercet;
using namespace tercet::ternary;

namespace {

struct Shape {
  int64_t rows, cols, tileRows;
};

class PackedLayoutTest : public ::testing::TestWithParam<Shape> {
protected:
  PackedLayoutTest() { context.loadDialect<TernaryDialect>(); }

  LayoutAttr makeLayout(Packing packing, int64_t tileRows) {
    return LayoutAttr::get(&context, packing, tileRows, /*lanes=*/16,
                           /*unroll=*/4, /*tokens=*/6, /*prefetch=*/0,
                           /*inPlace=*/false);
  }

  mlir::MLIRContext context;
};

TEST_P(PackedLayoutTest, I2) {
  auto [rows, cols, unused] = GetParam();
  LayoutAttr layout = makeLayout(Packing::I2, kI2TileRows);
  std::vector<int8_t> trits(rows * cols);
  for (size_t i = 0; i < trits.size(); ++i)
    trits[i] = int8_t((i * 2654435761u >> 7) % 3) - 1;
  std::vector<uint8_t> packed(getPackedSize(layout, rows, cols), 0xee);
  packI2(trits, cols, packed);

  int64_t paddedRows = llvm::alignTo(rows, kI2TileRows);
  for (int64_t m = 0; m < paddedRows; ++m)
    for (int64_t k = 0, e = llvm::alignTo(cols, 4); k < e; ++k) {
      PackedAddress address = getPackedAddress(layout, m, k, cols);
      int code = packed[address.byte] >> address.bit & 3;
      bool inside = m < rows && k < cols;
      ASSERT_EQ(code - 1, inside ? trits[m * cols + k] : 0) << m << "," << k;
    }
}

TEST_P(PackedLayoutTest, BF16Pairs) {
  auto [rows, cols, tileRows] = GetParam();
  LayoutAttr layout = makeLayout(Packing::BF16Pairs, tileRows);
  std::vector<uint16_t> weights(rows * cols);
  for (size_t i = 0; i < weights.size(); ++i)
    weights[i] = uint16_t(i * 40503u + 1);
  std::vector<uint8_t> packed(getPackedSize(layout, rows, cols), 0xee);
  packBF16Pairs(weights, cols, tileRows, packed);

  int64_t paddedRows = llvm::alignTo(rows, tileRows);
  for (int64_t m = 0; m < paddedRows; ++m)
    for (int64_t k = 0, e = llvm::alignTo(cols, 2); k < e; ++k) {
      uint64_t byte = getPackedAddress(layout, m, k, cols).byte;
      bool inside = m < rows && k < cols;
      ASSERT_EQ(llvm::support::endian::read16le(&packed[byte]),
                inside ? weights[m * cols + k] : 0)
          << m << "," << k;
    }
}

TEST_F(PackedLayoutTest, TilesArePackedIndependently) {
  constexpr int64_t rows = 150, cols = 37;
  LayoutAttr layout = makeLayout(Packing::I2, kI2TileRows);
  std::vector<int8_t> trits(rows * cols);
  for (size_t i = 0; i < trits.size(); ++i)
    trits[i] = int8_t(i % 3) - 1;
  std::vector<uint8_t> whole(getPackedSize(layout, rows, cols));
  packI2(trits, cols, whole);

  std::vector<uint8_t> pieces(whole.size());
  int64_t tileSize = getPackedTileSize(layout, cols);
  for (int64_t row = 0; row < rows; row += kI2TileRows)
    packI2(llvm::ArrayRef(trits).slice(
               row * cols, std::min(kI2TileRows, rows - row) * cols),
           cols,
           llvm::MutableArrayRef(pieces).slice(row / kI2TileRows * tileSize,
                                               tileSize));
  EXPECT_EQ(whole, pieces);
}

INSTANTIATE_TEST_SUITE_P(Shapes, PackedLayoutTest,
                         ::testing::Values(Shape{1, 1, 16}, Shape{64, 64, 64},
                                           Shape{65, 66, 64},
                                           Shape{130, 129, 128},
                                           Shape{96, 35, 32}),
                         [](const auto &info) {
                           return std::to_string(info.param.rows) + "x" +
                                  std::to_string(info.param.cols);
                         });

} // namespace
