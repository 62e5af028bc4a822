// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Support/PackedLayout.h"
#include "dialect/Ternary/SourceEncoding.h"

#include "mlir/IR/MLIRContext.h"
#include "llvm/Support/Endian.h"
#include "gtest/gtest.h"

#include <set>

using namespace tercet;
using namespace tercet::ternary;

namespace {

struct Shape {
  int64_t rows, cols, tileRows;
};

std::vector<int8_t> makeTrits(int64_t rows, int64_t cols) {
  std::vector<int8_t> trits(rows * cols);
  for (size_t i = 0; i < trits.size(); ++i)
    trits[i] = int8_t((i * 2654435761u >> 7) % 3) - 1;
  return trits;
}

class PackedLayoutTest : public ::testing::TestWithParam<Shape> {
protected:
  PackedLayoutTest() { context.loadDialect<TernaryDialect>(); }

  void expectTrits(Packing packing);

  mlir::MLIRContext context;
};

void PackedLayoutTest::expectTrits(Packing packing) {
  auto [rows, cols, unused] = GetParam();
  LayoutAttr layout = LayoutAttr::getTrits(&context, packing, {});
  std::vector<int8_t> trits = makeTrits(rows, cols);
  std::vector<uint8_t> packed(layout.getPackedBytes(rows, cols), 0xee);
  packTrits(layout, trits, cols, packed);

  // Every byte, step and plane is one trit, inside the matrix or of the
  // padding; the bytes that are left hold signs.
  int64_t stepsOfByte = packing == Packing::T3 ? 2 : 1, numSlots = 0;
  std::set<std::tuple<int64_t, int64_t, int64_t>> slots;
  std::set<int64_t> signs;
  for (int64_t m = 0, e = llvm::alignTo(rows, 16); m < e; ++m) {
    bool inStrip = m >= rows / layout.getTileRows() * layout.getTileRows();
    Cell cell = inStrip ? layout.getStripCell() : layout.getCell();
    int64_t columns = cell.columns / cell.steps * stepsOfByte;
    for (int64_t k = 0, e = llvm::alignTo(cols, columns); k < e;
         ++k, ++numSlots) {
      TritAddress at = getTritAddress(layout, m, k, rows, cols);
      bool inside = m < rows && k < cols;
      ASSERT_EQ(decodeTrit(packing, packed, at),
                inside ? trits[m * cols + k] : 0)
          << m << "," << k;
      slots.emplace(at.byte, at.step, at.plane);
      if (packing == Packing::T3)
        signs.insert(at.signs);
    }
  }
  EXPECT_EQ(int64_t(slots.size()), numSlots);
  for (int64_t byte : signs)
    EXPECT_TRUE(slots.lower_bound({byte, 0, 0}) ==
                slots.lower_bound({byte + 1, 0, 0}))
        << byte;
  Cell cell = layout.getCell();
  int64_t numVectors = (packed.size() - signs.size()) / 64;
  EXPECT_EQ(numSlots,
            numVectors * cell.rows * cell.columns / cell.steps * stepsOfByte);
}

TEST_P(PackedLayoutTest, I2) { expectTrits(Packing::I2); }
TEST_P(PackedLayoutTest, T5) { expectTrits(Packing::T5); }
TEST_P(PackedLayoutTest, T3) { expectTrits(Packing::T3); }
TEST_P(PackedLayoutTest, L3) { expectTrits(Packing::L3); }

TEST(L3, WordsAreAsDocumented) {
  mlir::MLIRContext context;
  context.loadDialect<TernaryDialect>();
  LayoutAttr layout = LayoutAttr::getTrits(&context, Packing::L3, {});
  for (int u = -13; u <= 13; ++u)
    for (int place = 0; place < 3; ++place) {
      std::array<int8_t, 9> trits = {};
      llvm::copy(getT3Trits(std::abs(u), u < 0), &trits[3 * place]);
      std::vector<uint8_t> packed(layout.getPackedBytes(1, 9));
      packTrits(layout, trits, /*cols=*/9, packed);
      int code = std::abs(u) + (u < 0 ? 16 : 0);
      EXPECT_EQ(llvm::support::endian::read16le(packed.data()),
                code << (5 * place));
    }
}

TEST(T5, BytesAreAsDocumented) {
  std::set<int> bytes;
  for (int u = -40; u <= 40; ++u)
    for (int last : {-1, 0, 1}) {
      int byte = std::abs(u) / 2 + 21 * (last + 1) + (u % 2 ? 64 : 0) +
                 (u < 0 ? 128 : 0);
      EXPECT_TRUE(bytes.insert(byte).second) << byte;
      std::array<int8_t, 5> trits = getT5Trits(byte);
      EXPECT_EQ(trits[0] + 3 * trits[1] + 9 * trits[2] + 27 * trits[3], u);
      EXPECT_EQ(trits[4], last);
    }
}

TEST(PackedSize, PaddingIsSmall) {
  mlir::MLIRContext context;
  context.loadDialect<TernaryDialect>();
  for (auto [packing, bits] : {std::pair(Packing::I2, 2.0),
                               {Packing::T5, 1.6},
                               {Packing::T3, 5.0 / 3},
                               {Packing::L3, 16.0 / 9}})
    for (int64_t columns : {2560, 2576, 6912})
      for (int64_t rows = 1600; rows < 1760; ++rows) {
        LayoutAttr layout = LayoutAttr::getTrits(&context, packing, {});
        double bytes = layout.getPackedBytes(rows, columns);
        // Where the last cell is a part, the signs of t3 and the words of l3
        // take as much as those of a whole one.
        Cell cell = layout.getCell();
        int64_t step = columns % cell.columns ? cell.columns / cell.steps : 0;
        EXPECT_LE(bytes, 1.01 * bits / 8 * rows * (columns + step))
            << stringifyPacking(packing).str() << " " << rows << "x" << columns;
      }
}

TEST_P(PackedLayoutTest, BF16Pairs) {
  auto [rows, cols, tileRows] = GetParam();
  LayoutAttr layout =
      LayoutAttr::get(&context, Packing::BF16Pairs, tileRows, Schedule());
  std::vector<uint16_t> weights(rows * cols);
  for (size_t i = 0; i < weights.size(); ++i)
    weights[i] = uint16_t(i * 40503u + 1);
  std::vector<uint8_t> packed(layout.getPackedBytes(rows, cols), 0xee);
  packBF16Pairs(weights, cols, tileRows, packed);

  int64_t paddedRows = llvm::alignTo(rows, tileRows);
  for (int64_t m = 0; m < paddedRows; ++m)
    for (int64_t k = 0, e = llvm::alignTo(cols, 2); k < e; ++k) {
      uint64_t byte = getFloatAddress(layout, m, k, cols);
      bool inside = m < rows && k < cols;
      ASSERT_EQ(llvm::support::endian::read16le(&packed[byte]),
                inside ? weights[m * cols + k] : 0)
          << m << "," << k;
    }
}

/// Bytes whose halves are no NaN, in each encoding that is a packing as well.
TEST_F(PackedLayoutTest, FloatsAsInFiles) {
  constexpr int64_t rows = 70, cols = 512;
  for (uint32_t value = 0; value <= getMaxEnumValForEncoding(); ++value) {
    auto encoding = static_cast<Encoding>(value);
    auto packing = symbolizePacking(stringifyEncoding(encoding));
    if (!packing)
      continue;
    std::vector<uint8_t> bytes(*getSourceSize(encoding, {rows, cols}));
    for (size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = (i * 2654435761u >> 9) & 0xbf;
    std::vector<float> floats(rows * cols);
    decodeFloats(encoding, bytes.data(), 0, floats);
    for (int64_t tileRows : {16, 64}) {
      LayoutAttr layout = LayoutAttr::get(&context, *packing, tileRows, {});
      std::vector<uint8_t> packed(layout.getPackedBytes(rows, cols), 0xee);
      packFloats(layout, bytes, cols, packed);
      std::vector<float> row(cols);
      for (int64_t m = 0; m < int64_t(llvm::alignTo(rows, tileRows)); ++m) {
        unpackFloats(layout, packed, m, row);
        for (int64_t k = 0; k < cols; ++k)
          ASSERT_EQ(row[k], m < rows ? floats[m * cols + k] : 0)
              << stringifyEncoding(encoding).str() << " " << m << "," << k;
      }
    }
  }
}

TEST_F(PackedLayoutTest, TilesAndStripsArePackedIndependently) {
  constexpr int64_t rows = 150, cols = 37;
  for (Packing packing : {Packing::I2, Packing::T5, Packing::T3, Packing::L3}) {
    LayoutAttr layout = LayoutAttr::getTrits(&context, packing, {});
    std::vector<int8_t> trits = makeTrits(rows, cols);
    std::vector<uint8_t> whole(layout.getPackedBytes(rows, cols));
    packTrits(layout, trits, cols, whole);

    std::vector<uint8_t> pieces;
    for (int64_t row = 0; row < rows;) {
      int64_t unit =
          row + layout.getTileRows() <= rows ? layout.getTileRows() : kRowGroup;
      unit = std::min(unit, rows - row);
      std::vector<uint8_t> piece(layout.getPackedBytes(unit, cols));
      packTrits(layout, llvm::ArrayRef(trits).slice(row * cols, unit * cols),
                cols, piece);
      pieces.insert(pieces.end(), piece.begin(), piece.end());
      row += unit;
    }
    EXPECT_EQ(whole, pieces) << stringifyPacking(packing).str();
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, PackedLayoutTest,
                         ::testing::Values(Shape{1, 1, 16}, Shape{64, 64, 64},
                                           Shape{65, 66, 64},
                                           Shape{130, 129, 128},
                                           Shape{96, 35, 32},
                                           Shape{80, 200, 16}),
                         [](const auto &info) {
                           return std::to_string(info.param.rows) + "x" +
                                  std::to_string(info.param.cols);
                         });

} // namespace
