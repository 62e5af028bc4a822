// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a model directory must hold, and what is said when it does not.

#include "frontends/Tokenizer/TokenizerBuilder.h"
#include "frontends/Tokenizer/OnigurumaPattern.h"
#include "runtime/src/Tokenizer.h"
#include "runtime/src/TokenizerBlob.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <gtest/gtest.h>

using namespace tercet;
using llvm::StringRef;

namespace {

/// A model directory that lives for a test.
class Directory {
public:
  Directory() { llvm::sys::fs::createUniqueDirectory("tercet", path); }
  ~Directory() { llvm::sys::fs::remove_directories(path); }

  Directory &write(StringRef name, StringRef text) {
    llvm::SmallString<128> file(path);
    llvm::sys::path::append(file, name);
    std::error_code error;
    llvm::raw_fd_ostream(file, error) << text;
    return *this;
  }

  llvm::Expected<TextAssets> build(uint32_t vocabSize = 100) {
    return buildTextAssets(path, vocabSize);
  }

  /// The message of an error, which there must be.
  std::string errorOf(uint32_t vocabSize = 100) {
    auto assets = build(vocabSize);
    return assets ? "no error" : llvm::toString(assets.takeError());
  }

private:
  llvm::SmallString<128> path;
};

std::string tokenizerJson(StringRef model, StringRef others = "") {
  return (R"({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
             "decoder": {"type": "ByteLevel"}, "model": )" +
          model + others + "}")
      .str();
}

constexpr StringRef abc =
    R"({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3},
        "merges": ["a b"]})";

void expectContains(const std::string &text, StringRef part) {
  EXPECT_TRUE(StringRef(text).contains(part)) << text;
}

} // namespace

TEST(TokenizerBuilder, WorksWithoutATokenizer) {
  auto assets = Directory().build();
  ASSERT_TRUE(bool(assets));
  EXPECT_TRUE(assets->tokenizer.empty());
  EXPECT_EQ(assets->generation.bos_token, -1);
  EXPECT_EQ(assets->generation.num_eos, 0);
  EXPECT_EQ(assets->generation.temperature, 0);
}

