// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "tercet/tercet.h"
#include "tests/runtime/FakeBlob.h"

#include <cstring>
#include <gtest/gtest.h>
#include <vector>

using namespace tercet::test;

namespace {
class ApiTest : public testing::Test {
protected:
  void SetUp() override {
    ASSERT_EQ(tercet_open(&model), TERCET_OK) << tercet_last_error();
    tercet_session_options options = {2, 20, 3};
    ASSERT_EQ(tercet_session_create(model, &options, &session), TERCET_OK);
    logits.resize(20 * FakeVocab);
  }
  void TearDown() override {
    tercet_session_destroy(session);
    tercet_close(model);
  }

  /// The likeliest token after row `row` of the logits.
  int32_t best(int row = 0) const {
    auto *begin = logits.data() + row * FakeVocab;
    return std::max_element(begin, begin + FakeVocab) - begin;
  }

  tercet_model *model = nullptr;
  tercet_session *session = nullptr;
  std::vector<float> logits;
};
} // namespace

TEST_F(ApiTest, Info) {
  tercet_model_info info;
  ASSERT_EQ(tercet_get_info(model, &info), TERCET_OK);
  EXPECT_EQ(info.vocab_size, FakeVocab);
  EXPECT_EQ(info.context, FakeContext);
  EXPECT_STREQ(info.target, "fake");
  EXPECT_EQ(info.num_eos_tokens, 1);
  EXPECT_EQ(info.eos_tokens[0], int32_t(FakeEos));
  EXPECT_EQ(std::string(info.json, info.json_size), "{\"model\": \"fake\"}");
}

TEST_F(ApiTest, Evaluates) {
  int32_t tokens[] = {10, 20, 30};
  ASSERT_EQ(tercet_eval(session, 1, tokens, 3, logits.data()), TERCET_OK);
  EXPECT_EQ(best(), 31);
  std::vector<float> last(logits.begin(), logits.begin() + FakeVocab);

  ASSERT_EQ(tercet_truncate(session, 1, 0), TERCET_OK);
  ASSERT_EQ(tercet_eval_all(session, 1, tokens, 3, logits.data()), TERCET_OK);
  EXPECT_EQ(best(1), 21);
  EXPECT_EQ(memcmp(last.data(), &logits[2 * FakeVocab], 4 * FakeVocab), 0);

  uint32_t length;
  ASSERT_EQ(tercet_length(session, 1, &length), TERCET_OK);
  EXPECT_EQ(length, 3u);
}

TEST_F(ApiTest, EvaluatesBatches) {
  // A prompt of sequence 2 in two pieces around a token of sequence 0.
  int32_t tokens[] = {10, 20, 30}, sequences[] = {2, 0, 2}, rows[] = {1, 2};
  float *out = logits.data();
  ASSERT_EQ(tercet_eval_batch(session, sequences, tokens, 3, rows, 2, out),
            TERCET_OK);
  EXPECT_EQ(best(0), 21);
  EXPECT_EQ(best(1), 31);
  ASSERT_EQ(
      tercet_eval_batch(session, sequences, tokens, 3, nullptr, 0, nullptr),
      TERCET_OK);
  int32_t held[4];
  size_t count;
  ASSERT_EQ(tercet_get_tokens(session, 2, held, 4, &count), TERCET_OK);
  EXPECT_EQ(std::vector<int32_t>(held, held + count),
            (std::vector<int32_t>{10, 30, 10, 30}));
  EXPECT_EQ(tercet_get_tokens(session, 2, held, 3, &count),
            TERCET_ERROR_CAPACITY);

  ASSERT_EQ(tercet_copy(session, 2, 1), TERCET_OK);
  std::vector<float> alone(FakeVocab);
  ASSERT_EQ(tercet_eval(session, 2, tokens, 1, alone.data()), TERCET_OK);
  ASSERT_EQ(tercet_eval(session, 1, tokens, 1, out), TERCET_OK);
  EXPECT_EQ(memcmp(out, alone.data(), 4 * FakeVocab), 0);
}

