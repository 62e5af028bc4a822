// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/Tokenizer/TokenizerMetadata.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSwitch.h"

#include <cmath>
#include <optional>

using namespace tercet;
using llvm::StringRef;

namespace {

/// tokenizer.ggml.token_type; what is not listed is an ordinary token.
enum TokenType : int64_t { Normal = 1, Unknown, Control, UserDefined };

/// How text is cut before bytes merge.
struct PreTokenizer {
  // Each cuts what the one before left whole.
  llvm::ArrayRef<StringRef> patterns;
  bool ignoreMerges = false;
  bool addsBos = false; // unless tokenizer.ggml.add_bos_token says otherwise
};

// Patterns as the models' own tokenizer.json files have them.
constexpr StringRef kLlama3Patterns[] = {
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr StringRef kQwen2Patterns[] = {
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr StringRef kQwen35Patterns[] = {
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|)"
    R"( ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr StringRef kGPT4oPatterns[] = {
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*)"
    R"([\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+)"
    R"([\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr StringRef kTekkenPatterns[] = {
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*)"
    R"([\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+)"
    R"([\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
    R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr StringRef kGPT2Patterns[] = {kGPT2SplitPattern};
constexpr StringRef kDigitPatterns[] = {R"(\p{N})", kGPT2SplitPattern};
constexpr StringRef kFalconPatterns[] = {R"([\p{P}$+<=>^~|`]+)",
                                         kGPT2SplitPattern, "[0-9][0-9][0-9]"};
// Of no model: what llama.cpp does where it is told nothing.
constexpr StringRef kDefaultPatterns[] = {
    R"([\p{P}$+<=>^~|]+)", kGPT2SplitPattern, R"(\p{N}+)", "[0-9][0-9][0-9]"};

/// The meaning of tokenizer.ggml.pre, whose values llama.cpp defines.
std::optional<PreTokenizer> findPreTokenizer(StringRef name) {
  return llvm::StringSwitch<std::optional<PreTokenizer>>(name)
      .Cases({"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon_e",
              "falcon-h1", "pixtral", "lfm2"},
             PreTokenizer{kLlama3Patterns, /*ignoreMerges=*/true,
                          /*addsBos=*/true})
      .Cases({"dbrx", "smaug-bpe", "chatglm-bpe", "glm4"},
             PreTokenizer{kLlama3Patterns})
      .Cases({"qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan"},
             PreTokenizer{kQwen2Patterns})
      .Case("qwen35", PreTokenizer{kQwen35Patterns})
      .Cases({"gpt-4o", "llama4"}, PreTokenizer{kGPT4oPatterns})
      .Case("tekken", PreTokenizer{kTekkenPatterns, /*ignoreMerges=*/true,
                                   /*addsBos=*/true})
      .Cases({"gpt-2", "phi-2", "olmo", "mpt", "jais", "exaone4", "trillion",
              "granite-docling"},
             PreTokenizer{kGPT2Patterns})
      .Cases({"smollm", "starcoder", "refact", "command-r", "codeshell",
              "exaone", "minerva-7b"},
             PreTokenizer{kDigitPatterns})
      .Case("falcon", PreTokenizer{kFalconPatterns})
      .Case("default", PreTokenizer{kDefaultPatterns})
      .Default(std::nullopt);
}

/// Tokens that end a text or a turn, whatever the model: a file names one of
/// its model's ends, sometimes not the one that its answers end with.
constexpr StringRef kEndNames[] = {"<|eot_id|>",      "<|eom_id|>",
                                   "<|end_of_text|>", "<|im_end|>",
                                   "<|endoftext|>",   "<end_of_turn>"};

class Reader {
public:
  Reader(const GGUFMetadata &metadata, uint32_t vocabSize,
         TokenizerModel &model, std::vector<std::string> &warnings)
      : metadata(metadata), vocabSize(vocabSize), model(model),
        warnings(warnings) {}

  llvm::Error read();

private:
  llvm::Error readContents();
  llvm::Error readTokenId(StringRef key, int32_t &token);
  llvm::Error readSpecialTokens();
  void defineTokens();
  llvm::Error readByteLevel();
  llvm::Error readMerges();
  llvm::Error readSentencepiece();
  llvm::Expected<std::vector<uint32_t>> rankTokens() const;
  llvm::Error deriveMerges();
  llvm::Error readTokensAround();

  const GGUFMetadata &metadata;
  uint32_t vocabSize;
  TokenizerModel &model;
  std::vector<std::string> &warnings;

