// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every kernel against docs/numerics.md written out in scalar loops: equal
// bits.

#include "tests/conversion/KernelJIT.h"
#include "tests/support/avxvnni/AVXVNNIEmulator.h"

#include "compiler/Support/PackedLayout.h"

#include "mlir/IR/MLIRContext.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MathExtras.h"
#include "gtest/gtest.h"

#include <cmath>
#include <cstring>
#include <random>

using namespace tercet;
using llvm::formatv;

//===----------------------------------------------------------------------===//
// The law
//===----------------------------------------------------------------------===//

namespace {

float sum16(std::array<float, 16> lane) {
  for (int w = 8; w >= 1; w /= 2)
    for (int j = 0; j < w; ++j)
      lane[j] = lane[j] + lane[j + w];
  return lane[0];
}

float expOf(float x) {
  x = x > -87 ? x : -87;
  x = x < 88 ? x : 88;
  float n = std::nearbyint(x * 0x1.715476p+0f);
  float r = std::fma(n, -0x1.62e400p-1f, x);
  r = std::fma(n, -0x1.7f7d1cp-20f, r);
  float p = 0x1.6d43b4p-10f;
  for (float c :
       {0x1.120be8p-7f, 0x1.5554e8p-5f, 0x1.5554dcp-3f, 0.5f, 1.0f, 1.0f})
    p = std::fma(p, r, c);
  return p * std::ldexp(1.0f, int(n));
}

float fromBF16(uint16_t bits) {
  return llvm::bit_cast<float>(uint32_t(bits) << 16);
}

//===----------------------------------------------------------------------===//
// Data
//===----------------------------------------------------------------------===//

/// A value that no kernel computes: marks memory that must not be written.
constexpr float kUntouched = 12345.25f;

std::vector<float> randomFloats(int64_t count, float range = 2) {
  static std::mt19937 generator(42);
  std::uniform_real_distribution<float> distribution(-range, range);
  std::vector<float> values(count);
  for (float &value : values)
    value = distribution(generator);
  return values;
}

std::vector<uint16_t> randomBF16(int64_t count) {
  std::vector<uint16_t> values;
  for (float value : randomFloats(count, 0.5f))
    values.push_back(llvm::bit_cast<uint32_t>(value) >> 16);
  return values;
}

template <typename T>
void expectSameBits(const std::vector<T> &actual,
                    const std::vector<T> &expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i)
    ASSERT_EQ(std::memcmp(&actual[i], &expected[i], sizeof(T)), 0)
        << "element " << i << ": " << +actual[i] << ", expected "
        << +expected[i];
}

/// `memref<?x40xf32, ...>`, rows of `stride` elements.
std::string rows(int64_t columns, int64_t stride,
                 llvm::StringRef type = "f32") {
  return formatv("memref<?x{0}x{2}, strided<[{1}, 1]>>", columns, stride, type);
}

std::string kernel(llvm::StringRef arguments, llvm::StringRef body) {
  return formatv("func.func @kernel({0}) {{\n{1}\n  return\n}\n", arguments,
                 body);
}

//===----------------------------------------------------------------------===//
// Rows
//===----------------------------------------------------------------------===//

/// Number of columns.
class RowKernelTest : public ::testing::TestWithParam<int64_t> {
protected:
  static constexpr int64_t numTokens = 3;
  int64_t columns = GetParam();
  int64_t stride = columns + 5;
  std::vector<float> x = randomFloats(numTokens * stride);
  std::vector<float> y = std::vector<float>(numTokens * stride, kUntouched);
  std::vector<float> expected = y;
};

TEST_P(RowKernelTest, RMSNorm) {
  std::vector<float> w = randomFloats(columns);
  std::string type = rows(columns, stride);
  KernelJIT run(kernel(
      formatv("%x: {0}, %w: memref<{1}xf32>, %y: {0}", type, columns).str(),
      formatv("ternary.rms_norm ins(%x, %w : {0}, memref<{1}xf32>) "
              "outs(%y : {0}) epsilon = 1.0e-05",
              type, columns)
          .str()));
  run(makeMemRef(x, columns, stride), makeMemRef(w),
      makeMemRef(y, columns, stride));
  for (int64_t n = 0; n < numTokens; ++n) {
    std::array<float, 16> lane = {};
    const float *row = &x[n * stride];
    for (int64_t i = 0; i < columns; ++i)
      lane[i % 16] = std::fma(row[i], row[i], lane[i % 16]);
    float r = 1 / std::sqrt(sum16(lane) / float(columns) + 1e-5f);
    for (int64_t i = 0; i < columns; ++i)
      expected[n * stride + i] = w[i] * (row[i] * r);
  }
  expectSameBits(y, expected);
}