TEST(TokenizerBuilder, BuildsWhatTheRuntimeReads) {
  Directory directory;
  directory.write("tokenizer.json", tokenizerJson(abc, R"(, "added_tokens":
                    [{"id": 9, "content": "<eos>", "special": true}])"));
  auto assets = directory.build();
  ASSERT_TRUE(bool(assets)) << llvm::toString(assets.takeError());
  std::unique_ptr<Tokenizer> tokenizer;
  Error error = Tokenizer::create(assets->tokenizer, tokenizer);
  ASSERT_FALSE(error) << error.message();
  EXPECT_EQ(tokenizer->numTokens(), 10);
  EXPECT_EQ(tokenizer->find("<eos>"), 9);
  EXPECT_EQ(tokenizer->find("ab"), 2);
  EXPECT_EQ(tokenizer->find("ba"), noToken);
  EXPECT_TRUE(tokenizer->isSpecial(9));
  EXPECT_EQ(tokenizer->bytes(5), "");
  EXPECT_EQ(tokenizer->bytes(-1), "");
  EXPECT_EQ(tokenizer->bytes(10), "");

  std::vector<int32_t> tokens;
  ASSERT_FALSE(tokenizer->encode("ab b<eos>", {.allowSpecial = true}, tokens));
  EXPECT_EQ(tokens, std::vector<int32_t>({2, 3, 1, 9}));
  EXPECT_EQ(tokenizer->decode(tokens, /*skipSpecial=*/true), "ab b");
  EXPECT_EQ(tokenizer->decode(tokens, /*skipSpecial=*/false), "ab b<eos>");
}

TEST(TokenizerBuilder, RefusesDamagedBlobs) {
  Directory directory;
  auto assets = directory.write("tokenizer.json", tokenizerJson(abc)).build();
  ASSERT_TRUE(bool(assets));
  std::unique_ptr<Tokenizer> tokenizer;
  std::span<const uint8_t> blob = assets->tokenizer;
  EXPECT_TRUE(bool(Tokenizer::create({}, tokenizer)));
  EXPECT_TRUE(bool(Tokenizer::create(blob.first(blob.size() - 8), tokenizer)));
  // Any header field at its worst: refused, or harmless.
  for (size_t i = 0; i + 4 <= sizeof(TokenizerBlobHeader); i += 4) {
    std::vector<uint8_t> copy(blob.begin(), blob.end());
    std::fill_n(copy.begin() + i, 4, 0xFF);
    (void)bool(Tokenizer::create(copy, tokenizer));
  }
}

TEST(TokenizerBuilder, NamesFileAndFieldOfWhatIsWrong) {
  struct {
    std::string json, message;
  } const cases[] = {
      {"{", "tokenizer.json: is damaged: parse error at line 1"},
      {"[]", "tokenizer.json: is not a JSON object"},
      {"\xFF", "tokenizer.json: is damaged"},
      {std::string(100000, '['), "tokenizer.json: is damaged"},
      {"{}", "tokenizer.json: model is missing or not an object"},
      {tokenizerJson(R"({"type": "WordPiece"})"),
       "model.type is \"WordPiece\", which is not supported"},
      {tokenizerJson(R"({"type": 3})"), "model.type is not a string"},
      {tokenizerJson(R"({"vocab": {}})"), "model.merges is missing"},
      {tokenizerJson(R"({"vocab": {"a": "x"}, "merges": []})"),
       "model.vocab.a is not an integer"},
      {tokenizerJson(R"({"vocab": {"a": 100}, "merges": []})"),
       "model.vocab gives \"a\" the id 100, outside the model's vocabulary"},
      {tokenizerJson(R"({"vocab": {"a": -1}, "merges": []})"), "the id -1"},
      {tokenizerJson(R"({"vocab": {"a": 1, "b": 1}, "merges": []})"),
       "two tokens with the id 1"},
      {tokenizerJson(R"({"vocab": {"a": 1}, "merges": ["a b"]})"),
       "model.merges[0] merges \"b\", which is not in the vocabulary"},
      {tokenizerJson(R"({"vocab": {"a": 1}, "merges": ["a a"]})"),
       "model.merges[0] merges into \"aa\""},
      {tokenizerJson(R"({"vocab": {"a": 1}, "merges": [3]})"),
       "model.merges[0] is neither"},
      {tokenizerJson(R"({"vocab": {}, "merges": [], "byte_fallback": true})"),
       "pre_tokenizer.type is \"ByteLevel\", which is not supported; "
       "Metaspace"},
      {tokenizerJson(R"({"vocab": {}, "merges": [], "unk_token": "u"})"),
       "model.unk_token is set"},
      {tokenizerJson(abc, R"(, "added_tokens": [{"id": 100, "content": "x"}])"),
       "added_tokens[0] gives \"x\" the id 100"},
      {tokenizerJson(abc, R"(, "added_tokens": [{"id": 7, "content": "a"}])"),
       "it is also 0"},
      {tokenizerJson(abc, R"(, "normalizer": {"type": "NFKC"})"),
       "normalizer.type is \"NFKC\""},
      {tokenizerJson(abc, R"(, "normalizer": {"type": "Sequence",
                            "normalizers": [{"type": "Lowercase"}]})"),
       "normalizer.normalizers[0].type is \"Lowercase\""},
      {tokenizerJson(abc, R"(, "post_processor": {"type": "BertProcessing"})"),
       "post_processor.type is \"BertProcessing\""},
      {R"({"model": {"vocab": {}, "merges": [], "byte_fallback": true},
          "pre_tokenizer": {"type": "Metaspace", "replacement": "_"}})",
       "pre_tokenizer.replacement is not U+2581"},
      {R"({"model": {"vocab": {}, "merges": [], "byte_fallback": true},
          "normalizer": {"type": "Replace", "content": "x"}})",
       "normalizer replaces something else"},
      {R"({"model": {"vocab": {}, "merges": [], "byte_fallback": true},
          "decoder": {"type": "ByteFallback"}})",
       "pre_tokenizer has no Metaspace"},
      {R"({"model": {"vocab": {}, "merges": [], "byte_fallback": true},
          "pre_tokenizer": {"type": "Metaspace"},
          "decoder": {"type": "Strip", "content": "x"}})",
       "decoder strips something else"},
      {R"({"model": {"vocab": {}, "merges": []}, "decoder": {"type": "ByteLevel"}})",
       "pre_tokenizer has no ByteLevel"},
      {R"({"model": {"vocab": {}, "merges": []}, "pre_tokenizer":
          {"type": "Sequence", "pretokenizers": [{"type": "Split",
           "pattern": {"Regex": "a("}, "behavior": "Isolated"}]}})",
       "pre_tokenizer.pretokenizers[0] missing closing parenthesis"},
      {R"({"model": {"vocab": {}, "merges": []}, "pre_tokenizer":
          {"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Odd"}})",
       "pre_tokenizer.behavior is \"Odd\""},
      {R"({"model": {"vocab": {}, "merges": []}, "pre_tokenizer":
          {"type": "ByteLevel"}, "decoder": {"type": "WordPiece"}})",
       "decoder.type is \"WordPiece\""},
  };
  for (const auto &[json, message] : cases)
    expectContains(Directory().write("tokenizer.json", json).errorOf(),
                   message);
}