  std::vector<StringRef> contents; // of tokens in the file, by id
  std::vector<int64_t> types;      // TokenType by id
  bool addsBos = false;
};

llvm::Error Reader::readContents() {
  constexpr StringRef tokens = "tokenizer.ggml.tokens",
                      tokenTypes = "tokenizer.ggml.token_type";
  if (llvm::Error error = metadata.read(tokens, contents))
    return error;
  if (llvm::Error error = metadata.read(tokenTypes, types))
    return error;
  if (contents.empty())
    return metadata.error(tokens, "is missing");
  if (contents.size() > vocabSize)
    return metadata.error(tokens, "has {0} tokens, the model's embedding {1}",
                          contents.size(), vocabSize);
  if (types.empty())
    types.assign(contents.size(), Normal);
  if (types.size() != contents.size())
    return metadata.error(tokenTypes, "has {0} types for {1} tokens",
                          types.size(), contents.size());

  for (auto [id, content] : llvm::enumerate(contents)) {
    if (content.empty())
      continue; // stands for nothing
    auto [known, isNew] =
        model.idOfContent.try_emplace(content, static_cast<int32_t>(id));
    if (!isNew)
      return metadata.error(tokens, "has \"{0}\" twice, as {1} and {2}",
                            content, known->second, id);
  }
  return llvm::Error::success();
}

/// Old converters wrote -1, or the id of a token that their file lacks.
llvm::Error Reader::readTokenId(StringRef key, int32_t &token) {
  int64_t id = token;
  if (llvm::Error error = metadata.read(key, id))
    return error;
  bool exists = id >= 0 && id < static_cast<int64_t>(contents.size());
  if (!exists && metadata.has(key))
    warnings.push_back(
        metadata.describe(key, "is {0}, none of its {1} tokens; it is ignored",
                          id, contents.size()));
  token = exists ? static_cast<int32_t>(id) : noToken;
  return llvm::Error::success();
}

llvm::Error Reader::readSpecialTokens() {
  int32_t turnEnd = noToken, messageEnd = noToken;
  if (model.mergesCharacters) // as in LLaMA, where files do not say
    model.unknownToken = 0, model.bosToken = 1, model.eosToken = 2;
  struct {
    const char *key;
    int32_t &token;
  } const ids[] = {{"tokenizer.ggml.bos_token_id", model.bosToken},
                   {"tokenizer.ggml.eos_token_id", model.eosToken},
                   {"tokenizer.ggml.eot_token_id", turnEnd},
                   {"tokenizer.ggml.eom_token_id", messageEnd},
                   {"tokenizer.ggml.padding_token_id", model.padToken},
                   {"tokenizer.ggml.unknown_token_id", model.unknownToken}};
  for (auto &[key, token] : ids)
    if (llvm::Error error = readTokenId(key, token))
      return error;

  llvm::SmallVector<int32_t> ends = {model.eosToken, turnEnd, messageEnd};
  for (StringRef name : kEndNames)
    ends.push_back(model.find(name));
  for (int32_t end : ends)
    if (end != noToken && !llvm::is_contained(model.endTokens, end))
      model.endTokens.push_back(end);

  // Some files have them among the ordinary ones.
  for (int32_t token : model.endTokens)
    types[token] = Control;
  if (model.bosToken != noToken)
    types[model.bosToken] = Control;
  return llvm::Error::success();
}

void Reader::defineTokens() {
  model.tokens.resize(contents.size());
  for (auto [id, content] : llvm::enumerate(contents)) {
    auto token = static_cast<int32_t>(id);
    int64_t type = types[id];
    if (content.empty())
      continue;
    if (type != Unknown && type != Control && type != UserDefined) {
      model.spell(token, content);
      continue;
    }
    // Not in GPT-2's alphabet: such tokens are as they are in the text.
    model.tokens[id].bytes =
        model.mergesCharacters ? model.decode(content) : content.str();
    model.tokens[id].flags =
        TokenAdded | (type == UserDefined ? 0 : TokenSpecial);
    model.addedTokens[0].push_back({content.str(), token});
  }
}

llvm::Error Reader::readMerges() {
  constexpr StringRef key = "tokenizer.ggml.merges";
  std::vector<StringRef> merges;
  if (llvm::Error error = metadata.read(key, merges))
    return error;
  if (!metadata.has(key))
    return metadata.error(key, "is missing");
  for (auto [rank, merge] : llvm::enumerate(merges)) {
    auto [left, right] = merge.split(' ');
    if (llvm::Error error = model.addMerge(left, right))
      return metadata.error(key, "number {0} {1}", rank,
                            llvm::toString(std::move(error)));
  }
  return llvm::Error::success();
}

llvm::Error Reader::readByteLevel() {
  constexpr StringRef key = "tokenizer.ggml.pre";
  StringRef name = "default";
  if (llvm::Error error = metadata.read(key, name))
    return error;
  // BitNet-b1.58-2B-4T does not say that it has the vocabulary of LLaMA 3:
  // 128000 tokens, and then the special ones.
  if (name == "default" && model.find("<|begin_of_text|>") == 128000)
    name = "llama-bpe";
  std::optional<PreTokenizer> preTokenizer = findPreTokenizer(name);
  if (!preTokenizer)
    return metadata.error(key,
                          "is '{0}', which is not supported; compile the "
                          "Hugging Face directory of the model",
                          name);
  if (name == "default")
    warnings.push_back(metadata.describe(
        key, "does not say how text is cut into words; what llama.cpp does "
             "then may not be what the model was trained with"));
  for (StringRef pattern : preTokenizer->patterns)
    if (llvm::Error error =
            model.addSplit(pattern, SplitBehavior::Isolated, false))
      return error;
  model.ignoreMerges = preTokenizer->ignoreMerges;
  addsBos = preTokenizer->addsBos;
  return readMerges();
}

/// By id, from scores: the best first, and one rank for tokens of one score.
llvm::Expected<std::vector<uint32_t>> Reader::rankTokens() const {
  constexpr StringRef key = "tokenizer.ggml.scores";
  std::vector<double> scores;
  if (llvm::Error error = metadata.read(key, scores))
    return std::move(error);
  if (scores.size() != contents.size())
    return metadata.error(key, "has {0} scores for {1} tokens", scores.size(),
                          contents.size());
  for (auto [id, score] : llvm::enumerate(scores))
    if (std::isnan(score))
      return metadata.error(key, "has no number for token {0}", id);

  std::vector<double> best = scores;
  llvm::sort(best, std::greater<>());
  best.erase(llvm::unique(best), best.end());
  // Converters that had no scores wrote one for all. Ids are in the order in
  // which training merged.
  bool areAlike = best.size() == 1;
  std::vector<uint32_t> ranks;
  for (auto [id, score] : llvm::enumerate(scores))
    ranks.push_back(static_cast<uint32_t>(
        areAlike
            ? id
            : llvm::lower_bound(best, score, std::greater<>()) - best.begin()));
  return ranks;
}

/// Sentencepiece merges any two pieces that make a piece.
llvm::Error Reader::deriveMerges() {
  auto ranks = rankTokens();
  if (!ranks)
    return ranks.takeError();
  auto findPiece = [&](StringRef content) {
    int32_t id = model.find(content);
    return id != noToken && model.tokens[id].inVocabulary ? id : noToken;
  };
  for (StringRef content : contents) {
    int32_t id = findPiece(content);
    for (size_t at = 1; id != noToken && at < content.size(); ++at) {
      int32_t left = findPiece(content.take_front(at)),
              right = findPiece(content.drop_front(at));
      if (left != noToken && right != noToken)
        model.merges.push_back({left, right, id, (*ranks)[id]});
    }
  }
  return llvm::Error::success();
}

llvm::Error Reader::readSentencepiece() {
  bool addsSpace = true;
  if (llvm::Error error =
          metadata.read("tokenizer.ggml.add_space_prefix", addsSpace))
    return error;
  if (addsSpace)
    model.steps.push_back({StepKind::AlwaysPrefix});
  model.steps.push_back({StepKind::UnifySpaces});
  model.stripsSpace = addsSpace;
  addsBos = true;
  for (auto [byte, token] : llvm::enumerate(model.byteTokens))
    if (token == noToken)
      return metadata.error("tokenizer.ggml.tokens",
                            "has no token for the byte {0}; only BPE with all "
                            "256 is supported",
                            byte);
  return deriveMerges();
}

/// BOS before a text, EOS after it.
llvm::Error Reader::readTokensAround() {
  bool addsEos = false;
  addsBos &= model.bosToken != noToken;
  if (llvm::Error error =
          metadata.read("tokenizer.ggml.add_bos_token", addsBos))
    return error;
  if (llvm::Error error =
          metadata.read("tokenizer.ggml.add_eos_token", addsEos))
    return error;
  if (addsBos && model.bosToken == noToken)
    return metadata.error(
        "tokenizer.ggml.add_bos_token",
        "is true, but no token is tokenizer.ggml.bos_token_id");
  if (addsEos && model.eosToken == noToken)
    return metadata.error(
        "tokenizer.ggml.add_eos_token",
        "is true, but no token is tokenizer.ggml.eos_token_id");
  if (addsBos)
    model.prefix = {model.bosToken};
  if (addsEos)
    model.suffix = {model.eosToken};
  return llvm::Error::success();
}

llvm::Error Reader::read() {
  constexpr StringRef key = "tokenizer.ggml.model";
  StringRef kind;
  if (llvm::Error error = metadata.read(key, kind))
    return error;
  if (kind != "gpt2" && kind != "llama")
    return metadata.error(
        key, "is '{0}', which is not supported; 'gpt2' and 'llama' are", kind);
  model.mergesCharacters = kind == "llama";
  if (llvm::Error error = readContents())
    return error;
  if (llvm::Error error = readSpecialTokens())
    return error;
  defineTokens();
  if (llvm::Error error =
          model.mergesCharacters ? readSentencepiece() : readByteLevel())
    return error;
  return readTokensAround();
}

} // namespace

llvm::Expected<TokenizerModel>
tercet::readTokenizerMetadata(const GGUFMetadata &metadata, uint32_t vocabSize,
                              std::vector<std::string> &warnings) {
  TokenizerModel model;
  if (llvm::Error error = Reader(metadata, vocabSize, model, warnings).read())
    return std::move(error);
  return model;
}
