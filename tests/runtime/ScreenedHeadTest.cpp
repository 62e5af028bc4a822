// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/ScreenedHead.h"
#include "runtime/src/Sampler.h"
#include "runtime/src/ThreadPool.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

using namespace tercet;

namespace {
constexpr uint32_t vocab = 1000, numGroups = 63, width = 3;

/// The weights section: what compiled code would make a head of.
struct Weights {
  float head[vocab][width];
  float bounds[vocab];
};

float exactLogit(const Weights &weights, const float *hidden, size_t row) {
  float sum = 0;
  for (size_t k = 0; k < width; ++k)
    sum += weights.head[row][k] * hidden[k];
  return sum;
}

/// At both ends of the interval by turns.
float approximation(const Weights &weights, const float *hidden, size_t row) {
  float error = 0.99f * weights.bounds[row] * activationNorm({hidden, width});
  return exactLogit(weights, hidden, row) + (row % 2 ? error : -error);
}
} // namespace

void tercet_screen(const void *weights, void *, const float *hidden,
                   float *logits, int64_t numRows, tercet_pool *) {
  ASSERT_EQ(numRows, 1);
  for (size_t i = 0; i < vocab; ++i)
    logits[i] =
        approximation(*static_cast<const Weights *>(weights), hidden, i);
}

void tercet_head_rows(const void *weights, void *, const float *hidden,
                      const int32_t *groups, float *logits, int64_t numRows,
                      int64_t count, tercet_pool *) {
  ASSERT_EQ(numRows, 1);
  for (int64_t g = 0; g < count; ++g) {
    ASSERT_TRUE(g == 0 || groups[g - 1] < groups[g]);
    for (size_t i = groups[g] * 16; i < std::min(groups[g] * 16 + 16u, vocab);
         ++i)
      logits[i] = exactLogit(*static_cast<const Weights *>(weights), hidden, i);
  }
}

namespace {
class ScreenedHeadTest : public testing::Test {
protected:
  ScreenedHeadTest()
      : pool(1, 64), head(makeHeader(), &weights, nullptr, pool) {
    for (size_t i = 0; i < vocab; ++i) {
      for (size_t k = 0; k < width; ++k)
        weights.head[i][k] =
            static_cast<float>((i * 7919 + k * 104729) % 2003) / 1001 - 1;
      weights.bounds[i] = 0.01f + static_cast<float>(i % 3) / 300;
    }
  }

  const tercet_blob_header &makeHeader() {
    header.vocab_size = vocab;
    header.hidden_size = width;
    header.error_bounds = offsetof(Weights, bounds);
    return header;
  }

  std::vector<float> exactLogits(const float *hidden) {
    std::vector<float> logits(vocab);
    for (size_t i = 0; i < vocab; ++i)
      logits[i] = exactLogit(weights, hidden, i);
    return logits;
  }

  Weights weights;
  tercet_blob_header header = {};
  tercet_pool pool;
  ScreenedHead head;
};
} // namespace

TEST_F(ScreenedHeadTest, IntervalsHoldTheLogits) {
  float hidden[width] = {1, -2, 0.5f};
  head.start(hidden);
  std::vector<float> logits = exactLogits(hidden);
  for (size_t i = 0; i < vocab; ++i) {
    ASSERT_LE(head.lower[i], logits[i]);
    ASSERT_GE(head.upper[i], logits[i]);
    float size = 2 * weights.bounds[i] * activationNorm(hidden);
    ASSERT_NEAR(head.upper[i] - head.lower[i], size, 1e-5f);
  }
}

TEST_F(ScreenedHeadTest, RefinesGroups) {
  float hidden[width] = {1, -2, 0.5f};
  head.start(hidden);
  std::vector<float> logits = exactLogits(hidden);
  head.refine(std::vector<int32_t>{999, 35, 32, 33});
  head.refine(std::vector<int32_t>{34, 998});
  for (size_t i = 0; i < vocab; ++i) {
    bool isKnown = i / 16 == 2 || i / 16 == 62;
    ASSERT_EQ(head.lower[i] == logits[i], isKnown) << i;
    ASSERT_EQ(head.upper[i] == logits[i], isKnown) << i;
  }
  EXPECT_EQ(head.statistics().numGroups, 2u);
  EXPECT_EQ(head.statistics().numComplete, 0u);
}