TEST_F(ApiTest, RefusesBadBatches) {
  int32_t tokens[30] = {}, sequences[30] = {1}, rows[] = {0, 1, 1};
  float *out = logits.data();
  auto eval = [&](size_t count, size_t numRows) {
    return tercet_eval_batch(session, sequences, tokens, count, rows, numRows,
                             out);
  };
  EXPECT_EQ(eval(3, 3), TERCET_ERROR_ARGUMENT);
  EXPECT_STREQ(tercet_last_error(),
               "row 2 is token 1: rows are ascending, "
               "from 0 to below the 3 tokens of the batch");
  EXPECT_EQ(eval(1, 2), TERCET_ERROR_ARGUMENT);
  rows[0] = -1;
  EXPECT_EQ(eval(3, 1), TERCET_ERROR_ARGUMENT);
  EXPECT_EQ(eval(22, 0), TERCET_ERROR_CONTEXT);
  EXPECT_STREQ(tercet_last_error(),
               "sequence 0: 21 more tokens do not fit the context: 0 of 20 "
               "tokens are in use");
  sequences[1] = 3;
  EXPECT_EQ(eval(3, 0), TERCET_ERROR_ARGUMENT);
  sequences[1] = -1;
  EXPECT_EQ(eval(3, 0), TERCET_ERROR_ARGUMENT);
  sequences[1] = 1;
  tokens[2] = FakeVocab;
  EXPECT_EQ(eval(3, 0), TERCET_ERROR_ARGUMENT);
  EXPECT_EQ(tercet_eval_batch(session, sequences, tokens, 2, rows, 1, nullptr),
            TERCET_ERROR_ARGUMENT);
  EXPECT_EQ(tercet_copy(session, 0, 3), TERCET_ERROR_ARGUMENT);
  uint32_t length;
  for (uint32_t sequence : {0, 1, 2}) {
    ASSERT_EQ(tercet_length(session, sequence, &length), TERCET_OK);
    EXPECT_EQ(length, 0u);
  }
}

TEST_F(ApiTest, SavesAndLoadsSequences) {
  std::string path = testing::TempDir() + "api-test-sequence";
  int32_t tokens[] = {10, 20, 30, 40};
  std::vector<float> expected(FakeVocab);
  float *out = logits.data();
  ASSERT_EQ(tercet_eval(session, 1, tokens, 3, nullptr), TERCET_OK);
  ASSERT_EQ(tercet_save(session, 1, path.c_str()), TERCET_OK);
  ASSERT_EQ(tercet_eval(session, 1, tokens + 3, 1, expected.data()), TERCET_OK);
  ASSERT_EQ(tercet_eval(session, 2, tokens + 2, 2, nullptr), TERCET_OK);

  ASSERT_EQ(tercet_load(session, 2, path.c_str()), TERCET_OK);
  uint32_t length;
  ASSERT_EQ(tercet_length(session, 2, &length), TERCET_OK);
  EXPECT_EQ(length, 3u);
  ASSERT_EQ(tercet_eval(session, 2, tokens + 3, 1, out), TERCET_OK);
  EXPECT_EQ(memcmp(out, expected.data(), 4 * FakeVocab), 0);

  // A session of another context.
  tercet_session_options small = {1, 2, 1};
  tercet_session *other;
  ASSERT_EQ(tercet_session_create(model, &small, &other), TERCET_OK);
  EXPECT_EQ(tercet_load(other, 0, path.c_str()), TERCET_ERROR_CONTEXT);
  tercet_session_destroy(other);

  EXPECT_EQ(tercet_save(session, 3, path.c_str()), TERCET_ERROR_ARGUMENT);
  EXPECT_EQ(tercet_save(session, 0, nullptr), TERCET_ERROR_ARGUMENT);
  EXPECT_EQ(tercet_save(session, 0, "/nonexistent/x"), TERCET_ERROR_FILE);
  EXPECT_EQ(tercet_load(session, 0, "/nonexistent/x"), TERCET_ERROR_FILE);
  EXPECT_EQ(tercet_load(session, 0, "/dev/null"), TERCET_ERROR_FILE);
  EXPECT_STREQ(tercet_last_error(),
               "/dev/null is no prompt cache: give another name");
  remove(path.c_str());
}

