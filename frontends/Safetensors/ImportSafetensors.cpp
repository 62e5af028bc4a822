// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// bind() finds and checks every tensor that config.json asks for.

#include "frontends/Safetensors/ImportSafetensors.h"
#include "frontends/LanguageModel/LanguageModel.h"
#include "frontends/Safetensors/ModelConfig.h"
#include "frontends/Safetensors/SafetensorsReader.h"
#include "frontends/Support/InputError.h"

#include "llvm/ADT/BitVector.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace tercet;
using llvm::Error;
using llvm::Expected;
using llvm::formatv;

namespace {

/// Looks tensors up.
class Binder {
public:
  Binder(const ModelConfig &config, const SafetensorsReader &reader)
      : config(config), reader(reader), used(reader.getTensors().size()) {}

  Expected<LanguageModel> bind();

private:
  const Tensor *find(const Twine &name);
  Parameter getFloat(const Twine &name, ArrayRef<Dim> dims);
  Norm getNorm(const Twine &module, Dim dim);
  std::optional<Norm> getSubNorm(const Twine &prefix,
                                 ArrayRef<const char *> names, Dim dim);
  Linear getLinear(const Twine &module, Dim rows, Dim columns);
  float getScale(const Twine &module);
  Layer getLayer(int64_t index);
  Parameter getHead(const Parameter &embedding);
  void checkShape(const Tensor &tensor, ArrayRef<Dim> dims,
                  int64_t rowsPerEntry = 1);
  void checkAllUsed();

  template <typename... Ts>
  void fail(const Tensor &tensor, const char *format, Ts &&...args) {
    errors.fail(formatv("{0}: tensor '{1}'", tensor.path, tensor.name).str(),
                format, std::forward<Ts>(args)...);
  }

  const ModelConfig &config;
  const SafetensorsReader &reader;
  llvm::BitVector used;
  FirstError errors;
};

} // namespace

static bool isFloat(const Tensor &tensor) {
  return llvm::is_contained({"F32", "F16", "BF16"}, tensor.dtype);
}

static ternary::Encoding getEncoding(const Tensor &tensor) {
  return tensor.dtype == "F32"   ? ternary::Encoding::F32
         : tensor.dtype == "F16" ? ternary::Encoding::F16
         : tensor.dtype == "U8"  ? ternary::Encoding::HFPacked
                                 : ternary::Encoding::BF16;
}

static Parameter makeParameter(const Tensor &tensor, ArrayRef<int64_t> shape) {
  return {tensor.name, getEncoding(tensor), SmallVector<int64_t, 2>(shape),
          tensor.path, tensor.offset,       tensor.bytes.size()};
}

const Tensor *Binder::find(const Twine &name) {
  const Tensor *tensor = reader.find(name.str());
  if (tensor)
    used.set(tensor - reader.getTensors().data());
  else
    errors.fail(
        config.path,
        "describes a model with tensor '{0}', which the checkpoint lacks",
        name.str());
  return tensor;
}

void Binder::checkShape(const Tensor &tensor, ArrayRef<Dim> dims,
                        int64_t rowsPerEntry) {
  auto expected =
      llvm::map_to_vector(dims, [](const Dim &dim) { return dim.size; });
  std::string reasons = printReasons(dims);
  if (expected.front() % rowsPerEntry != 0)
    return fail(tensor,
                "packs {0} rows an entry, and the rows that {1} asks for are "
                "no multiple of that ({2})",
                rowsPerEntry, config.path, reasons);
  expected.front() /= rowsPerEntry;
  if (ArrayRef(tensor.shape) != ArrayRef(expected))
    fail(tensor, "has shape {0}, but {1} ({2}) needs {3}",
         printShape(tensor.shape), config.path, reasons, printShape(expected));
}

Parameter Binder::getFloat(const Twine &name, ArrayRef<Dim> dims) {
  const Tensor *tensor = find(name);
  if (!tensor)
    return {};
  if (!isFloat(*tensor))
    fail(*tensor, "has dtype {0}; only BF16, F16 and F32 are supported here",
         tensor->dtype);
  checkShape(*tensor, dims);
  Parameter parameter = makeParameter(*tensor, tensor->shape);
  parameter.isBF16 = tensor->shape.size() == 2 && !errors &&
                     holdsBF16(parameter.encoding, tensor->bytes);
  return parameter;
}

