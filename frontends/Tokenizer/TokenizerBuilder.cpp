// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/Tokenizer/TokenizerBuilder.h"
#include "frontends/Tokenizer/GGUFText.h"
#include "frontends/Tokenizer/Generation.h"
#include "frontends/Tokenizer/JsonFile.h"
#include "frontends/Tokenizer/TokenizerJson.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace tercet;
using llvm::StringRef;
using llvm::Twine;

/// "TOKEN" or {"content": "TOKEN", ...}.
static llvm::Error readTokenName(const JsonField &field, std::string &name) {
  JsonField content = field["content"];
  return content ? content.read(name) : field.read(name);
}

/// Resolves bos_token and the like; special_tokens_map.json is the older place.
static llvm::Error readSpecialTokens(TokenizerModel &model,
                                     const JsonField &config,
                                     const JsonField &map) {
  struct {
    const char *field;
    int32_t &token;
  } const tokens[] = {{"bos_token", model.bosToken},
                      {"eos_token", model.eosToken},
                      {"pad_token", model.padToken},
                      {"unk_token", model.unknownToken}};
  for (auto &[field, token] : tokens) {
    std::string name;
    if (llvm::Error error = readTokenName(map[field], name))
      return error;
    if (llvm::Error error = readTokenName(config[field], name))
      return error;
    token = model.find(name);
  }
  return llvm::Error::success();
}

/// chat_template.jinja, or chat_template of tokenizer_config.json: a template
/// or a list of named ones.
static llvm::Expected<std::string> readChatTemplate(StringRef directory,
                                                    const JsonField &config) {
  llvm::SmallString<256> path(directory);
  llvm::sys::path::append(path, "chat_template.jinja");
  auto file = readOptionalFile(path);
  if (!file)
    return file.takeError();
  if (*file)
    return std::move(**file);

  std::string text;
  JsonField field = config["chat_template"];
  if (!field || !field.json().is_array()) {
    if (llvm::Error error = field.read(text))
      return std::move(error);
    return text;
  }
  for (size_t i = 0; i < field.size(); ++i) {
    std::string name;
    if (llvm::Error error = field[i]["name"].read(name))
      return std::move(error);
    if (name != "default")
      continue;
    if (llvm::Error error = field[i]["template"].read(text))
      return std::move(error);
    return text;
  }
  return field.error("has no template named \"default\"");
}

namespace {

auto complaint(const JsonField &field) {
  return [field](StringRef message) { return field.error(message); };
}

class GenerationReader {
public:
  explicit GenerationReader(uint32_t vocabSize) : vocabSize(vocabSize) {}

  llvm::Error readSampling(const JsonField &root);
  llvm::Error readBos(const JsonField &field);
  llvm::Error readEos(const JsonField &field);
  llvm::Error addEos(const JsonField &place, int64_t token);

  tercet_generation generation = makeGeneration();

private:
  llvm::Error checkToken(const JsonField &place, int64_t token) {
    if (token >= 0 && token < vocabSize)
      return llvm::Error::success();
    return place.error("is " + Twine(token) +
                       ", outside the model's vocabulary of " +
                       Twine(vocabSize));
  }

