// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/Tokenizer/TokenizerJson.h"
#include "frontends/Tokenizer/OnigurumaPattern.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSwitch.h"

#include <optional>

using namespace tercet;
using llvm::StringRef;
using llvm::Twine;

namespace {

/// Fails if a field has a value (other than null, "", 0 or false) that changes
/// what the tokenizer does in a way the runtime does not know.
llvm::Error expectUnset(const JsonField &field) {
  if (!field || field.json() == false || field.json() == 0 ||
      field.json() == "")
    return llvm::Error::success();
  return field.error("is set, which is not supported; only null is");
}

/// Calls read(component, type) for a component, or for each of a Sequence's.
template <typename Read>
llvm::Error forEachComponent(const JsonField &component, StringRef members,
                             Read read) {
  auto readOne = [&](const JsonField &one) -> llvm::Error {
    std::string type;
    if (llvm::Error error = one.expectObject())
      return error;
    if (llvm::Error error = one["type"].read(type))
      return error;
    return read(one, type);
  };
  if (!component)
    return llvm::Error::success();
  if (!component.json().is_object() || component["type"].size() == 0 ||
      component["type"].json() != "Sequence")
    return readOne(component);
  JsonField list = component[members];
  if (llvm::Error error = list.expectArray())
    return error;
  for (size_t i = 0; i < list.size(); ++i)
    if (llvm::Error error = readOne(list[i]))
      return error;
  return llvm::Error::success();
}

llvm::Error unsupported(const JsonField &component, StringRef type,
                        StringRef supported) {
  return component["type"].error("is \"" + type +
                                 "\", which is not supported; " + supported);
}

class Reader {
public:
  Reader(TokenizerModel &model, uint32_t vocabSize)
      : model(model), vocabSize(vocabSize) {}

  llvm::Error read(const JsonField &root);

private:
  llvm::Error readBpe(const JsonField &bpe);
  llvm::Error readVocabulary(const JsonField &vocabulary);
  llvm::Error readMerge(const JsonField &merge);
  llvm::Error readAddedToken(const JsonField &added);
  llvm::Error readPreTokenizer(const JsonField &component, StringRef type);
  llvm::Error readByteLevel(const JsonField &component);
  llvm::Error readSplit(const JsonField &component);
  llvm::Error addSplit(const JsonField &place, StringRef pattern,
                       StringRef behavior, bool invert);
  llvm::Error readNormalizer(const JsonField &component, StringRef type);
  llvm::Error readMetaspace(const JsonField &component);
  llvm::Error readTemplate(const JsonField &component);
  llvm::Error readDecoder(const JsonField &component, StringRef type);

  /// Checks the id of a token and makes room for it.
  llvm::Expected<TokenizerModel::Token *> define(const JsonField &place,
                                                 StringRef content, int64_t id);

