// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/Safetensors/ModelConfig.h"
#include "frontends/Support/InputError.h"
#include "frontends/Support/InputFile.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Regex.h"
#include <cmath>

using namespace llvm;
using namespace tercet;

namespace {

/// Typed access to the fields of a JSON object. After an error the reads go on
/// with values in range.
class Fields {
public:
  Fields(const json::Object &object, std::string where)
      : object(object), where(std::move(where)) {}

  /// The value of a field, null when it is absent or JSON null.
  const json::Value *get(StringRef name) const {
    const json::Value *value = object.get(name);
    return value && value->kind() != json::Value::Null ? value : nullptr;
  }

  int64_t integer(StringRef name, std::optional<int64_t> absent, int64_t max) {
    const json::Value *value = lookup(name, absent.has_value());
    if (!value)
      return absent.value_or(1);
    std::optional<int64_t> integer = value->getAsInteger();
    if (integer && *integer >= 1 && *integer <= max)
      return *integer;
    fail("'{0}' must be an integer from 1 to {1}, not {2}", name, max, *value);
    return 1;
  }

  double number(StringRef name, std::optional<double> absent, double min,
                double max) {
    const json::Value *value = lookup(name, absent.has_value());
    if (!value)
      return absent.value_or(min);
    std::optional<double> number = value->getAsNumber();
    if (number && *number >= min && *number <= max)
      return *number;
    fail("'{0}' must be a number from {1} to {2}, not {3}", name,
         printNumber(min), printNumber(max), *value);
    return min;
  }

  bool boolean(StringRef name, bool absent) {
    const json::Value *value = get(name);
    if (value && !value->getAsBoolean())
      fail("'{0}' must be true or false, not {1}", name, *value);
    return value ? value->getAsBoolean().value_or(absent) : absent;
  }

  /// A string; it lives as long as the object.
  StringRef string(StringRef name, StringRef absent) {
    const json::Value *value = get(name);
    if (value && !value->getAsString())
      fail("'{0}' must be a string, not {1}", name, *value);
    return value ? value->getAsString().value_or(absent) : absent;
  }

  /// Refuses a field whose value would change the arithmetic.
  void requireNeutral(StringRef name, const json::Value &neutral) {
    const json::Value *value = get(name);
    if (value && *value != neutral)
      fail("'{0}' = {1} is not supported, only {2}", name, *value, neutral);
  }

  template <typename... Ts> void fail(const char *format, Ts &&...args) {
    errors.fail(where, format, std::forward<Ts>(args)...);
  }

  Error takeError() const { return errors.take(); }

private:
  const json::Value *lookup(StringRef name, bool optional) {
    const json::Value *value = get(name);
    if (!value && !optional)
      fail("'{0}' is missing", name);
    return value;
  }

  const json::Object &object;
  std::string where;
  FirstError errors;
};

} // namespace

/// Fields that change the arithmetic of some model class, with the value at
/// which they do nothing: at any other, what we compile would not be the model.
static void refuseOtherArithmetic(Fields &fields) {
  const std::pair<StringRef, json::Value> neutralFields[] = {
      {"attention_bias", false},
      {"mlp_bias", false},
      {"use_bias", false},
      {"bias", false},
      {"sliding_window", nullptr},
      {"use_sliding_window", false},
      {"pretraining_tp", 1},
      {"partial_rotary_factor", 1},
      {"attention_multiplier", 1},
      {"embedding_multiplier", 1},
      {"residual_multiplier", 1},
      {"logits_scaling", 1},
      {"logit_scale", 1},
      {"scale_emb", 1},
      {"scale_depth", 1},
      {"final_logit_softcapping", nullptr},
      {"attn_logit_softcapping", nullptr},
      {"clip_qkv", nullptr},
      {"qk_layernorm", false},
      {"use_qk_norm", false},
      {"parallel_attn", false},
      {"alibi", false},
      {"num_experts", 0},
      {"num_local_experts", 0},
      {"is_encoder_decoder", false},
      {"weight_bits", 1},
      {"input_bits", 8},
  };
  for (const auto &[name, value] : neutralFields)
    fields.requireNeutral(name, value);
}