Norm Binder::getNorm(const Twine &module, Dim dim) {
  return {module.str(), getFloat(module + ".weight", dim)};
}

/// The norm before a projection, under the first of its names that exists.
std::optional<Norm> Binder::getSubNorm(const Twine &prefix,
                                       ArrayRef<const char *> names, Dim dim) {
  if (config.family != ModelConfig::Family::BitNet)
    return std::nullopt;
  for (const char *name : names)
    if (reader.find((prefix + name + ".weight").str()))
      return getNorm(prefix + name, dim);
  return getNorm(prefix + names.front(), dim);
}

/// The factor that a packed matrix' weight_scale stands for.
float Binder::getScale(const Twine &module) {
  const Tensor *tensor = find(module + ".weight_scale");
  if (!tensor)
    return 1;
  if (!isFloat(*tensor) || tensor->shape.size() > 1 ||
      (tensor->shape.size() == 1 && tensor->shape[0] != 1)) {
    fail(*tensor, "must be one BF16, F16 or F32 number, not {0} of shape {1}",
         tensor->dtype, printShape(tensor->shape));
    return 1;
  }
  const llvm::fltSemantics &semantics =
      tensor->dtype == "F32"   ? APFloat::IEEEsingle()
      : tensor->dtype == "F16" ? APFloat::IEEEhalf()
                               : APFloat::BFloat();
  uint32_t bits = 0;
  for (auto [index, byte] : llvm::enumerate(tensor->bytes))
    bits |= uint32_t(byte) << 8 * index;
  unsigned width = APFloat::getSizeInBits(semantics);
  double stored =
      APFloat(semantics, llvm::APInt(width, bits)).convertToDouble();
  // Trained scales lie around 1; far outside, the bytes are something else.
  if (!(stored >= 1e-6 && stored <= 1e6))
    fail(*tensor,
         "is {0}, no plausible scale (1e-6 to 1e6); the checkpoint is damaged",
         printNumber(stored));
  return config.weights == ModelConfig::Weights::Divide ? float(1 / stored)
                                                        : float(stored);
}

Linear Binder::getLinear(const Twine &module, Dim rows, Dim columns) {
  Linear linear{Linear::Kind::Float, module.str(), {}, 1};
  const Tensor *tensor = find(module + ".weight");
  if (!tensor)
    return linear;
  const Tensor &weight = *tensor;
  linear.weight = makeParameter(weight, {rows.size, columns.size});
  bool latent = config.weights == ModelConfig::Weights::Latent;
  if (weight.dtype == "U8") {
    linear.kind = Linear::Kind::Trits;
    if (latent)
      fail(weight,
           "is packed (U8), but {0} has no quantization_config that says how "
           "(linear_class, and quantization_mode offline)",
           config.path);
    checkShape(weight, {rows, columns}, /*rowsPerEntry=*/4);
    linear.scale = getScale(module);
    if (config.isFloatModule(linear.module))
      fail(weight, "is packed (U8), but {0} lists it in modules_to_not_convert",
           config.path);
  } else if (!isFloat(weight)) {
    fail(weight, "has dtype {0}; weights must be U8, BF16, F16 or F32",
         weight.dtype);
  } else {
    checkShape(weight, {rows, columns});
    if (!config.isFloatModule(linear.module)) {
      linear.kind = Linear::Kind::Latent;
      if (!latent)
        fail(
            weight,
            "has dtype {0}, but {1} says that weights are packed (U8); for "
            "latent weights set linear_class autobitlinear and "
            "quantization_mode online, for an ordinary linear layer list it in "
            "modules_to_not_convert",
            weight.dtype, config.path);
    }
  }
  return linear;
}

