// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Streams of text: UTF-8 across pieces, stop strings, sampling.

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