TEST_P(RowKernelTest, QuantizeActivations) {
  for (int64_t padded :
       {columns, columns + 1, int64_t(llvm::alignTo(columns, 64))}) {
    int64_t qStride = padded + 3;
    std::vector<int8_t> q(numTokens * qStride, 99), expectedQ = q;
    std::vector<float> scale(numTokens), expectedScale(numTokens);
    std::vector<int32_t> sum(numTokens), expectedSum(numTokens);
    for (int64_t i = 0; i < columns; ++i)
      x[stride + i] = 0; // a row that is all zero
    std::string xType = rows(columns, stride),
                qType = rows(padded, qStride, "i8");
    KernelJIT run(kernel(
        formatv("%x: {0}, %q: {1}, %scale: memref<?xf32>, %sum: memref<?xi32>",
                xType, qType)
            .str(),
        formatv("ternary.quantize_activations ins(%x : {0}) "
                "outs(%q, %scale, %sum : {1}, memref<?xf32>, memref<?xi32>)",
                xType, qType)
            .str()));
    run(makeMemRef(x, columns, stride), makeMemRef(q, padded, qStride),
        makeMemRef(scale), makeMemRef(sum));
    for (int64_t n = 0; n < numTokens; ++n) {
      const float *row = &x[n * stride];
      float a = 0;
      for (int64_t i = 0; i < columns; ++i)
        a = std::max(a, std::abs(row[i]));
      float s = 127 / std::max(a, 1e-5f);
      expectedScale[n] = s;
      for (int64_t i = 0; i < padded; ++i) {
        float v = i < columns ? std::nearbyint(row[i] * s) : 0;
        int8_t code = int8_t(std::min(std::max(v, -128.0f), 127.0f));
        expectedQ[n * qStride + i] = code;
        expectedSum[n] += code;
      }
    }
    expectSameBits(q, expectedQ);
    expectSameBits(scale, expectedScale);
    expectSameBits(sum, expectedSum);
  }
}

TEST_P(RowKernelTest, GatedActivation) {
  std::vector<float> up = randomFloats(numTokens * stride);
  std::string type = rows(columns, stride);
  for (bool silu : {false, true}) {
    KernelJIT run(kernel(
        formatv("%gate: {0}, %up: {0}, %y: {0}", type).str(),
        formatv("ternary.gated_activation {1} ins(%gate, %up : {0}, {0}) "
                "outs(%y : {0})",
                type, silu ? "silu" : "relu2")
            .str()));
    run(makeMemRef(x, columns, stride), makeMemRef(up, columns, stride),
        makeMemRef(y, columns, stride));
    for (int64_t n = 0; n < numTokens; ++n)
      for (int64_t i = 0; i < columns; ++i) {
        float g = x[n * stride + i], u = up[n * stride + i];
        float r = g > 0 ? g : 0;
        expected[n * stride + i] =
            silu ? (g / (1 + expOf(-g))) * u : (r * r) * u;
      }
    expectSameBits(y, expected);
  }
}

TEST_P(RowKernelTest, GatherRows) {
  std::vector<int32_t> indices = {2, 0, 2};
  std::string type = rows(columns, stride);
  KernelJIT run(
      kernel(formatv("%x: {0}, %rows: memref<?xi32>, %y: {0}", type).str(),
             formatv("ternary.gather_rows ins(%x, %rows : {0}, memref<?xi32>) "
                     "outs(%y : {0})",
                     type)
                 .str()));
  run(makeMemRef(x, columns, stride), makeMemRef(indices),
      makeMemRef(y, columns, stride));
  for (int64_t n = 0; n < numTokens; ++n)
    for (int64_t i = 0; i < columns; ++i)
      expected[n * stride + i] = x[indices[n] * stride + i];
  expectSameBits(y, expected);
}

TEST_P(RowKernelTest, Add) {
  std::vector<float> other = randomFloats(numTokens * stride);
  std::string type = rows(columns, stride);
  KernelJIT run(kernel(
      formatv("%a: {0}, %b: {0}, %y: {0}", type).str(),
      formatv("linalg.add ins(%a, %b : {0}, {0}) outs(%y : {0})", type).str()));
  run(makeMemRef(x, columns, stride), makeMemRef(other, columns, stride),
      makeMemRef(y, columns, stride));
  for (int64_t n = 0; n < numTokens; ++n)
    for (int64_t i = 0; i < columns; ++i)
      expected[n * stride + i] = x[n * stride + i] + other[n * stride + i];
  expectSameBits(y, expected);
}

