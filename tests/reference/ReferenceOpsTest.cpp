// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every op against values worked out by hand, or against an independent way to
// compute them.

#include "compiler/Reference/ReferenceOps.h"
#include "compiler/Reference/ReferenceMath.h"

#include "gtest/gtest.h"

#include <random>

using namespace llvm;
using namespace tercet;
using namespace tercet::reference;

using F = std::vector<float>;
using I = std::vector<int32_t>;
using B = std::vector<int8_t>;

static Floats random(ArrayRef<int64_t> shape, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  Floats result(shape);
  for (float &x : result.data)
    x = uniform(generator);
  return result;
}

TEST(Exp, IsWithinOneUlp) {
  long double worst = 0;
  for (float x = -87; x <= 88; x += 0.00003f) {
    long double exact = expl(x);
    float nearest = float(exact);
    long double ulp = nextafterf(nearest, INFINITY) - nearest;
    worst = std::max(worst, fabsl(reference::exp(x) - exact) / ulp);
  }
  EXPECT_LT(worst, 1.0L);
  EXPECT_GT(worst, 0.4L) << "the comparison itself looks broken";
}

TEST(Exp, EdgeCases) {
  EXPECT_EQ(reference::exp(0), 1);
  EXPECT_EQ(reference::exp(-1000), reference::exp(-87));
  EXPECT_EQ(reference::exp(1000), reference::exp(88));
  EXPECT_TRUE(std::isnormal(reference::exp(-87)));
  EXPECT_TRUE(std::isfinite(reference::exp(88)));
}

TEST(Sum16, FollowsTheTree) {
  // Lane 0 gets 2^24 and 1, which is lost in the chain; in any other order the
  // ones would add up first.
  F terms(32, 0);
  terms[0] = 0x1p24f;
  terms[16] = 1;
  terms[8] = 1;
  EXPECT_EQ(sum16(terms), 0x1p24f);
  terms[4] = 1;
  terms[12] = 1; // lane 4 is 2 before it meets lane 0
  EXPECT_EQ(sum16(terms), 0x1p24f + 2);
}

TEST(Sum16, TakesAnyLength) {
  EXPECT_EQ(sum16({}), 0);
  EXPECT_EQ(sum16(F(17, 1.0f)), 17);
  EXPECT_EQ(sumSquares16(F(17, 2.0f)), 68);
}

TEST(QuantizeActivations, RoundsHalfToEven) {
  // absmax 127 gives s = 1.
  Floats x({1, 6}, {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f});
  Quantised result = quantizeActivations(x, 8);
  EXPECT_EQ(result.q.data, (B{127, 0, 2, 2, 0, -2, 0, 0}));
  EXPECT_EQ(result.scale.data, F{1});
  EXPECT_EQ(result.sum.data, I{129});
}

TEST(QuantizeActivations, FloorsTheScale) {
  Quantised result = quantizeActivations(Floats({2, 1}, {0, 1e-6f}), 1);
  EXPECT_EQ(result.scale.data, (F{127 / 1e-5f, 127 / 1e-5f}));
  EXPECT_EQ(result.q.data, (B{0, 13}));
}

TEST(QuantizeActivations, NeverLeavesTheRange) {
  Quantised result = quantizeActivations(Floats({1, 2}, {-3, 3}), 2);
  EXPECT_EQ(result.q.data, (B{-127, 127}));
}

TEST(Matmul, IsExactAtTheExtremes) {
  // -128 * K does not fit 16 bits, and no float rounding hides in the sum.
  int64_t k = 1000;
  Bytes q({1, k}, B(k, -128)), w({2, k}, B(2 * k, 1));
  w.row(1)[0] = -1;
  Ints acc({1, 17});
  matmul(q, w, 15, acc);
  EXPECT_EQ(acc.data[15], -128000);
  EXPECT_EQ(acc.data[16], -128000 + 256);
  EXPECT_EQ(acc.data[0], 0);
}

