// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <random>

using namespace tercet;

TEST(Sampler, GreedyTakesTheLowestOfEqualLogits) {
  Sampler sampler({});
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 3, 3, 2}), 1);
  float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(sampler.sample(std::vector<float>{nan, -1, nan, 2}), 3);
  EXPECT_EQ(sampler.sample(std::vector<float>{nan, nan}), 0);
}

TEST(Sampler, NoiseIsGumbel) {
  for (double x = 1e-12; x < 50; x *= 1.0137)
    EXPECT_NEAR(naturalLog(x), std::log(x), std::fabs(std::log(x)) * 0x1p-51);
  EXPECT_NEAR(naturalLog(1 - 0x1p-53) / std::log1p(-0x1p-53), 1, 1e-15);
  Noise noise(3, 5), other(3, 6);
  constexpr int count = 200000;
  double sum = 0, squares = 0, products = 0;
  for (int i = 0; i < count; ++i) {
    EXPECT_LE(noise[i], noise.atMost(i));
    sum += noise[i] / count;
    squares += noise[i] * noise[i] / count;
    products += noise[i] * other[i] / count;
  }
  EXPECT_NEAR(sum, 0.5772157, 0.01);
  EXPECT_NEAR(squares - sum * sum, 1.6449341, 0.02);
  EXPECT_NEAR(products - sum * sum, 0, 0.02) << "draws are independent";
}

TEST(Sampler, ExponentialIsAccurate) {
  for (double x = -40; x <= 0; x += 0.00137)
    EXPECT_NEAR(sampleWeight(x) / std::exp(x), 1, 0x1p-51) << x;
  EXPECT_EQ(sampleWeight(0), 1);
  EXPECT_EQ(sampleWeight(-40.001), 0);
  EXPECT_EQ(sampleWeight(-std::numeric_limits<double>::infinity()), 0);
}

/// Relative frequencies of 20000 draws.
static std::map<int, double> frequencies(SamplerOptions options,
                                         const std::vector<float> &logits) {
  Sampler sampler(options);
  std::map<int, double> out;
  for (int i = 0; i < 20000; ++i)
    out[sampler.sample(logits)] += 1.0 / 20000;
  return out;
}

TEST(Sampler, FollowsTheSoftmax) {
  auto seen = frequencies({.temperature = 2, .seed = 1},
                          {0, 2 * std::log(2.0f), 2 * std::log(5.0f)});
  EXPECT_NEAR(seen[0], 0.125, 0.01);
  EXPECT_NEAR(seen[1], 0.25, 0.01);
  EXPECT_NEAR(seen[2], 0.625, 0.01);
}

TEST(Sampler, TopKKeepsTheLowestOfEqualLogits) {
  auto seen =
      frequencies({.temperature = 1, .topK = 2, .seed = 2}, {1, 2, 1, 1});
  EXPECT_EQ(seen.size(), 2u);
  EXPECT_TRUE(seen.count(0) && seen.count(1));
}

TEST(Sampler, TopPKeepsTheFewestThatReachIt) {
  // Probabilities 0.125, 0.25, 0.625.
  std::vector<float> logits = {0, std::log(2.0f), std::log(5.0f)};
  EXPECT_EQ(frequencies({.temperature = 1, .topP = 0.6f}, logits).size(), 1u);
  EXPECT_EQ(frequencies({.temperature = 1, .topP = 0.63f}, logits).size(), 2u);
  EXPECT_EQ(frequencies({.temperature = 1, .topP = 0.9f}, logits).size(), 3u);
  EXPECT_EQ(frequencies({.temperature = 1, .topP = 0.0f}, logits).size(), 1u);
}

TEST(Sampler, SeedsGiveTheSameTokensEverywhere) {
  std::vector<float> logits(128256);
  for (size_t i = 0; i < logits.size(); ++i)
    logits[i] = static_cast<float>((i * 2654435761u) % 1000) / 100;
  auto draw = [&](SamplerOptions options) {
    Sampler sampler(options);
    std::vector<int32_t> out;
    for (int i = 0; i < 4; ++i)
      out.push_back(sampler.sample(logits));
    return out;
  };
  // Recorded once: another machine or compiler must reproduce them.
  using Tokens = std::vector<int32_t>;
  EXPECT_EQ(draw({.temperature = 0.7f, .seed = 42}),
            Tokens({108816, 64385, 77402, 11703}));
  EXPECT_EQ(draw({.temperature = 0.7f, .topP = 0.9f, .seed = 42}),
            Tokens({108816, 64385, 77402, 11703}));
  EXPECT_EQ(draw({.temperature = 0.7f, .topP = 0.9f, .topK = 50, .seed = 42}),
            Tokens({43159, 10159, 14159, 27159}));
}

TEST(Sampler, SurvivesInfinities) {
  float inf = std::numeric_limits<float>::infinity();
  Sampler sampler({.temperature = 1, .topP = 0.9f, .topK = 2});
  EXPECT_EQ(sampler.sample(std::vector<float>{0, inf, -inf}), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{-inf, -inf}), 0);
}