TEST_P(RowKernelTest, Embedding) {
  constexpr int64_t vocabulary = 150, tileRows = 64;
  std::vector<uint16_t> table = randomBF16(vocabulary * columns);
  std::vector<int32_t> tokens = {149, 0, 64};
  for (int64_t n = 0; n < numTokens; ++n)
    for (int64_t i = 0; i < columns; ++i)
      expected[n * stride + i] = fromBF16(table[tokens[n] * columns + i]);
  std::string yType = rows(columns, stride);

  KernelJIT plain(kernel(
      formatv("%tokens: memref<?xi32>, %table: memref<{1}x{2}xbf16>, %y: {0}",
              yType, vocabulary, columns)
          .str(),
      formatv("ternary.embedding ins(%tokens, %table : memref<?xi32>, "
              "memref<{1}x{2}xbf16>) outs(%y : {0})",
              yType, vocabulary, columns)
          .str()));
  plain(makeMemRef(tokens), makeMemRef(table, columns, columns),
        makeMemRef(y, columns, stride));
  expectSameBits(y, expected);

  std::vector<uint8_t> packed(llvm::alignTo(vocabulary, tileRows) *
                              llvm::divideCeil(columns, 2) * 4);
  packBF16Pairs(table, columns, tileRows, packed);
  KernelJIT fromPacked(
      kernel(formatv("%tokens: memref<?xi32>, %table: memref<{1}xi8>, %y: {0}",
                     yType, packed.size())
                 .str(),
             formatv("ternary.embedding ins(%tokens, %table : memref<?xi32>, "
                     "memref<{1}xi8>) outs(%y : {0}) {{layout = "
                     "#ternary.layout<bf16_pairs, tile_rows = {2}, lanes = 16, "
                     "unroll = 1, tokens = 4, prefetch = 0>}",
                     yType, packed.size(), tileRows)
                 .str()));
  std::fill(y.begin(), y.end(), kUntouched);
  fromPacked(makeMemRef(tokens), makeMemRef(packed),
             makeMemRef(y, columns, stride));
  expectSameBits(y, expected);
}

INSTANTIATE_TEST_SUITE_P(Columns, RowKernelTest,
                         ::testing::Values(1, 15, 16, 64, 77));

//===----------------------------------------------------------------------===//
// Linear
//===----------------------------------------------------------------------===//

struct LinearShape {
  int64_t rows, columns, tokens, tileRows, unroll, accumulators;
};

class LinearKernelTest : public ::testing::TestWithParam<LinearShape> {
protected:
  void SetUp() override {
    for (int64_t n = 0; n < shape.tokens; ++n)
      for (int64_t m = 0; m < shape.rows; ++m) {
        float sum = 0;
        for (int64_t k = 0; k < shape.columns; ++k)
          sum = std::fma(fromBF16(w[m * shape.columns + k]), x[n * xStride + k],
                         sum);
        expected[n * yStride + m] = sum;
      }
  }

  LinearShape shape = GetParam();
  int64_t xStride = shape.columns + 3, yStride = shape.rows + 2;
  std::vector<uint16_t> w = randomBF16(shape.rows * shape.columns);
  std::vector<float> x = randomFloats(shape.tokens * xStride);
  std::vector<float> y = std::vector<float>(shape.tokens * yStride, kUntouched);
  std::vector<float> expected = y;
  std::string xType = rows(shape.columns, xStride);
  std::string yType = rows(shape.rows, yStride);
};

TEST_P(LinearKernelTest, Plain) {
  std::string wType =
      formatv("memref<{0}x{1}xbf16>", shape.rows, shape.columns);
  KernelJIT run(
      kernel(formatv("%x: {0}, %w: {1}, %y: {2}", xType, wType, yType).str(),
             formatv("ternary.linear ins(%x, %w : {0}, {1}) outs(%y : {2})",
                     xType, wType, yType)
                 .str()));
  run(makeMemRef(x, shape.columns, xStride),
      makeMemRef(w, shape.columns, shape.columns),
      makeMemRef(y, shape.rows, yStride));
  expectSameBits(y, expected);
}