TEST_F(ApiTest, Samples) {
  int32_t tokens[] = {10, 20, 30}, token;
  ASSERT_EQ(tercet_eval_sample(session, 1, tokens, 3, nullptr, &token),
            TERCET_OK);
  EXPECT_EQ(token, 31);
  // A draw is a function of its number, not of earlier draws.
  auto draw = [&](uint64_t number, int32_t topK) {
    tercet_sampling sampling = {
        .temperature = 3, .top_k = topK, .seed = 7, .draw = number};
    EXPECT_EQ(tercet_truncate(session, 1, 0), TERCET_OK);
    EXPECT_EQ(tercet_eval_sample(session, 1, tokens, 3, &sampling, &token),
              TERCET_OK);
    return token;
  };
  std::vector<int32_t> drawn;
  for (uint64_t number = 0; number < 20; ++number)
    drawn.push_back(draw(number, 0));
  for (uint64_t number = 20; number-- > 0;)
    EXPECT_EQ(draw(number, 0), drawn[number]);
  std::sort(drawn.begin(), drawn.end());
  EXPECT_NE(drawn.front(), drawn.back());
  EXPECT_EQ(draw(3, 1), 31);
}

TEST_F(ApiTest, RefusesBadArguments) {
  int32_t tokens[30] = {};
  int32_t outside = FakeVocab;
  float *out = logits.data();
  EXPECT_EQ(tercet_open(nullptr), TERCET_ERROR_ARGUMENT);
  EXPECT_EQ(tercet_eval(nullptr, 0, tokens, 1, out), TERCET_ERROR_ARGUMENT);
  EXPECT_EQ(tercet_eval(session, 3, tokens, 1, out), TERCET_ERROR_ARGUMENT);
  EXPECT_EQ(tercet_eval(session, 0, &outside, 1, out), TERCET_ERROR_ARGUMENT);
  EXPECT_EQ(tercet_eval(session, 0, tokens, 0, out), TERCET_ERROR_ARGUMENT);
  EXPECT_EQ(tercet_eval(session, 0, tokens, 21, out), TERCET_ERROR_CONTEXT);
  int32_t token;
  EXPECT_EQ(tercet_eval_sample(session, 0, tokens, 1, nullptr, nullptr),
            TERCET_ERROR_ARGUMENT);
  EXPECT_EQ(tercet_eval_sample(session, 0, tokens, 0, nullptr, &token),
            TERCET_ERROR_ARGUMENT);
  EXPECT_STREQ(tercet_last_error(), "no token to choose a successor of");
  EXPECT_EQ(tercet_eval_sample(session, 0, tokens, 21, nullptr, &token),
            TERCET_ERROR_CONTEXT);
  EXPECT_EQ(tercet_truncate(session, 0, 1), TERCET_ERROR_ARGUMENT);
  tercet_session_options options = {1, FakeContext + 1, 1};
  tercet_session *other;
  EXPECT_EQ(tercet_session_create(model, &options, &other),
            TERCET_ERROR_ARGUMENT);
}

TEST_F(ApiTest, ConvertsText) {
  int32_t tokens[8];
  size_t count, size;
  char text[8];
  ASSERT_EQ(
      tercet_tokenize(model, "hello", 5, TERCET_ADD_SPECIAL, tokens, 8, &count),
      TERCET_OK);
  ASSERT_EQ(count, 6u);
  EXPECT_EQ(tokens[0], 256);
  ASSERT_EQ(tercet_detokenize(model, tokens, count, 0, text, 8, &size),
            TERCET_OK);
  EXPECT_EQ(std::string(text, size), "hello");
  // Asking for the size first.
  EXPECT_EQ(tercet_tokenize(model, "hello", 5, 0, nullptr, 0, &count),
            TERCET_ERROR_CAPACITY);
  EXPECT_EQ(count, 5u);
  EXPECT_STREQ(tercet_last_error(),
               "the result has 5 elements and the buffer 0");
}

TEST_F(ApiTest, WorksWithoutLogitsAndOptions) {
  int32_t tokens[] = {10, 20};
  EXPECT_EQ(tercet_eval(session, 0, tokens, 2, nullptr), TERCET_OK);
  tercet_session *other;
  ASSERT_EQ(tercet_session_create(model, nullptr, &other), TERCET_OK);
  EXPECT_EQ(tercet_eval(other, 0, tokens, 2, logits.data()), TERCET_OK);
  EXPECT_EQ(best(), 21);
  tercet_session_destroy(other);
  tercet_session_destroy(nullptr);
  tercet_close(nullptr);
}