TEST(Rescale, DividesScalesFirst) {
  Floats y({1, 3});
  rescale(Ints({1, 3}, {3, 5, 7}), Floats({1}, {3}), 0.1f, 1, 3, y);
  float factor = 0.1f / 3;
  EXPECT_EQ(y.data, (F{0, 5 * factor, 7 * factor}));
}

TEST(AbsmeanQuantize, RoundsHalfToEven) {
  // mean |w| = 1: 0.5 is a tie and becomes 0, 1.5 and 2 are clipped.
  Trits result = absmeanQuantize(Floats({1, 4}, {0.5f, -0.5f, 1.5f, -1.5f}));
  EXPECT_EQ(result.scale, 1);
  EXPECT_EQ(result.trits.data, (B{0, 0, 1, -1}));
  EXPECT_EQ(absmeanQuantize(Floats({1, 2}, {0, 0})).scale, 1e-5f);
}

TEST(RMSNorm, Normalises) {
  Floats y =
      rmsNorm(Floats({1, 4}, {1, -1, 1, -1}), Floats({4}, {1, 2, 3, 4}), 3.0f);
  EXPECT_EQ(y.data, (F{0.5f, -1, 1.5f, -2})); // 1 / sqrt(1 + 3)
}

TEST(Rope, RotatesHalves) {
  // Table row 1: angles of 90 degrees and 0.
  Floats table({2, 4}, {1, 1, 0, 0, 0, 1, 1, 0});
  Floats x({1, 8}, {1, 2, 3, 4, 5, 6, 7, 8});
  Expected<Floats> y = rope(x, Ints({1}, {1}), table);
  ASSERT_TRUE(bool(y));
  EXPECT_EQ(y->data, (F{-3, 2, 1, 4, -7, 6, 5, 8}));
  EXPECT_EQ(toString(rope(x, Ints({1}, {2}), table).takeError()),
            "position 2 is not in [0, 2)");
}

TEST(GatedActivation, ReLU2AndSiLU) {
  Floats gate({1, 3}, {-2, 0, 3}), up({1, 3}, {5, 5, 2});
  EXPECT_EQ(gatedActivation(ternary::Activation::ReLU2, gate, up).data,
            (F{0, 0, 18}));
  Floats silu = gatedActivation(ternary::Activation::SiLU, gate, up);
  EXPECT_EQ(silu.data[1], 0);
  EXPECT_NEAR(silu.data[2], 6 / (1 + std::exp(-3.0)), 1e-6);
}

TEST(GatherRows, ChecksRows) {
  Floats x({2, 2}, {1, 2, 3, 4});
  Expected<Floats> y = gatherRows(x, Ints({3}, {1, 0, 1}));
  ASSERT_TRUE(bool(y));
  EXPECT_EQ(y->data, (F{3, 4, 1, 2, 3, 4}));
  EXPECT_EQ(toString(gatherRows(x, Ints({1}, {-1})).takeError()),
            "row -1 is not in [0, 2)");
  EXPECT_EQ(toString(embedding(Ints({1}, {2}), x).takeError()),
            "token 2 is not in [0, 2)");
}

TEST(Linear, IsAChainOfFma) {
  // fma keeps the low part of (1 + e)^2 that a rounded product loses.
  float e = 0x1p-13f;
  Floats x({1, 2}, {-1, 1 + e}), w({1, 2}, {1 + 2 * e, 1 + e});
  EXPECT_EQ(linear(x, w, 3).data, (F{e * e, 0, 0}));
}

//===----------------------------------------------------------------------===//
// Attention
//===----------------------------------------------------------------------===//

class Attention : public testing::Test {
protected:
  static constexpr int64_t kHeads = 2, kHeadDim = 4, kTokens = 20;

  KVCache makeCache(ternary::KVElement element = ternary::KVElement::F32) {
    mlir::MLIRContext context;
    context.loadDialect<ternary::TernaryDialect>();
    return KVCache(
        ternary::KVCacheType::get(&context, 2, kHeads, 32, kHeadDim, element));
  }
  Floats keys = random({kTokens, kHeads * kHeadDim}, 1);
  Floats values = random({kTokens, kHeads * kHeadDim}, 2);
};