  uint32_t vocabSize;
};

llvm::Error GenerationReader::readSampling(const JsonField &root) {
  bool sample = false;
  Sampling sampling;
  JsonField temperature = root["temperature"], topP = root["top_p"],
            topK = root["top_k"];
  if (llvm::Error error = root["do_sample"].read(sample))
    return error;
  if (llvm::Error error = temperature.read(sampling.temperature))
    return error;
  if (llvm::Error error = topP.read(sampling.topP))
    return error;
  if (llvm::Error error = topK.read(sampling.topK))
    return error;
  if (!sample)
    return llvm::Error::success();
  return setSampling(generation, sampling, complaint(temperature),
                     complaint(topP), complaint(topK));
}

llvm::Error GenerationReader::readBos(const JsonField &field) {
  int64_t token = noToken;
  if (!field || generation.bos_token != noToken)
    return llvm::Error::success();
  if (llvm::Error error = field.read(token))
    return error;
  if (llvm::Error error = checkToken(field, token))
    return error;
  generation.bos_token = static_cast<int32_t>(token);
  return llvm::Error::success();
}

/// A token or a list of tokens.
llvm::Error GenerationReader::readEos(const JsonField &field) {
  bool list = field && field.json().is_array();
  for (size_t i = 0; i < (list ? field.size() : field ? 1 : 0); ++i) {
    JsonField element = list ? field[i] : field;
    int64_t token = noToken;
    if (llvm::Error error = element.read(token))
      return error;
    if (llvm::Error error = addEos(element, token))
      return error;
  }
  return llvm::Error::success();
}

llvm::Error GenerationReader::addEos(const JsonField &place, int64_t token) {
  if (llvm::Error error = checkToken(place, token))
    return error;
  return addEndToken(generation, static_cast<int32_t>(token), complaint(place));
}

/// Tokens that end a turn. Older checkpoints of the LLaMA-3 kind name only
/// <|end_of_text|> as their end, and an answer would run on into an invented
/// next turn.
constexpr StringRef turnEnds[] = {"<|eot_id|>", "<|im_end|>"};

} // namespace

static llvm::Expected<TextAssets> readDirectory(StringRef directory,
                                                uint32_t vocabSize) {
  auto tokenizer = JsonFile::read(directory, "tokenizer.json");
  auto tokenizerConfig = JsonFile::read(directory, "tokenizer_config.json");
  auto specialTokens = JsonFile::read(directory, "special_tokens_map.json");
  auto generationConfig = JsonFile::read(directory, "generation_config.json");
  auto config = JsonFile::read(directory, "config.json");
  llvm::Error errors = llvm::Error::success();
  for (auto *file : {&tokenizer, &tokenizerConfig, &specialTokens,
                     &generationConfig, &config})
    if (!*file)
      errors = llvm::joinErrors(std::move(errors), file->takeError());
  if (errors)
    return std::move(errors);

  TextAssets assets;
  auto chatTemplate = readChatTemplate(directory, tokenizerConfig->root());
  if (!chatTemplate)
    return chatTemplate.takeError();
  assets.chatTemplate = std::move(*chatTemplate);

  GenerationReader generation(vocabSize);
  JsonField configRoot = config->root(),
            samplingRoot = generationConfig->root();
  if (llvm::Error error = generation.readSampling(samplingRoot))
    return std::move(error);
  for (const JsonField &root : {samplingRoot, configRoot}) {
    if (llvm::Error error = generation.readBos(root["bos_token_id"]))
      return std::move(error);
    if (llvm::Error error = generation.readEos(root["eos_token_id"]))
      return std::move(error);
  }

  if (tokenizer->root()) {
    auto model = readTokenizerJson(tokenizer->root(), vocabSize);
    if (!model)
      return model.takeError();
    if (llvm::Error error = readSpecialTokens(*model, tokenizerConfig->root(),
                                              specialTokens->root()))
      return std::move(error);
    assets.tokenizer = writeTokenizerBlob(*model);

    JsonField place = tokenizer->root()["added_tokens"];
    for (StringRef end : turnEnds)
      if (StringRef(assets.chatTemplate).contains(end) &&
          model->find(end) != noToken)
        if (llvm::Error error = generation.addEos(place, model->find(end)))
          return std::move(error);
    if (generation.generation.num_eos == 0 && model->eosToken != noToken)
      if (llvm::Error error = generation.addEos(place, model->eosToken))
        return std::move(error);
    if (generation.generation.bos_token == noToken)
      generation.generation.bos_token = model->bosToken;
  }
  assets.generation = generation.generation;
  return assets;
}

llvm::Expected<TextAssets> tercet::buildTextAssets(StringRef model,
                                                   uint32_t vocabSize) {
  if (llvm::sys::path::extension(model) == ".gguf")
    return readGGUFText(model, vocabSize);
  return readDirectory(llvm::sys::fs::is_directory(model)
                           ? model
                           : llvm::sys::path::parent_path(model),
                       vocabSize);
}