TEST_P(LinearKernelTest, Packed) {
  std::vector<uint8_t> packed(llvm::alignTo(shape.rows, shape.tileRows) *
                              llvm::divideCeil(shape.columns, 2) * 4);
  packBF16Pairs(w, shape.columns, shape.tileRows, packed);
  KernelJIT run(
      kernel(formatv("%x: {0}, %w: memref<{1}xi8>, %y: {2}", xType,
                     packed.size(), yType)
                 .str(),
             formatv("ternary.packed_linear <bf16_pairs, tile_rows = {3}, "
                     "lanes = 16, unroll = {4}, tokens = 4, prefetch = 256> "
                     "ins(%x, %w : {0}, memref<{1}xi8>) outs(%y : {2})",
                     xType, packed.size(), yType, shape.tileRows, shape.unroll)
                 .str()),
      shape.accumulators);
  run(makeMemRef(x, shape.columns, xStride), makeMemRef(packed),
      makeMemRef(y, shape.rows, yStride));
  expectSameBits(y, expected);
}

INSTANTIATE_TEST_SUITE_P(Shapes, LinearKernelTest,
                         ::testing::Values(LinearShape{64, 64, 1, 64, 1, 16},
                                           LinearShape{256, 64, 9, 128, 4, 16},
                                           LinearShape{130, 37, 6, 64, 2, 16},
                                           LinearShape{33, 1, 5, 32, 2, 4},
                                           LinearShape{17, 50, 4, 128, 3, 4}));

//===----------------------------------------------------------------------===//
// Ternary matmul
//===----------------------------------------------------------------------===//

/// `schedule`: the fields of an i2 layout that do not change the bytes.
struct MatmulShape {
  const char *target;
  int64_t rows, columns, tokens;
  const char *schedule;
};

class PackedMatmulTest : public ::testing::TestWithParam<MatmulShape> {};

TEST_P(PackedMatmulTest, EqualBits) {
  MatmulShape shape = GetParam();
  KernelJIT::Support support = KernelJIT::prepareFor(shape.target);
  if (support == KernelJIT::Support::None)
    GTEST_SKIP() << "this machine does not run " << shape.target;
  uint64_t emulatedBefore = avxvnni::countEmulated();
  int64_t rows16 = llvm::alignTo(shape.rows, 16);
  int64_t columns = shape.columns, qStride = columns + 4;
  std::mt19937 generator(7);
  std::vector<int8_t> trits(rows16 * columns);
  for (int64_t i = 0; i < shape.rows * columns; ++i)
    trits[i] = int8_t(generator() % 3) - 1;
  mlir::MLIRContext context;
  context.loadDialect<ternary::TernaryDialect>();
  auto layout =
      ternary::LayoutAttr::getTrits(&context, ternary::Packing::I2, {});
  std::vector<uint8_t> packed(layout.getPackedBytes(rows16, columns));
  packTrits(layout, trits, columns, packed);

  std::vector<int8_t> q(shape.tokens * qStride);
  for (int8_t &code : q)
    code = int8_t(generator());
  std::fill_n(q.begin(), columns, int8_t(-128)); // the largest sums
  std::vector<float> scale = randomFloats(shape.tokens, 100);
  std::vector<float> rowScales = randomFloats(rows16 / 16);
  std::vector<int32_t> sum(shape.tokens);
  int64_t yStride = rows16 + 16;
  std::vector<float> y(shape.tokens * yStride, kUntouched), expected = y;
  for (int64_t n = 0; n < shape.tokens; ++n) {
    for (int64_t k = 0; k < columns; ++k)
      sum[n] += q[n * qStride + k];
    for (int64_t m = 0; m < rows16; ++m) {
      int32_t acc = 0;
      for (int64_t k = 0; k < columns; ++k)
        acc += trits[m * columns + k] * q[n * qStride + k];
      expected[n * yStride + m] = float(acc) * (rowScales[m / 16] / scale[n]);
    }
  }

  std::string qType = ::rows(columns, qStride, "i8");
  std::string yType = ::rows(rows16, yStride);
  std::string types =
      formatv("{0}, memref<?xf32>, memref<?xi32>, memref<{1}xi8>, "
              "memref<{2}xf32>",
              qType, packed.size(), rowScales.size());
  KernelJIT run(
      kernel(formatv("%q: {0}, %scale: memref<?xf32>, %sum: memref<?xi32>, "
                     "%w: memref<{1}xi8>, %scales: memref<{2}xf32>, %y: {3}",
                     qType, packed.size(), rowScales.size(), yType)
                 .str(),
             formatv("ternary.packed_matmul <i2, tile_rows = 64, {0}> "
                     "ins(%q, %scale, %sum, %w, %scales : {1}) outs(%y : {2})",
                     shape.schedule, types, yType)
                 .str()),
      /*accumulators=*/16, llvm::cantFail(parseTarget(shape.target)));
  run(makeMemRef(q, columns, qStride), makeMemRef(scale), makeMemRef(sum),
      makeMemRef(packed), makeMemRef(rowScales),
      makeMemRef(y, rows16, yStride));
  expectSameBits(y, expected);
  if (support == KernelJIT::Support::Emulated)
    EXPECT_GT(avxvnni::countEmulated(), emulatedBefore);
}