TEST_F(Attention, AgreesWithDoublePrecision) {
  KVCache cache = makeCache();
  Ints positions(kTokens), slots(kTokens);
  for (int64_t i = 0; i < kTokens; ++i)
    positions.data[i] = i;
  ASSERT_FALSE(bool(kvUpdate(keys, values, positions, slots, cache, 1)));

  // Four query heads: heads 0, 1 use KV head 0, heads 2, 3 use KV head 1.
  Floats q = random({kTokens, 4 * kHeadDim}, 3);
  Expected<Floats> y = attention(q, positions, slots, cache, 1, 0.5f);
  ASSERT_TRUE(bool(y));
  for (int64_t n = 0; n < kTokens; ++n)
    for (int64_t head = 0; head < 4; ++head) {
      double total = 0, expected[kHeadDim] = {};
      for (int64_t j = 0; j <= n; ++j) {
        double score = 0;
        for (int64_t d = 0; d < kHeadDim; ++d)
          score += q.row(n)[head * kHeadDim + d] *
                   keys.row(j)[head / 2 * kHeadDim + d];
        double p = std::exp(score * 0.5);
        total += p;
        for (int64_t d = 0; d < kHeadDim; ++d)
          expected[d] += p * values.row(j)[head / 2 * kHeadDim + d];
      }
      for (int64_t d = 0; d < kHeadDim; ++d)
        EXPECT_NEAR(y->row(n)[head * kHeadDim + d], expected[d] / total, 1e-6);
    }
}

TEST_F(Attention, KeepsSlotsAndLayersApart) {
  KVCache cache = makeCache();
  Floats key = random({2, kHeads * kHeadDim}, 4);
  Ints positions({2}, {0, 0}), slots({2}, {3, 5});
  ASSERT_FALSE(bool(kvUpdate(key, key, positions, slots, cache, 0)));
  // With a single key the output is its value.
  Floats q = random({2, kHeads * kHeadDim}, 5);
  Expected<Floats> y = attention(q, positions, slots, cache, 0, 1.0f);
  ASSERT_TRUE(bool(y));
  EXPECT_EQ(y->data, key.data);
  EXPECT_EQ(
      toString(attention(q, positions, slots, cache, 1, 1.0f).takeError()),
      "position 0 of slot 3 was never stored");
}

TEST_F(Attention, RoundsToBF16HalfToEven) {
  KVCache cache = makeCache(ternary::KVElement::BF16);
  Floats value({1, kHeads * kHeadDim},
               {0x1.01p0f, 0x1.03p0f, -0x1.010002p0f, 0x1.00fffep0f, //
                0, -0.0f, 0x1.ffp0f, 0x1p-149f});
  Ints zero({1}, {0});
  ASSERT_FALSE(bool(kvUpdate(value, value, zero, zero, cache, 0)));
  EXPECT_EQ(cache.rows.begin()->second.values,
            (F{1, 0x1.04p0f, -0x1.02p0f, 1, 0, 0, 2, 0}));
  EXPECT_TRUE(std::signbit(cache.rows.begin()->second.values[5]));
}

TEST_F(Attention, CodesEachHeadInInt8) {
  KVCache cache = makeCache(ternary::KVElement::Int8);
  Floats value({1, kHeads * kHeadDim}, {127, -2.5f, 3.5f, 0.5f, //
                                        0, 0, 0, 0});
  Ints zero({1}, {0});
  ASSERT_FALSE(bool(kvUpdate(value, value, zero, zero, cache, 0)));
  const KVCache::Rows &rows = cache.rows.begin()->second;
  EXPECT_EQ(rows.keys, (F{127, -2, 4, 0, 0, 0, 0, 0}));
  EXPECT_EQ(rows.valueScales, (F{1, 1e-5f / 127}));
}

