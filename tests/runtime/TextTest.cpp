// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Streams of text: UTF-8 across pieces, stop strings, sampling.

#include "runtime/src/Sampler.h"
#include "runtime/src/StopMatcher.h"
#include "runtime/src/Utf8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

using namespace tercet;

static constexpr std::string_view replacement = "\xEF\xBF\xBD";

static std::string replaced(int count) {
  std::string out;
  while (count-- > 0)
    out += replacement;
  return out;
}

TEST(Utf8, RepairsByMaximalSubparts) {
  EXPECT_EQ(repairUtf8("a\xFFz"), "a" + replaced(1) + "z");
  EXPECT_EQ(repairUtf8("\xE2\x82"), replaced(1)); // cut short
  EXPECT_EQ(repairUtf8("\xE2\x82x"), replaced(1) + "x");
  EXPECT_EQ(repairUtf8("\xC0\xAF"), replaced(2));         // overlong
  EXPECT_EQ(repairUtf8("\xED\xA0\x80"), replaced(3));     // surrogate
  EXPECT_EQ(repairUtf8("\xF4\x90\x80\x80"), replaced(4)); // above U+10FFFF
  EXPECT_EQ(repairUtf8("\xF0\x9F\x98\xF0\x9F\x98\x80"),
            replaced(1) + "\xF0\x9F\x98\x80");
}

TEST(Utf8, DecodesWhatItAppends) {
  for (uint32_t c = 0; c < 0x110000; c += c < 0x1000 ? 1 : 61) {
    if (c >= 0xD800 && c < 0xE000)
      continue;
    std::string text;
    appendUtf8(text, c);
    Utf8Character decoded = decodeUtf8(text);
    ASSERT_TRUE(decoded.valid);
    ASSERT_EQ(decoded.codePoint, c);
    ASSERT_EQ(decoded.length, text.size());
  }
}

TEST(Utf8, StreamsInAnyPiecesAsAtOnce) {
  std::string text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xFF\xE2\x82"
                     "b\xF0\x9F\x98";
  for (size_t size = 1; size <= text.size(); ++size) {
    Utf8Stream stream;
    std::string out;
    for (size_t i = 0; i < text.size(); i += size) {
      std::string shown = stream.push(text.substr(i, size));
      EXPECT_TRUE(isUtf8(shown));
      out += shown;
    }
    EXPECT_EQ(out + stream.finish(), repairUtf8(text));
    EXPECT_EQ(stream.finish(), "");
  }
}

TEST(StopMatcher, HoldsBackWhatMayBecomeAStop) {
  StopMatcher matcher({"END", "\n\n"});
  EXPECT_EQ(matcher.push("one E"), "one ");
  EXPECT_EQ(matcher.push("N"), "");
  EXPECT_EQ(matcher.push("JOY\n"), "ENJOY");
  EXPECT_EQ(matcher.push("two"), "\ntwo");
  EXPECT_FALSE(matcher.stopped());
  EXPECT_EQ(matcher.push("EENDx"), "E");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, TakesTheLeftmostStop) {
  StopMatcher matcher({"b", "abc", ""});
  EXPECT_EQ(matcher.push("xabc"), "x");
  EXPECT_TRUE(matcher.stopped());
}

TEST(StopMatcher, GivesBackWhatWasHeld) {
  StopMatcher matcher({"aab"});
  EXPECT_EQ(matcher.push("aaa"), "a");
  EXPECT_EQ(matcher.finish(), "aa");
}

TEST(StopMatcher, PassesEverythingWithoutStops) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.push("text"), "text");
}

TEST(Sampler, GreedyTakesTheLowestOfEqualLogits) {
  Sampler sampler({});
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 3, 3, 2}), 1);
  float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(sampler.sample(std::vector<float>{nan, -1, nan, 2}), 3);
  EXPECT_EQ(sampler.sample(std::vector<float>{nan, nan}), 0);
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
            Tokens({95113, 20498, 35724, 44151}));
  EXPECT_EQ(draw({.temperature = 0.7f, .topP = 0.9f, .seed = 42}),
            Tokens({6402, 113749, 25339, 122134}));
  EXPECT_EQ(draw({.temperature = 0.7f, .topP = 0.9f, .topK = 50, .seed = 42}),
            Tokens({33159, 7159, 12159, 15159}));
}

TEST(Sampler, SurvivesInfinities) {
  float inf = std::numeric_limits<float>::infinity();
  Sampler sampler({.temperature = 1, .topP = 0.9f, .topK = 2});
  EXPECT_EQ(sampler.sample(std::vector<float>{0, inf, -inf}), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{-inf, -inf}), 0);
}