constexpr const char *kVNNI =
    "lanes = 16, unroll = 4, tokens = 6, prefetch = 4096, in_place = true";
constexpr const char *kAVXVNNI =
    "lanes = 8, unroll = 1, tokens = 2, prefetch = 0, in_place = true";
constexpr const char *kShifted =
    "lanes = 8, unroll = 2, tokens = 2, prefetch = 0";

INSTANTIATE_TEST_SUITE_P(
    Shapes, PackedMatmulTest,
    ::testing::Values(MatmulShape{"x86-64-v4+avx512vnni", 64, 64, 1, kVNNI},
                      MatmulShape{"x86-64-v4+avx512vnni", 208, 260, 13, kVNNI},
                      MatmulShape{"x86-64-v4+avx512vnni", 70, 8192, 2, kVNNI},
                      MatmulShape{"x86-64-v3+avxvnni", 208, 260, 13, kAVXVNNI},
                      MatmulShape{"x86-64-v3", 64, 64, 1, kShifted},
                      MatmulShape{"x86-64-v3", 208, 260, 13, kShifted},
                      MatmulShape{"x86-64-v2", 70, 132, 3, kShifted}));

//===----------------------------------------------------------------------===//
// Rope, KV cache, attention
//===----------------------------------------------------------------------===//

struct AttentionShape {
  int64_t kvHeads, groupSize, headDim, context, accumulators;
};

class AttentionKernelTest : public ::testing::TestWithParam<AttentionShape> {
protected:
  AttentionShape shape = GetParam();
  int64_t queryHeads = shape.kvHeads * shape.groupSize;
};

TEST_P(AttentionKernelTest, Rope) {
  int64_t h = shape.headDim, columns = queryHeads * h, stride = columns + 4;
  std::vector<int32_t> positions = {3, 0, 7};
  std::vector<float> table = randomFloats(8 * h, 1);
  std::vector<float> x = randomFloats(3 * stride);
  std::vector<float> y(3 * stride, kUntouched), expected = y;
  std::string type = rows(columns, stride);
  KernelJIT run(kernel(
      formatv("%x: {0}, %positions: memref<?xi32>, %table: memref<8x{1}xf32>, "
              "%y: {0}",
              type, h)
          .str(),
      formatv("ternary.rope ins(%x, %positions, %table : {0}, memref<?xi32>, "
              "memref<8x{1}xf32>) outs(%y : {0})",
              type, h)
          .str()));
  run(makeMemRef(x, columns, stride), makeMemRef(positions),
      makeMemRef(table, h, h), makeMemRef(y, columns, stride));
  for (int64_t n = 0; n < 3; ++n)
    for (int64_t i = 0; i < columns; ++i) {
      if (i % h >= h / 2)
        continue;
      float c = table[positions[n] * h + i % h];
      float s = table[positions[n] * h + h / 2 + i % h];
      int64_t first = n * stride + i, second = first + h / 2;
      expected[first] = std::fma(x[first], c, -(x[second] * s));
      expected[second] = std::fma(x[second], c, x[first] * s);
    }
  expectSameBits(y, expected);
}