Layer Binder::getLayer(int64_t index) {
  Dim hidden{config.hiddenSize, "hidden_size"};
  Dim ffn{config.intermediateSize, "intermediate_size"};
  Dim queries{config.numHeads * config.headDim,
              "num_attention_heads * head_dim"};
  Dim keys{config.numKVHeads * config.headDim,
           "num_key_value_heads * head_dim"};

  Layer layer;
  layer.module = formatv("model.layers.{0}", index);
  std::string attention = layer.module + ".self_attn.",
              mlp = layer.module + ".mlp.";
  layer.inputNorm = getNorm(layer.module + ".input_layernorm", hidden);
  layer.q = getLinear(attention + "q_proj", queries, hidden);
  layer.k = getLinear(attention + "k_proj", keys, hidden);
  layer.v = getLinear(attention + "v_proj", keys, hidden);
  layer.attentionSubNorm =
      getSubNorm(attention, {"attn_sub_norm", "inner_attn_ln"}, queries);
  layer.o = getLinear(attention + "o_proj", hidden, queries);
  layer.postAttentionNorm =
      getNorm(layer.module + ".post_attention_layernorm", hidden);
  layer.gate = getLinear(mlp + "gate_proj", ffn, hidden);
  layer.up = getLinear(mlp + "up_proj", ffn, hidden);
  layer.ffnSubNorm = getSubNorm(mlp, {"ffn_sub_norm", "ffn_layernorm"}, ffn);
  layer.down = getLinear(mlp + "down_proj", hidden, ffn);
  return layer;
}

Parameter Binder::getHead(const Parameter &embedding) {
  if (config.tiedEmbeddings) {
    // Some checkpoints store the tied head a second time.
    if (!reader.find("lm_head.weight"))
      return embedding;
    const Tensor *head = find("lm_head.weight"),
                 *table = reader.find(embedding.name);
    if (table && (head->bytes != table->bytes || head->dtype != table->dtype))
      fail(*head, "differs from '{0}', but {1} has tie_word_embeddings = true",
           table->name, config.path);
    return embedding;
  }
  const Tensor *head = reader.find("lm_head.weight");
  if (!head)
    errors.fail(
        config.path,
        "has no tie_word_embeddings = true, so the model needs a tensor "
        "'lm_head.weight', which the checkpoint lacks");
  else if (head->dtype == "U8" ||
           (config.weights == ModelConfig::Weights::Latent &&
            !config.isFloatModule("lm_head")))
    fail(*head,
         "is a BitLinear, which is not supported for the head; list lm_head in "
         "modules_to_not_convert of {0} if it is not one",
         config.path);
  return getFloat("lm_head.weight", {{config.vocabSize, "vocab_size"},
                                     {config.hiddenSize, "hidden_size"}});
}

/// A tensor nobody read may be a bias or a norm of a model that is not the one
/// config.json names. Only what is known to be derived data is skipped.
void Binder::checkAllUsed() {
  for (const auto &[index, tensor] : llvm::enumerate(reader.getTensors())) {
    StringRef name = tensor.name;
    if (used[index] || name.ends_with("rotary_emb.inv_freq"))
      continue;
    if (name.consume_front("model.layers.")) {
      int64_t layer;
      if (!name.consumeInteger(10, layer) && layer >= config.numLayers)
        return fail(tensor,
                    "belongs to layer {0}, but {1} has num_hidden_layers = {2}",
                    layer, config.path, config.numLayers);
    }
    return fail(
        tensor,
        "is not part of the model that {0} describes; ignoring it could "
        "change the results",
        config.path);
  }
}

Expected<LanguageModel> Binder::bind() {
  LanguageModel model;
  Dim hidden{config.hiddenSize, "hidden_size"};
  model.embedding = getFloat("model.embed_tokens.weight",
                             {{config.vocabSize, "vocab_size"}, hidden});
  for (int64_t i = 0; i < config.numLayers && !errors; ++i)
    model.layers.push_back(getLayer(i));
  model.norm = getNorm("model.norm", hidden);
  model.head = getHead(model.embedding);
  checkAllUsed();
  if (Error error = errors.take())
    return std::move(error);
  return model;
}

Expected<OwningOpRef<ModuleOp>>
tercet::importSafetensors(MLIRContext &context, StringRef directoryOrFile,
                          const ImportOptions &options) {
  SmallString<128> configPath(directoryOrFile);
  if (!llvm::sys::fs::is_directory(directoryOrFile))
    llvm::sys::path::remove_filename(configPath);
  llvm::sys::path::append(configPath, "config.json");
  Expected<ModelConfig> config = ModelConfig::read(configPath);
  if (!config)
    return config.takeError();
  Expected<SafetensorsReader> reader = SafetensorsReader::open(directoryOrFile);
  if (!reader)
    return reader.takeError();
  Expected<LanguageModel> model = Binder(*config, *reader).bind();
  if (!model)
    return model.takeError();
  return emitLanguageModel(context, *config, *model, options);
}