  TokenizerModel &model;
  uint32_t vocabSize;
  bool sawByteLevel = false, sawSpaces = false, sawDecoder = false;
};

llvm::Expected<TokenizerModel::Token *>
Reader::define(const JsonField &place, StringRef content, int64_t id) {
  if (id < 0 || id >= vocabSize)
    return place.error("gives \"" + content + "\" the id " + Twine(id) +
                       ", outside the model's vocabulary of " +
                       Twine(vocabSize) + " (vocab_size in config.json)");
  auto [known, isNew] = model.idOfContent.try_emplace(content, id);
  if (!isNew && known->second != id)
    return place.error("gives \"" + content + "\" the id " + Twine(id) +
                       ", but it is also " + Twine(known->second));
  if (model.tokens.size() <= static_cast<size_t>(id))
    model.tokens.resize(id + 1);
  return &model.tokens[id];
}

llvm::Error Reader::readVocabulary(const JsonField &vocabulary) {
  if (llvm::Error error = vocabulary.expectObject())
    return error;
  std::vector<bool> taken(vocabSize);
  for (const auto &[content, id] : vocabulary.json().items()) {
    if (!id.is_number_integer())
      return vocabulary[content].error("is not an integer");
    auto token = define(vocabulary, content, id.get<int64_t>());
    if (!token)
      return token.takeError();
    if (taken[id.get<size_t>()])
      return vocabulary.error("has two tokens with the id " + id.dump());
    taken[id.get<size_t>()] = true;
    model.spell(id.get<int32_t>(), content);
  }
  return llvm::Error::success();
}

/// "left right", or ["left", "right"] where tokens may contain spaces.
llvm::Error Reader::readMerge(const JsonField &merge) {
  StringRef left, right;
  const nlohmann::json &value = merge.json();
  if (value.is_string())
    std::tie(left, right) =
        StringRef(value.get_ref<const std::string &>()).split(' ');
  else if (value.is_array() && value.size() == 2 && value[0].is_string() &&
           value[1].is_string())
    left = value[0].get_ref<const std::string &>(),
    right = value[1].get_ref<const std::string &>();
  else
    return merge.error("is neither \"left right\" nor [\"left\", \"right\"]");

  if (llvm::Error error = model.addMerge(left, right))
    return merge.error(llvm::toString(std::move(error)));
  return llvm::Error::success();
}

llvm::Error Reader::readBpe(const JsonField &bpe) {
  if (llvm::Error error = bpe.expectObject())
    return error;
  // Files from before 2020 have no model.type.
  std::string type = "BPE";
  if (llvm::Error error = bpe["type"].read(type))
    return error;
  if (type != "BPE")
    return unsupported(bpe, type, "only BPE is");
  for (StringRef field :
       {"dropout", "continuing_subword_prefix", "end_of_word_suffix"})
    if (llvm::Error error = expectUnset(bpe[field]))
      return error;
  if (llvm::Error error = bpe["ignore_merges"].read(model.ignoreMerges))
    return error;
  if (llvm::Error error = bpe["byte_fallback"].read(model.mergesCharacters))
    return error;
  if (llvm::Error error = readVocabulary(bpe["vocab"]))
    return error;

  JsonField merges = bpe["merges"];
  if (llvm::Error error = merges.expectArray())
    return error;
  for (size_t i = 0; i < merges.size(); ++i)
    if (llvm::Error error = readMerge(merges[i]))
      return error;

  // With all bytes in the vocabulary nothing is ever unknown; without an
  // unknown token Hugging Face drops the others, and so does the runtime.
  if (llvm::is_contained(model.byteTokens, noToken))
    return expectUnset(bpe["unk_token"]);
  return llvm::Error::success();
}

llvm::Error Reader::readAddedToken(const JsonField &added) {
  std::string content;
  int64_t id = -1;
  if (llvm::Error error = added.expectObject())
    return error;
  if (llvm::Error error = added["content"].read(content))
    return error;
  if (llvm::Error error = added["id"].read(id))
    return error;
  if (content.empty())
    return llvm::Error::success(); // never matches
  auto token = define(added, content, id);
  if (!token)
    return token.takeError();
  // The decoder sees added tokens too.
  (*token)->bytes = model.decode(content);
  (*token)->flags = TokenAdded;

  struct {
    const char *field;
    uint8_t flag;
  } const flags[] = {{"special", TokenSpecial},
                     {"single_word", TokenSingleWord},
                     {"lstrip", TokenStripLeft},
                     {"rstrip", TokenStripRight}};
  for (auto [field, flag] : flags) {
    bool set = false;
    if (llvm::Error error = added[field].read(set))
      return error;
    (*token)->flags |= set ? flag : 0;
  }
  bool normalized = false;
  if (llvm::Error error = added["normalized"].read(normalized))
    return error;
  // Sentencepiece's normalizer would make "▁<s>" of "<s>" and then miss it
  // inside of a text: nobody's intention, so it is not imitated.
  normalized &= !model.mergesCharacters;
  model.addedTokens[normalized].push_back({content, static_cast<int32_t>(id)});
  return llvm::Error::success();
}

llvm::Error Reader::addSplit(const JsonField &place, StringRef pattern,
                             StringRef behavior, bool invert) {
  auto known =
      llvm::StringSwitch<std::optional<SplitBehavior>>(behavior)
          .Case("Removed", SplitBehavior::Removed)
          .Case("Isolated", SplitBehavior::Isolated)
          .Case("MergedWithPrevious", SplitBehavior::MergedWithPrevious)
          .Case("MergedWithNext", SplitBehavior::MergedWithNext)
          .Case("Contiguous", SplitBehavior::Contiguous)
          .Default(std::nullopt);
  if (!known)
    return place["behavior"].error("is \"" + behavior + "\", which is unknown");

  if (llvm::Error error = model.addSplit(pattern, *known, invert))
    return place.error(llvm::toString(std::move(error)));
  return llvm::Error::success();
}

llvm::Error Reader::readSplit(const JsonField &component) {
  JsonField pattern = component["pattern"];
  std::string regex, literal, behavior;
  bool invert = false;
  if (llvm::Error error = pattern["Regex"].read(regex))
    return error;
  if (llvm::Error error = pattern["String"].read(literal))
    return error;
  if (llvm::Error error = component["behavior"].read(behavior))
    return error;
  if (llvm::Error error = component["invert"].read(invert))
    return error;
  if (!pattern["Regex"] && !pattern["String"])
    return pattern.error("has neither Regex nor String");
  return addSplit(component, pattern["Regex"] ? regex : quotePattern(literal),
                  behavior, invert);
}

llvm::Error Reader::readByteLevel(const JsonField &component) {
  // Both are true when left out.
  bool addPrefixSpace = true, useRegex = true;
  if (llvm::Error error = component["add_prefix_space"].read(addPrefixSpace))
    return error;
  if (llvm::Error error = component["use_regex"].read(useRegex))
    return error;
  if (addPrefixSpace)
    model.steps.push_back({StepKind::PrefixSpace});
  if (useRegex)
    if (llvm::Error error =
            addSplit(component, kGPT2SplitPattern, "Isolated", false))
      return error;
  model.steps.push_back({StepKind::MapBytes});
  sawByteLevel = true;
  return llvm::Error::success();
}

llvm::Error Reader::readPreTokenizer(const JsonField &component,
                                     StringRef type) {
  if (model.mergesCharacters)
    return type == "Metaspace"
               ? readMetaspace(component)
               : unsupported(component, type,
                             "Metaspace is, as the model has byte_fallback");
  if (type == "Split")
    return readSplit(component);
  if (type == "ByteLevel") {
    if (sawByteLevel)
      return component.error("is a second ByteLevel, which is not supported");
    return readByteLevel(component);
  }
  if (type == "Digits") {
    bool individual = false;
    if (llvm::Error error = component["individual_digits"].read(individual))
      return error;
    return addSplit(component, R"(\p{N})",
                    individual ? "Isolated" : "Contiguous", false);
  }
  if (type == "Punctuation") {
    std::string behavior = "Isolated";
    if (llvm::Error error = component["behavior"].read(behavior))
      return error;
    return addSplit(component, R"([!-/:-@\[-`{-~\p{P}])", behavior, false);
  }
  return unsupported(component, type,
                     "ByteLevel, Split, Digits and Punctuation are");
}

/// Prepend and Replace: sentencepiece's spaces, as older files write them.
llvm::Error Reader::readNormalizer(const JsonField &component, StringRef type) {
  std::string text, pattern;
  if (type == "Prepend" && model.mergesCharacters) {
    if (llvm::Error error = component["prepend"].read(text))
      return error;
    if (text != kVisibleSpace)
      return component["prepend"].error("is not U+2581");
    model.steps.push_back({StepKind::AlwaysPrefix});
    return llvm::Error::success();
  }
  if (type == "Replace" && model.mergesCharacters) {
    if (llvm::Error error = component["pattern"]["String"].read(pattern))
      return error;
    if (llvm::Error error = component["content"].read(text))
      return error;
    if (pattern != " " || text != kVisibleSpace)
      return component.error("replaces something else than spaces by U+2581");
    model.steps.push_back({StepKind::UnifySpaces});
    sawSpaces = true;
    return llvm::Error::success();
  }
  return unsupported(component, type,
                     model.mergesCharacters ? "Prepend and Replace are"
                                            : "only null is");
}

llvm::Error Reader::readMetaspace(const JsonField &component) {
  std::string replacement(kVisibleSpace), scheme = "always";
  bool addPrefixSpace = true, split = true;
  if (llvm::Error error = component["replacement"].read(replacement))
    return error;
  if (llvm::Error error = component["prepend_scheme"].read(scheme))
    return error;
  if (llvm::Error error = component["add_prefix_space"].read(addPrefixSpace))
    return error;
  if (llvm::Error error = component["split"].read(split))
    return error;
  if (replacement != kVisibleSpace)
    return component["replacement"].error("is not U+2581");
  model.steps.push_back({StepKind::UnifySpaces});
  if (scheme == "first")
    model.steps.push_back({StepKind::PrefixFirst});
  else if (scheme == "always" && addPrefixSpace)
    model.steps.push_back({StepKind::PrefixSpace});
  sawSpaces = true;
  return split ? addSplit(component, " ", "MergedWithNext", false)
               : llvm::Error::success();
}

llvm::Error Reader::readDecoder(const JsonField &component, StringRef type) {
  sawDecoder = true;
  if (!model.mergesCharacters) {
    if (type == "ByteLevel")
      return llvm::Error::success();
    return unsupported(component, type, "only ByteLevel is");
  }
  if (type == "Strip") {
    int64_t start = 0, stop = 0;
    std::string content;
    if (llvm::Error error = component["start"].read(start))
      return error;
    if (llvm::Error error = component["stop"].read(stop))
      return error;
    if (llvm::Error error = component["content"].read(content))
      return error;
    if (start != 1 || stop != 0 || content != " ")
      return component.error("strips something else than one leading space");
    model.stripsSpace = true;
    return llvm::Error::success();
  }
  if (type == "Metaspace") { // strips the space that was prepended
    std::string scheme = "always";
    if (llvm::Error error = component["prepend_scheme"].read(scheme))
      return error;
    model.stripsSpace = scheme != "never";
    return llvm::Error::success();
  }
  // What the tokens' stored bytes are already.
  if (type == "Replace" || type == "ByteFallback" || type == "Fuse")
    return llvm::Error::success();
  return unsupported(component, type,
                     "Replace, ByteFallback, Fuse, Strip and Metaspace are");
}

/// What a TemplateProcessing puts around a single text.
llvm::Error Reader::readTemplate(const JsonField &component) {
  JsonField single = component["single"];
  if (llvm::Error error = single.expectArray())
    return error;
  bool afterText = false;
  for (size_t i = 0; i < single.size(); ++i) {
    if (single[i]["Sequence"]) {
      afterText = true;
      continue;
    }
    std::string name;
    JsonField piece = single[i]["SpecialToken"]["id"];
    if (llvm::Error error = piece.read(name))
      return error;
    JsonField ids = component["special_tokens"][name]["ids"];
    if (llvm::Error error = ids.expectArray())
      return error;
    for (size_t j = 0; j < ids.size(); ++j) {
      int64_t id = -1;
      if (llvm::Error error = ids[j].read(id))
        return error;
      if (id < 0 || id >= vocabSize)
        return ids[j].error("is outside the model's vocabulary of " +
                            Twine(vocabSize));
      (afterText ? model.suffix : model.prefix)
          .push_back(static_cast<int32_t>(id));
    }
  }
  return llvm::Error::success();
}

llvm::Error Reader::read(const JsonField &root) {
  if (llvm::Error error = readBpe(root["model"]))
    return error;

  JsonField added = root["added_tokens"];
  for (size_t i = 0; i < added.size(); ++i)
    if (llvm::Error error = readAddedToken(added[i]))
      return error;

  if (llvm::Error error =
          forEachComponent(root["normalizer"], "normalizers",
                           [&](const JsonField &component, StringRef type) {
                             return readNormalizer(component, type);
                           }))
    return error;

  if (llvm::Error error =
          forEachComponent(root["pre_tokenizer"], "pretokenizers",
                           [&](const JsonField &component, StringRef type) {
                             return readPreTokenizer(component, type);
                           }))
    return error;
  if (model.mergesCharacters && !sawSpaces)
    return root["pre_tokenizer"].error("has no Metaspace");
  if (!model.mergesCharacters && !sawByteLevel)
    return root["pre_tokenizer"].error(
        "has no ByteLevel; only BPE of bytes or with byte_fallback is "
        "supported");
  // Bytes are mapped for the patterns behind ByteLevel alone.
  if (!model.steps.empty() && model.steps.back().kind == StepKind::MapBytes)
    model.steps.pop_back();

  if (llvm::Error error = forEachComponent(
          root["post_processor"], "processors",
          [&](const JsonField &component, StringRef type) -> llvm::Error {
            if (type == "TemplateProcessing")
              return readTemplate(component);
            if (type == "ByteLevel") // changes offsets only
              return llvm::Error::success();
            return unsupported(component, type,
                               "TemplateProcessing and ByteLevel are");
          }))
    return error;

  if (llvm::Error error =
          forEachComponent(root["decoder"], "decoders",
                           [&](const JsonField &component, StringRef type) {
                             return readDecoder(component, type);
                           }))
    return error;
  return sawDecoder ? llvm::Error::success()
                    : root["decoder"].error("is missing");
}

} // namespace

llvm::Expected<TokenizerModel> tercet::readTokenizerJson(const JsonField &root,
                                                         uint32_t vocabSize) {
  TokenizerModel model;
  if (llvm::Error error = Reader(model, vocabSize).read(root))
    return std::move(error);
  return model;
}