/// Both spellings of the rotary settings, and nothing but plain rotary.
static double readRopeTheta(Fields &fields, StringRef path, double absent) {
  constexpr double maxTheta = 1e12;
  double theta = fields.number("rope_theta", absent, 1, maxTheta);
  for (StringRef name : {"rope_scaling", "rope_parameters"}) {
    const json::Value *value = fields.get(name);
    if (!value)
      continue;
    const json::Object *object = value->getAsObject();
    if (!object) {
      fields.fail("'{0}' must be an object, not {1}", name, *value);
      continue;
    }
    Fields rope(*object, formatv("{0}: {1}", path, name).str());
    StringRef type = rope.string("rope_type", rope.string("type", "default"));
    if (type != "default")
      fields.fail("'{0}' asks for rope_type '{1}'; only 'default' is supported",
                  name, type);
    rope.requireNeutral("partial_rotary_factor", 1);
    rope.requireNeutral("factor", 1);
    if (rope.get("rope_theta")) {
      double inner = rope.number("rope_theta", absent, 1, maxTheta);
      if (fields.get("rope_theta") && inner != theta)
        fields.fail("'rope_theta' is {0}, but '{1}.rope_theta' is {2}",
                    printNumber(theta), name, printNumber(inner));
      theta = inner;
    }
    if (Error error = rope.takeError())
      fields.fail("{0}", toString(std::move(error)));
  }
  return theta;
}

/// quantization_config of transformers' BitNetQuantConfig.
static void readQuantization(Fields &fields, ModelConfig &config) {
  const json::Value *value = fields.get("quantization_config");
  if (!value) {
    // Masters of a BitNet need no quantization_config; a Llama without one is
    // an ordinary Llama.
    config.weights = ModelConfig::Weights::Latent;
    if (config.family == ModelConfig::Family::Llama)
      fields.fail(
          "has no 'quantization_config': this is an ordinary Llama; if it was "
          "trained with ternary weights, add quant_method 'bitnet', "
          "linear_class 'autobitlinear' and quantization_mode 'online'");
    return;
  }
  const json::Object *object = value->getAsObject();
  if (!object)
    return fields.fail("'quantization_config' must be an object, not {0}",
                       *value);
  Fields quant(*object, config.path + ": quantization_config");
  StringRef method = quant.string("quant_method", "");
  StringRef linearClass = quant.string("linear_class", "bitlinear");
  StringRef mode = quant.string("quantization_mode", "offline");
  if (method != "bitnet")
    quant.fail("'quant_method' must be 'bitnet', not '{0}'", method);
  if (linearClass != "bitlinear" && linearClass != "autobitlinear")
    quant.fail(
        "'linear_class' must be 'bitlinear' or 'autobitlinear', not '{0}'",
        linearClass);
  if (mode != "offline" && mode != "online")
    quant.fail("'quantization_mode' must be 'offline' or 'online', not '{0}'",
               mode);
  quant.requireNeutral("use_rms_norm", false);
  // BitLinear has no quantization_mode: it is packed whatever the field says.
  config.weights = linearClass == "bitlinear" ? ModelConfig::Weights::Divide
                   : mode == "offline"        ? ModelConfig::Weights::Multiply
                                              : ModelConfig::Weights::Latent;

  if (const json::Value *list = quant.get("modules_to_not_convert")) {
    config.floatModules.emplace();
    const json::Array *array = list->getAsArray();
    if (!array)
      quant.fail("'modules_to_not_convert' must be a list, not {0}", *list);
    for (const json::Value &entry : array ? *array : json::Array()) {
      std::optional<StringRef> module = entry.getAsString();
      std::string problem;
      if (!module || !Regex(*module).isValid(problem))
        quant.fail(
            "'modules_to_not_convert' has an entry that is no module name or "
            "pattern: {0}",
            entry);
      else
        config.floatModules->push_back(module->str());
    }
  }
  if (Error error = quant.takeError())
    fields.fail("{0}", toString(std::move(error)));
}

bool ModelConfig::isFloatModule(StringRef module) const {
  if (!floatModules)
    return module == "lm_head";
  // As transformers matches them: a suffix, or a pattern from the start up to a
  // module boundary.
  return any_of(*floatModules, [&](const std::string &key) {
    return module.ends_with(key) ||
           (key.ends_with(".") && module.starts_with(key)) ||
           Regex("^(" + key + ")(\\.|$)").match(module);
  });
}

