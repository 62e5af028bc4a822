// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/GGUF/GGUFConfig.h"
#include "frontends/Support/InputError.h"

using namespace llvm;
using namespace tercet;

namespace {

/// Typed access to the keys of an architecture, "llama.block_count". The first
/// error is kept and the reads go on with values in range.
class Keys {
public:
  Keys(const GGUFReader &reader, StringRef path, StringRef architecture)
      : reader(reader), path(path), architecture(architecture) {}

  const GGUFValue *get(StringRef name) const {
    return reader.findValue((architecture + "." + name).str());
  }

  int64_t integer(StringRef name, std::optional<int64_t> absent, int64_t max) {
    const GGUFValue *value = lookup(name, absent.has_value());
    if (!value)
      return absent.value_or(1);
    std::optional<int64_t> integer = value->getInteger();
    if (integer && *integer >= 1 && *integer <= max)
      return *integer;
    fail(name, "must be an integer from 1 to {0}, not {1}", max,
         value->print());
    return 1;
  }

  double number(StringRef name, std::optional<double> absent, double min,
                double max) {
    const GGUFValue *value = lookup(name, absent.has_value());
    if (!value)
      return absent.value_or(min);
    std::optional<double> number = value->getNumber();
    if (number && *number >= min && *number <= max)
      return *number;
    fail(name, "must be a number from {0} to {1}, not {2}", printNumber(min),
         printNumber(max), value->print());
    return min;
  }

  /// Refuses a number whose value would change the arithmetic.
  void requireNeutral(StringRef name, double neutral) {
    const GGUFValue *value = get(name);
    if (!value)
      return;
    std::optional<double> number = value->getNumber();
    if (std::optional<bool> boolean = value->getBoolean())
      number = *boolean;
    if (number != neutral)
      fail(name, "= {0} is not supported, only {1}", value->print(),
           printNumber(neutral));
  }

  template <typename... Ts>
  void fail(StringRef name, const char *format, Ts &&...args) {
    errors.fail(formatv("{0}: '{1}.{2}'", path, architecture, name).str(),
                format, std::forward<Ts>(args)...);
  }

  Error takeError() { return errors.take(); }

private:
  const GGUFValue *lookup(StringRef name, bool optional) {
    const GGUFValue *value = get(name);
    if (!value && !optional)
      fail(name, "is missing");
    return value;
  }

  const GGUFReader &reader;
  StringRef path, architecture;
  FirstError errors;
};

} // namespace

/// Keys that change the arithmetic, with the value at which they do nothing.
static void refuseOtherArithmetic(Keys &keys) {
  const std::pair<StringRef, double> neutralKeys[] = {
      {"attention.sliding_window", 0},
      {"attention.clamp_kqv", 0},
      {"attention.max_alibi_bias", 0},
      {"attention.causal", 1},
      {"attention.temperature_scale", 0},
      {"attention.temperature_length", 0},
      {"attn_logit_softcapping", 0},
      {"final_logit_softcapping", 0},
      {"logit_scale", 1},
      {"embedding_scale", 1},
      {"residual_scale", 1},
      {"attention.scale", 0},
      {"use_parallel_residual", 0},
      {"expert_count", 0},
      {"rope.scaling.factor", 1},
      {"rope.scaling.attn_factor", 1},
      {"rope.scale_linear", 1},
      {"rope.freq_base_swa", 0},
  };
  for (const auto &[name, value] : neutralKeys)
    keys.requireNeutral(name, value);
  // "linear" with the factor 1, which some converters write, does nothing.
  if (const GGUFValue *type = keys.get("rope.scaling.type"))
    if (!is_contained({"none", "linear"}, type->getString().value_or("")))
      keys.fail("rope.scaling.type", "= {0} is not supported, only 'none'",
                type->print());
}

static void readSizes(Keys &keys, GGUFConfig &config) {
  constexpr int64_t maxFeatures = TransformerConfig::kMaxFeatures;
  config.hiddenSize =
      keys.integer("embedding_length", std::nullopt, maxFeatures);
  config.intermediateSize =
      keys.integer("feed_forward_length", std::nullopt, maxFeatures);
  config.numLayers = keys.integer("block_count", std::nullopt, 4096);
  config.numHeads = keys.integer("attention.head_count", std::nullopt, 4096);
  config.numKVHeads =
      keys.integer("attention.head_count_kv", config.numHeads, 4096);
  config.maxPositions = keys.integer("context_length", std::nullopt,
                                     TransformerConfig::kMaxPositions);
  if (config.numHeads % config.numKVHeads != 0)
    keys.fail("attention.head_count",
              "= {0} is not a multiple of 'attention.head_count_kv' = {1}",
              config.numHeads, config.numKVHeads);

  bool hasHeadDim = keys.get("attention.key_length");
  if (!hasHeadDim && config.hiddenSize % config.numHeads != 0)
    keys.fail("embedding_length",
              "= {0} is not a multiple of 'attention.head_count' = {1}, and "
              "there is no 'attention.key_length'",
              config.hiddenSize, config.numHeads);
  config.headDim = keys.integer("attention.key_length",
                                config.hiddenSize / config.numHeads, 4096);
  for (StringRef name : {"attention.value_length", "rope.dimension_count"})
    if (int64_t size = keys.integer(name, config.headDim, maxFeatures);
        size != config.headDim)
      keys.fail(name,
                "= {0} differs from the {1} of a key; only equal sizes "
                "are supported",
                size, config.headDim);
  if (config.headDim % 2 != 0)
    keys.fail("attention.key_length",
              "= {0} is odd; rotary embedding needs halves", config.headDim);
  if (config.numHeads * config.headDim > maxFeatures)
    keys.fail("attention.head_count", "= {0} times a key's {1} exceeds {2}",
              config.numHeads, config.headDim, maxFeatures);
}

Expected<GGUFConfig> GGUFConfig::read(const GGUFReader &reader,
                                      StringRef path) {
  const GGUFValue *name = reader.findValue("general.architecture");
  std::string architecture =
      name ? name->getString().value_or("").str() : std::string();
  bool isRelu2 = architecture == "bitnet-b1.58" || architecture == "bitnet-25";
  bool isBitNet = isRelu2 || architecture == "bitnet";
  if (!isBitNet && architecture != "llama")
    return inputError(path,
                      "'general.architecture' {0} is not supported, only "
                      "bitnet-b1.58, bitnet-25, bitnet and llama",
                      name ? name->print() : "is missing and");

  Keys keys(reader, path, architecture);
  GGUFConfig config;
  config.path = path.str();
  config.architecture = architecture;
  config.isBitNet = isBitNet;
  config.activation =
      isRelu2 ? ternary::Activation::ReLU2 : ternary::Activation::SiLU;
  refuseOtherArithmetic(keys);
  readSizes(keys, config);
  config.epsilon =
      keys.number("attention.layer_norm_rms_epsilon", std::nullopt, 1e-12, 0.1);
  config.ropeTheta = keys.number("rope.freq_base", 10000, 1, 1e12);
  if (Error error = keys.takeError())
    return std::move(error);

  // Which not all files say in their metadata.
  const GGUFTensor *embedding = reader.findTensor("token_embd.weight");
  if (!embedding || embedding->shape.size() != 2)
    return inputError(path, "has no tensor 'token_embd.weight' with a row for "
                            "each token");
  config.vocabSize = embedding->shape[0];
  return config;
}