/// Updates with all positions of several slots, in any order, then attends.
TEST_P(AttentionKernelTest, KVUpdateAndAttention) {
  constexpr int64_t layers = 2, layer = 1, slots = 3;
  int64_t h = shape.headDim, kvColumns = shape.kvHeads * h;
  int64_t columns = queryHeads * h, stride = columns + 4;

  // Slot 1 stays empty; slot 2 is full.
  std::vector<int32_t> slotOf, positionOf;
  for (int64_t position = 0; position < shape.context; ++position)
    for (int64_t slot : {0, 2})
      if (slot == 2 || position < 18) {
        slotOf.push_back(slot);
        positionOf.push_back(position);
      }
  int64_t numTokens = slotOf.size();
  std::vector<float> keys = randomFloats(numTokens * kvColumns);
  std::vector<float> values = randomFloats(numTokens * kvColumns);
  std::vector<float> q = randomFloats(numTokens * stride);
  std::vector<float> y(numTokens * stride, kUntouched), expected = y;
  // Stale keys and values of an earlier sequence must not count.
  // A row of 64 positions has a block more than there are (docs/packings.md).
  int64_t rowSize = (2 * layers * shape.kvHeads + 1) * 64 * h;
  int64_t slotSize = llvm::divideCeil(shape.context, 64) * rowSize;
  std::vector<float> cache = randomFloats(slots * slotSize, 100);

  std::string cacheType =
      formatv("!ternary.kv_cache<layers = {0}, heads = {1}, context = {2}, "
              "head_dim = {3}>",
              layers, shape.kvHeads, shape.context, h);
  std::string cacheMemRef = formatv("memref<?x{0}xf32>", slotSize);
  std::string kvType = rows(kvColumns, kvColumns),
              qType = rows(columns, stride);
  KernelJIT run(
      kernel(
          formatv("%k: {0}, %v: {0}, %q: {1}, %positions: memref<?xi32>, "
                  "%slots: memref<?xi32>, %memory: {2}, %y: {1}, "
                  "%layer: index",
                  kvType, qType, cacheMemRef)
              .str(),
          formatv(
              "%cache = builtin.unrealized_conversion_cast %memory : {3} to "
              "{2}\n"
              "ternary.kv_update %k, %v, %positions, %slots into %cache layer "
              "%layer : {0}, {0}, memref<?xi32>, memref<?xi32>, {2}\n"
              "ternary.attention ins(%q, %positions, %slots, %cache layer "
              "%layer : {1}, memref<?xi32>, memref<?xi32>, {2}) "
              "outs(%y : {1}) scale = 0.125",
              kvType, qType, cacheType, cacheMemRef)
              .str()),
      shape.accumulators);
  run(makeMemRef(keys, kvColumns, kvColumns),
      makeMemRef(values, kvColumns, kvColumns), makeMemRef(q, columns, stride),
      makeMemRef(positionOf), makeMemRef(slotOf),
      makeMemRef(cache, slotSize, slotSize), makeMemRef(y, columns, stride),
      layer);

  // Row of `keys` and `values` of each position of a slot.
  std::vector<std::vector<int64_t>> tokenAt(
      slots, std::vector<int64_t>(shape.context));
  for (int64_t n = 0; n < numTokens; ++n)
    tokenAt[slotOf[n]][positionOf[n]] = n;
  for (int64_t n = 0; n < numTokens; ++n)
    for (int64_t head = 0; head < queryHeads; ++head) {
      int64_t kvColumn = head / shape.groupSize * h;
      const float *query = &q[n * stride + head * h];
      int64_t count = positionOf[n] + 1;
      std::vector<float> p(count);
      float m = -INFINITY;
      for (int64_t j = 0; j < count; ++j) {
        float t = 0;
        for (int64_t d = 0; d < h; ++d)
          t = std::fma(query[d],
                       keys[tokenAt[slotOf[n]][j] * kvColumns + kvColumn + d],
                       t);
        p[j] = t * 0.125f;
        m = std::max(m, p[j]);
      }
      std::array<float, 16> lane = {};
      for (int64_t j = 0; j < count; ++j) {
        p[j] = p[j] - m >= -44 ? expOf(p[j] - m) : 0;
        lane[j % 16] = lane[j % 16] + p[j];
      }
      float l = sum16(lane);
      for (int64_t d = 0; d < h; ++d) {
        float o = 0;
        for (int64_t j = 0; j < count; ++j)
          o = std::fma(p[j],
                       values[tokenAt[slotOf[n]][j] * kvColumns + kvColumn + d],
                       o);
        expected[n * stride + head * h + d] = o * (1 / l);
      }
    }
  expectSameBits(y, expected);
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionKernelTest,
                         ::testing::Values(AttentionShape{2, 4, 128, 96,
                                                          16}, // BitNet 2B4T
                                           AttentionShape{3, 1, 64, 150, 16},
                                           AttentionShape{1, 8, 128, 70, 16},
                                           AttentionShape{2, 3, 80, 37, 16},
                                           AttentionShape{1, 5, 24, 33, 16},
                                           AttentionShape{1, 2, 256, 20, 16},
                                           AttentionShape{2, 4, 128, 50, 4},
                                           AttentionShape{1, 3, 40, 50, 2}));

} // namespace