TEST(TokenizerBuilder, UnitesEndTokens) {
  Directory directory;
  directory
      .write("tokenizer.json", tokenizerJson(abc, R"(, "added_tokens": [
                {"id": 9, "content": "<|eot_id|>", "special": true},
                {"id": 8, "content": "<s>", "special": true}])"))
      .write("config.json", R"({"eos_token_id": 4, "bos_token_id": 5})")
      .write("generation_config.json", R"({"eos_token_id": [5, 4],
             "do_sample": true, "temperature": 0.6, "top_p": 0.9})")
      .write("tokenizer_config.json", R"({"bos_token": {"content": "<s>"},
             "chat_template": "{{ x }}<|eot_id|>"})");
  auto assets = directory.build();
  ASSERT_TRUE(bool(assets)) << llvm::toString(assets.takeError());
  const tercet_generation &generation = assets->generation;
  EXPECT_EQ(std::vector<int32_t>(generation.eos_tokens,
                                 generation.eos_tokens + generation.num_eos),
            std::vector<int32_t>({5, 4, 9}));
  EXPECT_EQ(generation.bos_token, 5);
  EXPECT_FLOAT_EQ(generation.temperature, 0.6f);
  EXPECT_FLOAT_EQ(generation.top_p, 0.9f);
  EXPECT_EQ(generation.top_k, 50); // transformers' default
  EXPECT_EQ(assets->chatTemplate, "{{ x }}<|eot_id|>");
}

TEST(TokenizerBuilder, FindsTheChatTemplate) {
  StringRef named = R"({"chat_template": [{"name": "rag", "template": "r"},
                        {"name": "default", "template": "d"}]})";
  EXPECT_EQ(
      Directory().write("tokenizer_config.json", named).build()->chatTemplate,
      "d");
  EXPECT_EQ(Directory()
                .write("tokenizer_config.json", named)
                .write("chat_template.jinja", "file")
                .build()
                ->chatTemplate,
            "file");
  expectContains(Directory()
                     .write("tokenizer_config.json", R"({"chat_template": 3})")
                     .errorOf(),
                 "tokenizer_config.json: chat_template is not a string");
}

TEST(TokenizerBuilder, RefusesBadGenerationDefaults) {
  struct {
    StringRef json, message;
  } const cases[] = {
      {R"({"eos_token_id": 100})", "eos_token_id is 100, outside"},
      {R"({"eos_token_id": [1, "x"]})", "eos_token_id[1] is not an integer"},
      {R"({"do_sample": true, "temperature": -1})", "temperature is negative"},
      {R"({"do_sample": true, "top_p": 2})", "top_p is not in (0, 1]"},
      {R"({"eos_token_id": [1,2,3,4,5,6,7,8,9]})", "more than the supported 8"},
  };
  for (auto [json, message] : cases)
    expectContains(Directory().write("generation_config.json", json).errorOf(),
                   message);
}

TEST(OnigurumaPattern, RewritesWhatDiffers) {
  auto expect = [](StringRef from, StringRef to) {
    auto translated = translateOniguruma(from);
    ASSERT_TRUE(bool(translated)) << llvm::toString(translated.takeError());
    EXPECT_EQ(*translated, to);
  };
  expect(R"(\s+(?!\S))", R"(\p{White_Space}+(?!\P{White_Space}))");
  expect(R"(\p{N}{1,3}+)", R"((?:\p{N}{1,3})+)");
  expect(R"((?:a|b){2}+)", R"((?:(?:a|b){2})+)");
  expect("é{2}+", "(?:é{2})+");
  expect(R"(\p{Han}\p{^Lu}\P{Letter})", R"(\p{sc:Han}\p{^Lu}\P{L})");
  expect(R"(a{,2}{x)", R"(a{0,2}{x)");
  expect(R"([]\h\u00e9])", R"([]0-9A-Fa-f\x{00e9}])");
  for (StringRef pattern : {"(?m:.)", "[a&&b]", "[[:alpha:]]", R"(\b)",
                            R"([\W])", "[a", "\\", R"(\pL)"}) {
    auto translated = translateOniguruma(pattern);
    EXPECT_FALSE(bool(translated)) << pattern.str();
    llvm::consumeError(translated.takeError());
  }
}