/// Too many rows are all rows, and counted.
TEST_F(ScreenedHeadTest, FallsBackToTheFullHead) {
  float hidden[width] = {1, -2, 0.5f};
  head.start(hidden);
  std::vector<int32_t> rows;
  for (int32_t row = 0; row < 31 * 16; row += 16)
    rows.push_back(row);
  head.refine(rows);
  EXPECT_EQ(head.statistics().numGroups, 31u);
  head.refine(std::vector<int32_t>{600});
  EXPECT_EQ(head.statistics().numGroups, numGroups);
  EXPECT_EQ(head.statistics().numComplete, 1u);
  std::vector<float> logits = exactLogits(hidden);
  for (size_t i = 0; i < vocab; ++i)
    ASSERT_TRUE(head.lower[i] == logits[i] && head.upper[i] == logits[i]);
  head.refine(rows);
  EXPECT_EQ(head.statistics().numGroups, numGroups) << "nothing is read twice";
}

/// What may overflow has no bound.
TEST_F(ScreenedHeadTest, HugeHiddenStatesTakeTheFullHead) {
  for (float huge : {0x1p41f, std::numeric_limits<float>::infinity(),
                     std::numeric_limits<float>::quiet_NaN()}) {
    float hidden[width] = {1, huge, 0.5f};
    uint64_t before = head.statistics().numComplete;
    head.start(hidden);
    EXPECT_EQ(head.statistics().numComplete, before + 1);
    std::vector<float> logits = exactLogits(hidden);
    EXPECT_EQ(memcmp(head.lower.data(), logits.data(), sizeof(float) * vocab),
              0);
    EXPECT_EQ(memcmp(head.upper.data(), logits.data(), sizeof(float) * vocab),
              0);
    EXPECT_EQ(Sampler({}).sample(head), Sampler({}).sample(logits));
  }
}

/// Nor do such rows, whatever their approximations and logits are.
TEST_F(ScreenedHeadTest, RowsWithoutBoundAreAskedFor) {
  float hidden[width] = {1, -2, 0.5f};
  constexpr float inf = std::numeric_limits<float>::infinity();
  for (float logit : {inf, -inf, std::numeric_limits<float>::quiet_NaN()}) {
    weights.head[0][0] = weights.head[500][0] = logit;
    weights.bounds[0] = weights.bounds[500] = inf;
    std::vector<float> logits = exactLogits(hidden);
    for (SamplerOptions options :
         {SamplerOptions{}, SamplerOptions{.temperature = 0.7f},
          SamplerOptions{.temperature = 0.7f, .topP = 0.9f},
          SamplerOptions{.temperature = 0.7f, .topK = 20},
          SamplerOptions{.temperature = 0.7f, .topK = 5000}}) {
      head.start(hidden);
      EXPECT_TRUE(head.lower[0] == -inf && head.upper[0] == inf);
      EXPECT_EQ(Sampler(options).sample(head), Sampler(options).sample(logits))
          << logit;
    }
  }
}

TEST_F(ScreenedHeadTest, ChoosesAsTheFullHeadDoes) {
  for (int i = 0; i < 300; ++i) {
    float hidden[width] = {std::sin(i * 1.7f) * 8, std::cos(i * 0.9f) * 8,
                           std::sin(i * 2.3f + 1) * 8};
    std::vector<float> logits = exactLogits(hidden);
    for (SamplerOptions options :
         {SamplerOptions{}, SamplerOptions{.temperature = 0.7f},
          SamplerOptions{.temperature = 0.7f, .topP = 0.9f},
          SamplerOptions{.temperature = 0.7f, .topK = 20}}) {
      options.seed = i;
      head.start(hidden);
      ASSERT_EQ(Sampler(options).sample(head), Sampler(options).sample(logits));
    }
  }
}