Expected<ModelConfig> ModelConfig::parse(StringRef text, StringRef path) {
  Expected<json::Object> object =
      parseJSONObject(text, path, DuplicateKeys::KeepLast);
  if (!object)
    return object.takeError();
  Fields fields(*object, path.str());
  ModelConfig config;
  config.path = path.str();

  // 1bitLLM's models say model_type llama and name their own class.
  StringRef type = fields.string("model_type", "");
  StringRef architecture;
  if (const json::Array *list = object->getArray("architectures"))
    if (!list->empty())
      architecture = list->front().getAsString().value_or("");
  bool bitnet = architecture.equals_insensitive("BitNetForCausalLM") ||
                (architecture.empty() && type == "bitnet");
  bool llama = architecture == "LlamaForCausalLM" ||
               (architecture.empty() && type == "llama");
  if (!bitnet && !llama)
    return inputError(
        path,
        "model_type '{0}' with architecture '{1}' is not supported, only "
        "BitNetForCausalLM and LlamaForCausalLM",
        type, architecture);
  config.family = bitnet ? Family::BitNet : Family::Llama;
  config.architecture = !architecture.empty() ? architecture.str()
                        : bitnet              ? "BitNetForCausalLM"
                                              : "LlamaForCausalLM";
  refuseOtherArithmetic(fields);

  config.hiddenSize = fields.integer("hidden_size", std::nullopt, kMaxFeatures);
  config.intermediateSize =
      fields.integer("intermediate_size", std::nullopt, kMaxFeatures);
  config.numLayers = fields.integer("num_hidden_layers", std::nullopt, 4096);
  config.numHeads = fields.integer("num_attention_heads", std::nullopt, 4096);
  config.numKVHeads =
      fields.integer("num_key_value_heads", config.numHeads, 4096);
  config.vocabSize =
      fields.integer("vocab_size", std::nullopt, int64_t(1) << 24);
  config.maxPositions =
      fields.integer("max_position_embeddings", 2048, kMaxPositions);
  if (config.numHeads % config.numKVHeads != 0)
    fields.fail("'num_attention_heads' = {0} is not a multiple of "
                "'num_key_value_heads' = {1}",
                config.numHeads, config.numKVHeads);
  if (!fields.get("head_dim") && config.hiddenSize % config.numHeads != 0)
    fields.fail(
        "'hidden_size' = {0} is not a multiple of 'num_attention_heads' = {1}, "
        "and there is no 'head_dim'",
        config.hiddenSize, config.numHeads);
  config.headDim =
      fields.integer("head_dim", config.hiddenSize / config.numHeads, 4096);
  if (config.headDim % 2 != 0)
    fields.fail("'head_dim' = {0} is odd; rotary embedding needs halves",
                config.headDim);
  if (config.numHeads * config.headDim > kMaxFeatures)
    fields.fail(
        "'num_attention_heads' = {0} times 'head_dim' = {1} exceeds {2}",
        config.numHeads, config.headDim, kMaxFeatures);

  StringRef activation = fields.string("hidden_act", bitnet ? "relu2" : "silu");
  if (activation != "relu2" && activation != "silu" && activation != "swish")
    fields.fail("'hidden_act' = '{0}' is not supported, only relu2 and silu",
                activation);
  config.activation = activation == "relu2" ? ternary::Activation::ReLU2
                                            : ternary::Activation::SiLU;
  config.epsilon =
      fields.number("rms_norm_eps", bitnet ? 1e-5 : 1e-6, 1e-12, 0.1);
  config.ropeTheta = readRopeTheta(fields, path, bitnet ? 500000 : 10000);
  config.tiedEmbeddings = fields.boolean("tie_word_embeddings", false);
  readQuantization(fields, config);
  if (Error error = fields.takeError())
    return std::move(error);
  return config;
}

Expected<ModelConfig> ModelConfig::read(StringRef path) {
  Expected<std::unique_ptr<MemoryBuffer>> file = openInputFile(path);
  if (!file)
    return file.takeError();
  return parse((*file)->getBuffer(), path);
}
