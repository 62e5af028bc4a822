// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Session.h"
#include "tests/runtime/FakeBlob.h"

#include <gtest/gtest.h>

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

TEST_F(SessionTest, SequencesAreIndependent) {
  std::vector<float> all = allLogits({});
  std::unique_ptr<Session> session = create({.numSlots = 3, .stepTokens = 2});
  // Slot 1 runs ahead of slot 2; slot 0 stays empty.
  ASSERT_FALSE(session->append(1, TokenSpan(tokens).first(5),
                               Session::Logits::None, nullptr));
  ASSERT_FALSE(session->append(2, TokenSpan(tokens).first(2),
                               Session::Logits::None, nullptr));
  std::vector<float> logits(3 * FakeVocab);
  int32_t next[] = {tokens[5], tokens[0], tokens[2]}, slots[] = {1, 0, 2};
  ASSERT_FALSE(session->appendEach(slots, next, logits.data()));
  int rows[] = {5, 0, 2};
  for (int i = 0; i < 3; ++i)
    EXPECT_TRUE(std::equal(logits.begin() + i * FakeVocab,
                           logits.begin() + (i + 1) * FakeVocab,
                           all.begin() + rows[i] * FakeVocab));
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
  EXPECT_TRUE(Session::create(model, {.context = 1000}, session));
}

TEST_F(SessionTest, CopiedWeightsWork) {
  ASSERT_FALSE(model.load({.checkWeights = true, .copyWeights = true}));
  EXPECT_NE(model.weights(), model.artifact().weights().data());
  EXPECT_EQ(allLogits({}).size(), tokens.size() * FakeVocab);
}
