// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Session.h"
#include "tests/runtime/FakeBlob.h"

#include <gtest/gtest.h>
#include <random>

using namespace tercet;
using namespace tercet::test;

namespace {
class SessionTest : public testing::Test {
protected:
  void SetUp() override {
    Error error = Model::open(model);
    ASSERT_FALSE(error) << error.message();
    ASSERT_FALSE(model.load({}));
    for (int i = 0; i < 40; ++i)
      tokens.push_back(i * 37 % FakeVocab);
  }

  std::unique_ptr<Session> create(Session::Options options) {
    std::unique_ptr<Session> session;
    EXPECT_FALSE(Session::create(model, options, session));
    return session;
  }

  std::vector<float> allLogits(Session::Options options) {
    std::unique_ptr<Session> session = create(options);
    std::vector<float> logits(tokens.size() * FakeVocab);
    EXPECT_FALSE(
        session->append(0, tokens, Session::Logits::All, logits.data()));
    return logits;
  }

  Model model;
  std::vector<int32_t> tokens;
};
} // namespace

TEST_F(SessionTest, ChunksAndThreadsChangeNothing) {
  std::vector<float> expected = allLogits({.numThreads = 1, .stepTokens = 1});
  for (int threads : {1, 2, 3, 8})
    for (uint32_t chunk : {1, 3, 16, 0})
      EXPECT_EQ(allLogits({.numThreads = threads, .stepTokens = chunk}),
                expected);
}

TEST_F(SessionTest, LastIsTheLastOfAll) {
  std::vector<float> all = allLogits({});
  std::unique_ptr<Session> session = create({});
  std::vector<float> last(FakeVocab);
  ASSERT_FALSE(session->append(0, tokens, Session::Logits::Last, last.data()));
  EXPECT_TRUE(std::equal(last.begin(), last.end(), all.end() - FakeVocab));
}

/// Any composition and order: pieces of four sequences, prompts and single
/// tokens mixed, each sequence getting its logits as if it were alone.
TEST_F(SessionTest, BatchesChangeNothing) {
  std::vector<float> all = allLogits({});
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    auto below = [&](uint32_t limit) { return random() % limit; };
    std::unique_ptr<Session> session =
        create({.numThreads = int(1 + below(3)),
                .numSlots = 4,
                .stepTokens = uint32_t(below(17))});
    for (int turn = 0; turn < 6; ++turn) {
      std::vector<int32_t> batch, slots, rows, rowPositions;
      std::vector<uint32_t> lengths;
      for (int32_t slot = 0; slot < 4; ++slot) {
        if (below(8) == 0) // Leaves; another one joins.
          session->truncate(slot, 0);
        lengths.push_back(session->length(slot));
      }
      for (int piece = 0; piece < 5; ++piece) {
        int32_t slot = below(4);
        uint32_t count = std::min<uint32_t>(below(2) ? 1 : below(12),
                                            tokens.size() - lengths[slot]);
        for (; count; --count) {
          if (below(2)) {
            rows.push_back(batch.size());
            rowPositions.push_back(lengths[slot]);
          }
          batch.push_back(tokens[lengths[slot]++]);
          slots.push_back(slot);
        }
      }
      std::vector<float> logits(rows.size() * FakeVocab);
      ASSERT_FALSE(session->append({batch, slots, rows}, logits.data()));
      for (size_t r = 0; r < rows.size(); ++r)
        ASSERT_TRUE(std::equal(logits.begin() + r * FakeVocab,
                               logits.begin() + (r + 1) * FakeVocab,
                               all.begin() + rowPositions[r] * FakeVocab));
      for (int32_t slot = 0; slot < 4; ++slot)
        ASSERT_EQ(session->length(slot), lengths[slot]);
    }
  }
}

TEST_F(SessionTest, CopiesContinueAlike) {
  std::vector<float> all = allLogits({});
  std::unique_ptr<Session> session = create({.numSlots = 3});
  std::vector<int32_t> other(70, 5);
  ASSERT_FALSE(session->append(2, other, Session::Logits::None, nullptr));
  ASSERT_FALSE(session->append(1, TokenSpan(tokens).first(30),
                               Session::Logits::None, nullptr));
  session->copy(1, 2);
  std::vector<float> last(FakeVocab);
  for (uint32_t slot : {2, 1}) {
    ASSERT_FALSE(session->append(slot, TokenSpan(tokens).subspan(30),
                                 Session::Logits::Last, last.data()));
    EXPECT_TRUE(std::equal(last.begin(), last.end(), all.end() - FakeVocab));
  }
}

TEST_F(SessionTest, TruncatedSequencesContinue) {
  std::vector<float> all = allLogits({});
  std::unique_ptr<Session> session = create({});
  std::vector<int32_t> other(20, 5);
  ASSERT_FALSE(session->append(0, TokenSpan(tokens).first(10),
                               Session::Logits::None, nullptr));
  ASSERT_FALSE(session->append(0, other, Session::Logits::None, nullptr));
  session->truncate(0, 10);
  std::vector<float> last(FakeVocab);
  ASSERT_FALSE(session->append(0, TokenSpan(tokens).subspan(10),
                               Session::Logits::Last, last.data()));
  EXPECT_TRUE(std::equal(last.begin(), last.end(), all.end() - FakeVocab));
}

TEST_F(SessionTest, RefusesBadInput) {
  std::unique_ptr<Session> session = create({.context = 10});
  int32_t outside[] = {1, int32_t(FakeVocab)}, negative[] = {-1};
  EXPECT_EQ(
      session->append(0, outside, Session::Logits::None, nullptr).message(),
      "token id 300 (number 2) is out of range: the vocabulary has ids "
      "0 to 299");
  EXPECT_TRUE(session->append(0, negative, Session::Logits::None, nullptr));
  EXPECT_TRUE(session->append(0, tokens, Session::Logits::None, nullptr));
  EXPECT_EQ(session->length(), 0u);

  session = create({.context = 10, .numSlots = 2});
  std::vector<int32_t> twelve(12, 1), slots(12, 1);
  slots[0] = 0;
  EXPECT_EQ(session->append({twelve, slots, {}}, nullptr).message(),
            "sequence 1: 11 more tokens do not fit the context: 0 of 10 tokens "
            "are in use");
  EXPECT_EQ(session->length(0), 0u);
  EXPECT_TRUE(Session::create(model, {.context = 1000}, session));
}

TEST_F(SessionTest, CopiedWeightsWork) {
  ASSERT_FALSE(model.load({.checkWeights = true, .copyWeights = true}));
  EXPECT_NE(model.weights(), model.artifact().weights().data());
  EXPECT_EQ(allLogits({}).size(), tokens.size() * FakeVocab);
}