//===----------------------------------------------------------------------===//
// Logits that are known as intervals
//===----------------------------------------------------------------------===//

namespace {
/// Intervals around given logits, of which 16 neighbours become known at a
/// time.
class Intervals : public LogitBounds {
public:
  Intervals(const std::vector<float> &logits, float error, unsigned seed)
      : logits(logits), lowers(logits), uppers(logits) {
    std::mt19937 generator(seed);
    std::uniform_real_distribution<float> share(0, 1);
    for (size_t i = 0; i < logits.size(); ++i) {
      // Anywhere in an interval of a size of its own, also at its ends.
      float size = error * (1 + share(generator));
      float place = std::clamp(1.4f * share(generator) - 0.2f, 0.0f, 1.0f);
      lowers[i] = logits[i] - size * place;
      uppers[i] = std::max(lowers[i] + size, logits[i]);
      if (std::isinf(size)) {
        lowers[i] = -size;
        uppers[i] = size;
      }
    }
    lower = lowers;
    upper = uppers;
  }

  void refine(std::span<const int32_t> rows) override {
    for (int32_t row : rows)
      for (size_t i = row / 16 * 16;
           i < std::min<size_t>(row / 16 * 16 + 16, logits.size()); ++i) {
        numRefined += lowers[i] < uppers[i];
        lowers[i] = uppers[i] = logits[i];
      }
  }

  size_t numRefined = 0;

private:
  std::vector<float> logits, lowers, uppers;
};

struct Choice {
  const char *name;
  SamplerOptions options;
  /// The most that may become known of 5000 logits, on average.
  size_t most;
};

class IntervalTest : public testing::TestWithParam<Choice> {};
} // namespace

/// A few likely tokens, and some as likely as the likeliest one.
static std::vector<float> makeLogits(unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(5000 + seed % 7);
  for (float &logit : logits)
    logit = normal(generator);
  for (unsigned i = 0; i < seed % 5; ++i)
    logits[generator() % logits.size()] = 9.5f + 0.25f * (i % 3);
  return logits;
}

TEST_P(IntervalTest, ChooseWhatExactLogitsWould) {
  size_t numRefined = 0, numChoices = 0;
  std::map<int32_t, int> seen;
  for (unsigned seed = 0; seed < 400; ++seed) {
    std::vector<float> logits = makeLogits(seed);
    for (float error : {0.01f, 0.5f}) {
      SamplerOptions options = GetParam().options;
      options.seed = seed / 4;
      options.draw = seed;
      int32_t exact = Sampler(options).sample(logits);
      Intervals intervals(logits, error, seed);
      ASSERT_EQ(Sampler(options).sample(intervals), exact)
          << "seed " << seed << ", error " << error;
      numRefined += intervals.numRefined;
      ++numChoices;
      ++seen[exact];
    }
  }
  EXPECT_GT(seen.size(), 100u) << "the test has no variety";
  EXPECT_LE(numRefined / numChoices, GetParam().most);
}

INSTANTIATE_TEST_SUITE_P(
    Options, IntervalTest,
    testing::Values(
        Choice{"greedy", {}, 100}, Choice{"cold", {.temperature = 0.2f}, 100},
        Choice{"warm", {.temperature = 1}, 100},
        Choice{"hot", {.temperature = 20}, 200},
        Choice{"top_k", {.temperature = 1, .topK = 40}, 1500},
        Choice{"all_k", {.temperature = 1, .topK = 9999}, 5100},
        Choice{"top_p", {.temperature = 1, .topP = 0.9f}, 4500},
        Choice{"cold_p", {.temperature = 0.3f, .topP = 0.9f}, 800},
        Choice{"low_p", {.temperature = 1, .topP = 0.1f}, 4500},
        Choice{"high_p", {.temperature = 1, .topP = 0.999f}, 5100},
        Choice{"hot_p", {.temperature = 9, .topP = 0.5f}, 5100},
        Choice{"both", {.temperature = 0.8f, .topP = 0.9f, .topK = 40}, 1500}),
    [](const auto &info) { return info.param.name; });

/// Whatever the intervals, what cannot be known costs no more than asking.
TEST(Sampler, KnowsNothingWithoutAsking) {
  std::vector<float> logits = makeLogits(1);
  for (SamplerOptions options :
       {SamplerOptions{}, SamplerOptions{.temperature = 1},
        SamplerOptions{.temperature = 1, .topP = 0.9f},
        SamplerOptions{.temperature = 1, .topK = 5}}) {
    Intervals intervals(logits, std::numeric_limits<float>::infinity(), 1);
    EXPECT_EQ(Sampler(options).sample(intervals),
              Sampler(options).sample(logits));
    EXPECT_GT(intervals.numRefined, logits.size() - 16);
  }
}