TEST_F(Attention, Int8IsCloseToF32) {
  Ints positions(kTokens), slots(kTokens);
  for (int64_t i = 0; i < kTokens; ++i)
    positions.data[i] = i;
  Floats q = random({kTokens, 4 * kHeadDim}, 3);
  std::vector<Floats> results;
  for (ternary::KVElement element :
       {ternary::KVElement::F32, ternary::KVElement::Int8}) {
    KVCache cache = makeCache(element);
    ASSERT_FALSE(bool(kvUpdate(keys, values, positions, slots, cache, 1)));
    Expected<Floats> y = attention(q, positions, slots, cache, 1, 0.5f);
    ASSERT_TRUE(bool(y));
    results.push_back(*y);
  }
  EXPECT_NE(results[0].data, results[1].data);
  for (auto [exact, coded] : zip(results[0].data, results[1].data))
    EXPECT_NEAR(exact, coded, 0.02);
}

TEST_F(Attention, ChecksPositions) {
  KVCache cache = makeCache();
  Floats key = random({1, kHeads * kHeadDim}, 6);
  EXPECT_EQ(
      toString(kvUpdate(key, key, Ints({1}, {32}), Ints({1}, {0}), cache, 0)),
      "position 32 is not in [0, 32)");
}

//===----------------------------------------------------------------------===//
// Vectors
//===----------------------------------------------------------------------===//

TEST(Unpack, SelectsAPlane) {
  Bytes bytes({2}, {int8_t(0b10'01'00'10), int8_t(0b00'10'01'01)});
  EXPECT_EQ(unpack(bytes, 0, false).data, (B{2, 1}));
  EXPECT_EQ(unpack(bytes, 3, false).data, (B{2, 0}));
  EXPECT_EQ(unpack(bytes, 3, true).data, (B{int8_t(0x80), 0}));
}

TEST(Dot, MultipliesUnsignedBySigned) {
  Ints acc({2}, {10, INT32_MAX});
  Bytes codes({8}, {-1, 0, 0, 0, 1, 0, 0, 0});
  Bytes q({8}, {-128, 1, 1, 1, 1, 1, 1, 1});
  EXPECT_EQ(dot(acc, codes, q).data, (I{10 - 255 * 128, INT32_MIN}));
}

TEST(DotPairs, AddsTwoProductsInSixteenBits) {
  Shorts acc({2}, {10, INT16_MAX});
  Bytes codes({4}, {int8_t(128), int8_t(128), 2, 1});
  Bytes q({4}, {-128, -128, 1, -1});
  EXPECT_EQ(dotPairs(acc, codes, q).data,
            (std::vector<int16_t>{10 - 32768, INT16_MIN}));
}

/// The bound of LayoutAttr's (C3) is tight: one step more overflows.
TEST(DotPairs, HoldsTheLongestChain) {
  for (int8_t q : {-128, 127}) {
    Shorts pairs({1});
    for (int64_t i = 0; i < ternary::kMaxChain; ++i)
      pairs = dotPairs(pairs, Bytes({2}, {2, 2}), Bytes({2}, {q, q}));
    EXPECT_EQ(pairs.data[0], 4 * q * ternary::kMaxChain);
  }
  EXPECT_LT(4 * -128 * (ternary::kMaxChain + 1), INT16_MIN);
}

TEST(AddPairs, Widens) {
  Shorts pairs({4}, {INT16_MIN, INT16_MIN, 1, 0});
  EXPECT_EQ(addPairs(Ints({2}, {5, INT32_MAX}), pairs).data,
            (I{5 - 65536, INT32_MIN}));
}

TEST(Lookup, WrapsIndices) {
  Bytes table({4}, {10, 20, 30, 40}), indices({3}, {1, 7, -1});
  EXPECT_EQ(lookup(table, indices).data, (B{20, 40, 40}));
  Shorts sums({4}, {1000, 2000, 3000, 4000}), codes({3}, {1, 7, -1});
  EXPECT_EQ(lookup(sums, codes).data, (std::vector<int16_t>{2000, 4000, 4000}));
}
