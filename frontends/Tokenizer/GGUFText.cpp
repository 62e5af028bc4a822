// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/Tokenizer/GGUFText.h"
#include "frontends/Tokenizer/Generation.h"
#include "frontends/Tokenizer/TokenizerMetadata.h"

using namespace tercet;
using llvm::StringRef;

/// The default one; named ones of other uses may be beside it.
static llvm::Error readChatTemplate(const GGUFMetadata &metadata,
                                    std::string &chatTemplate) {
  constexpr StringRef key = "tokenizer.chat_template";
  StringRef text;
  if (llvm::Error error = metadata.read(key, text))
    return error;
  if (!metadata.has(key) && metadata.has("tokenizer.chat_templates"))
    return metadata.error("tokenizer.chat_templates",
                          "has no template named \"default\"");
  chatTemplate = text.str();
  return llvm::Error::success();
}

/// Microsoft's converter gives every BitNet one template, whose chats do not
/// end because no model was trained with it.
static constexpr StringRef kForeignTemplateMark = "BITNETAssistant: ";

/// Of microsoft/bitnet-b1.58-2B-4T.
static constexpr StringRef kBitNetTemplate =
    "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "{{ message['role'] | capitalize + ': ' + message['content'] | trim + "
    "'<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}";

static void correctChatTemplate(const GGUFMetadata &metadata,
                                const TokenizerModel &model,
                                TextAssets &assets) {
  if (!StringRef(assets.chatTemplate).contains(kForeignTemplateMark) ||
      model.find("<|eot_id|>") == noToken)
    return;
  assets.chatTemplate = kBitNetTemplate.str();
  assets.warnings.push_back(metadata.describe(
      "tokenizer.chat_template",
      "is the converter's, which no model was trained with; chats are those of "
      "bitnet-b1.58-2B-4T instead"));
}

/// Converters copy them from generation_config.json.
static llvm::Error readSampling(const GGUFMetadata &metadata,
                                tercet_generation &generation) {
  constexpr StringRef temperature = "general.sampling.temp",
                      topP = "general.sampling.top_p",
                      topK = "general.sampling.top_k";
  if (!metadata.has(temperature) && !metadata.has(topP) && !metadata.has(topK))
    return llvm::Error::success();
  Sampling sampling;
  if (llvm::Error error = metadata.read(temperature, sampling.temperature))
    return error;
  if (llvm::Error error = metadata.read(topP, sampling.topP))
    return error;
  if (llvm::Error error = metadata.read(topK, sampling.topK))
    return error;
  auto complain = [&](StringRef key) {
    return [&metadata, key](StringRef message) {
      return metadata.error(key, "{0}", message);
    };
  };
  return setSampling(generation, sampling, complain(temperature),
                     complain(topP), complain(topK));
}

llvm::Expected<TextAssets> tercet::readGGUFText(StringRef path,
                                                uint32_t vocabSize) {
  auto reader = GGUFReader::open(path);
  if (!reader)
    return reader.takeError();
  GGUFMetadata metadata(*reader, path);
  TextAssets assets;
  if (llvm::Error error = readChatTemplate(metadata, assets.chatTemplate))
    return std::move(error);
  assets.generation = makeGeneration();
  if (llvm::Error error = readSampling(metadata, assets.generation))
    return std::move(error);

  constexpr StringRef kindKey = "tokenizer.ggml.model";
  StringRef kind = "none";
  if (llvm::Error error = metadata.read(kindKey, kind))
    return std::move(error);
  if (kind == "none" || kind == "no_vocab")
    return assets;
  auto model = readTokenizerMetadata(metadata, vocabSize, assets.warnings);
  if (!model)
    return model.takeError();
  correctChatTemplate(metadata, *model, assets);
  assets.tokenizer = writeTokenizerBlob(*model);
  assets.generation.bos_token = model->bosToken;
  for (int32_t end : model->endTokens)
    if (llvm::Error error =
            addEndToken(assets.generation, end, [&](StringRef message) {
              return metadata.error("tokenizer.ggml.tokens", "{0}", message);
            }))
      return std::move(error);
  return assets;
}
