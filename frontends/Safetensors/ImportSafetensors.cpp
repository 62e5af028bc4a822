// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Two steps: bind() finds and checks every tensor that config.json asks for,
// Emitter writes the IR and cannot fail.

#include "frontends/Safetensors/ImportSafetensors.h"
#include "dialect/Ternary/Ternary.h"
#include "frontends/Safetensors/ModelConfig.h"
#include "frontends/Safetensors/SafetensorsReader.h"
#include "frontends/Support/InputError.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/IR/Verifier.h"
#include "llvm/ADT/BitVector.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include <cmath>

using namespace mlir;
using namespace tercet;
using llvm::Error;
using llvm::Expected;
using llvm::formatv;

//===----------------------------------------------------------------------===//
// Binding: config.json and tensors must agree
//===----------------------------------------------------------------------===//

namespace {

/// A dimension as config.json gives it, and the fields it comes from.
struct Dim {
  int64_t size;
  const char *fields;
};

struct Linear {
  enum class Kind { Packed, Latent, Float } kind;
  std::string module;
  const Tensor *weight;
  int64_t rows;
  float scale; ///< Packed: what the integer sum is multiplied with
};

struct Layer {
  std::string name;
  const Tensor *inputNorm, *postAttentionNorm;
  const Tensor *attentionSubNorm, *ffnSubNorm; ///< null in a Llama
  Linear q, k, v, o, gate, up, down;
};

struct Model {
  const Tensor *embedding, *norm, *head;
  std::vector<Layer> layers;
};

/// Looks tensors up. The first error is kept and binding goes on, so that the
/// functions below read as lists; nothing is used after an error.
class Binder {
public:
  Binder(const ModelConfig &config, const SafetensorsReader &reader)
      : config(config), reader(reader), used(reader.getTensors().size()) {}

  Expected<Model> bind();

private:
  const Tensor *find(const Twine &name);
  const Tensor *getFloat(const Twine &name, ArrayRef<Dim> dims);
  const Tensor *getSubNorm(const Twine &prefix, ArrayRef<const char *> names,
                           Dim dim);
  Linear getLinear(const Twine &module, Dim rows, Dim columns);
  float getScale(const Twine &module);
  Layer getLayer(int64_t index);
  const Tensor *getHead(const Tensor *embedding);
  void checkShape(const Tensor &tensor, ArrayRef<Dim> dims,
                  int64_t rowsPerEntry = 1);
  void checkAllUsed();

  template <typename... Ts>
  void fail(const Tensor &tensor, const char *format, Ts &&...args) {
    fail(formatv("{0}: tensor '{1}'", tensor.path, tensor.name).str(), format,
         std::forward<Ts>(args)...);
  }
  template <typename... Ts>
  void fail(StringRef where, const char *format, Ts &&...args) {
    if (message.empty())
      message = toString(inputError(where, format, std::forward<Ts>(args)...));
  }

  const ModelConfig &config;
  const SafetensorsReader &reader;
  llvm::BitVector used;
  std::string message;
};

} // namespace

static bool isFloat(const Tensor &tensor) {
  return llvm::is_contained({"F32", "F16", "BF16"}, tensor.dtype);
}

const Tensor *Binder::find(const Twine &name) {
  const Tensor *tensor = reader.find(name.str());
  if (tensor)
    used.set(tensor - reader.getTensors().data());
  else
    fail(config.path,
         "describes a model with tensor '{0}', which the checkpoint lacks",
         name.str());
  return tensor;
}

void Binder::checkShape(const Tensor &tensor, ArrayRef<Dim> dims,
                        int64_t rowsPerEntry) {
  SmallVector<int64_t> expected;
  std::string reasons;
  for (const Dim &dim : dims) {
    expected.push_back(dim.size);
    reasons += formatv("{0}{1} = {2}", reasons.empty() ? "" : ", ", dim.fields,
                       dim.size);
  }
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

const Tensor *Binder::getFloat(const Twine &name, ArrayRef<Dim> dims) {
  const Tensor *tensor = find(name);
  if (!tensor)
    return nullptr;
  if (!isFloat(*tensor))
    fail(*tensor, "has dtype {0}; only BF16, F16 and F32 are supported here",
         tensor->dtype);
  checkShape(*tensor, dims);
  return tensor;
}

/// The norm before a projection, under the first of its names that exists.
const Tensor *Binder::getSubNorm(const Twine &prefix,
                                 ArrayRef<const char *> names, Dim dim) {
  if (config.family != ModelConfig::Family::BitNet)
    return nullptr;
  for (const char *name : names)
    if (reader.find((prefix + name + ".weight").str()))
      return getFloat(prefix + name + ".weight", dim);
  return find(prefix + names.front() + ".weight");
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
  Linear linear{Linear::Kind::Float, module.str(), nullptr, rows.size, 1};
  linear.weight = find(module + ".weight");
  if (!linear.weight)
    return linear;
  const Tensor &weight = *linear.weight;
  bool latent = config.weights == ModelConfig::Weights::Latent;
  if (weight.dtype == "U8") {
    linear.kind = Linear::Kind::Packed;
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
  layer.name = formatv("model.layers.{0}", index);
  std::string attention = layer.name + ".self_attn.",
              mlp = layer.name + ".mlp.";
  layer.inputNorm = getFloat(layer.name + ".input_layernorm.weight", hidden);
  layer.q = getLinear(attention + "q_proj", queries, hidden);
  layer.k = getLinear(attention + "k_proj", keys, hidden);
  layer.v = getLinear(attention + "v_proj", keys, hidden);
  layer.attentionSubNorm =
      getSubNorm(attention, {"attn_sub_norm", "inner_attn_ln"}, queries);
  layer.o = getLinear(attention + "o_proj", hidden, queries);
  layer.postAttentionNorm =
      getFloat(layer.name + ".post_attention_layernorm.weight", hidden);
  layer.gate = getLinear(mlp + "gate_proj", ffn, hidden);
  layer.up = getLinear(mlp + "up_proj", ffn, hidden);
  layer.ffnSubNorm = getSubNorm(mlp, {"ffn_sub_norm", "ffn_layernorm"}, ffn);
  layer.down = getLinear(mlp + "down_proj", hidden, ffn);
  return layer;
}

const Tensor *Binder::getHead(const Tensor *embedding) {
  if (config.tiedEmbeddings) {
    // Some checkpoints store the tied head a second time.
    if (!reader.find("lm_head.weight"))
      return embedding;
    const Tensor *head = find("lm_head.weight");
    if (embedding &&
        (head->bytes != embedding->bytes || head->dtype != embedding->dtype))
      fail(*head, "differs from '{0}', but {1} has tie_word_embeddings = true",
           embedding->name, config.path);
    return embedding;
  }
  const Tensor *head = reader.find("lm_head.weight");
  if (!head)
    fail(config.path,
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

Expected<Model> Binder::bind() {
  Model model;
  Dim hidden{config.hiddenSize, "hidden_size"};
  model.embedding = getFloat("model.embed_tokens.weight",
                             {{config.vocabSize, "vocab_size"}, hidden});
  for (int64_t i = 0; i < config.numLayers && message.empty(); ++i)
    model.layers.push_back(getLayer(i));
  model.norm = getFloat("model.norm.weight", hidden);
  model.head = getHead(model.embedding);
  checkAllUsed();
  if (!message.empty())
    return llvm::createStringError(message);
  return model;
}

//===----------------------------------------------------------------------===//
// Emitting
//===----------------------------------------------------------------------===//

namespace {

/// Writes @step. Every op is located at the module it comes from
/// ("model.layers.0.mlp.up_proj"), which later diagnostics name.
class Emitter {
public:
  Emitter(MLIRContext &context, const ModelConfig &config, int64_t numPositions,
          ternary::KVElement kvElement)
      : b(UnknownLoc::get(&context), &context), config(config),
        numPositions(numPositions), kvElement(kvElement) {}

  OwningOpRef<ModuleOp> emit(const Model &model);

private:
  void setLocation(const Twine &name) {
    b.setLoc(NameLoc::get(b.getStringAttr(name)));
  }
  void declare(const Tensor *tensor, RankedTensorType type,
               ternary::Encoding encoding);
  void declareNorm(const Tensor *tensor);
  void declareFloat(const Tensor *tensor);
  void declareLinear(const Linear &linear);
  void declareParameters(const Model &model);

  /// An uninitialised tensor<? x features x f32> for as many rows as `count`.
  Value empty(int64_t features, Value count);
  Value getParameter(StringRef name);
  Value norm(const Tensor *weight, Value x, Value count);
  Value linear(const Linear &linear, Value x);
  Value rope(Value x);
  Value attention(const Layer &layer, int64_t index, Value x);
  Value feedForward(const Layer &layer, Value x);

  ImplicitLocOpBuilder b;
  const ModelConfig &config;
  int64_t numPositions;
  ternary::KVElement kvElement;
  llvm::StringMap<RankedTensorType> parameters;
  Value positions, slots, cache, numTokens;
};

constexpr StringRef kRopeTable = "rope_table";

} // namespace

void Emitter::declare(const Tensor *tensor, RankedTensorType type,
                      ternary::Encoding encoding) {
  if (!parameters.try_emplace(tensor->name, type).second)
    return;
  setLocation(tensor->name);
  auto source =
      ternary::SourceAttr::get(b.getContext(), tensor->path, tensor->offset,
                               tensor->bytes.size(), encoding,
                               /*absmean=*/FloatAttr());
  ternary::ParameterOp::create(b, tensor->name, type, source);
}

static ternary::Encoding getEncoding(const Tensor &tensor) {
  return tensor.dtype == "F32"   ? ternary::Encoding::F32
         : tensor.dtype == "F16" ? ternary::Encoding::F16
                                 : ternary::Encoding::BF16;
}

void Emitter::declareFloat(const Tensor *tensor) {
  ternary::Encoding encoding = getEncoding(*tensor);
  Type element = encoding == ternary::Encoding::F32   ? Type(b.getF32Type())
                 : encoding == ternary::Encoding::F16 ? Type(b.getF16Type())
                                                      : Type(b.getBF16Type());
  declare(tensor, RankedTensorType::get(tensor->shape, element), encoding);
}

/// Norm weights are few: they are widened when they are read.
void Emitter::declareNorm(const Tensor *tensor) {
  if (tensor)
    declare(tensor, RankedTensorType::get(tensor->shape, b.getF32Type()),
            getEncoding(*tensor));
}

void Emitter::declareLinear(const Linear &linear) {
  if (linear.kind != Linear::Kind::Packed)
    return declareFloat(linear.weight);
  auto type = RankedTensorType::get({linear.rows, linear.weight->shape[1]},
                                    b.getIntegerType(2));
  declare(linear.weight, type, ternary::Encoding::HFPacked);
}

void Emitter::declareParameters(const Model &model) {
  declareFloat(model.embedding);
  for (const Layer &layer : model.layers) {
    declareNorm(layer.inputNorm);
    for (const Linear *linear : {&layer.q, &layer.k, &layer.v})
      declareLinear(*linear);
    declareNorm(layer.attentionSubNorm);
    declareLinear(layer.o);
    declareNorm(layer.postAttentionNorm);
    for (const Linear *linear : {&layer.gate, &layer.up})
      declareLinear(*linear);
    declareNorm(layer.ffnSubNorm);
    declareLinear(layer.down);
  }
  declareNorm(model.norm);
  declareFloat(model.head);

  setLocation("model.rotary_emb");
  auto type =
      RankedTensorType::get({numPositions, config.headDim}, b.getF32Type());
  parameters.try_emplace(kRopeTable, type);
  ternary::ParameterOp::create(
      b, kRopeTable, type,
      ternary::RopeTableAttr::get(b.getContext(),
                                  b.getF64FloatAttr(config.ropeTheta)));
}

Value Emitter::empty(int64_t features, Value count) {
  return tensor::EmptyOp::create(
      b, ArrayRef<int64_t>{ShapedType::kDynamic, features}, b.getF32Type(),
      count);
}

Value Emitter::getParameter(StringRef name) {
  return ternary::GetParameterOp::create(b, parameters.at(name), name);
}

Value Emitter::norm(const Tensor *weight, Value x, Value count) {
  setLocation(StringRef(weight->name).drop_back(strlen(".weight")));
  Value out = empty(weight->shape[0], count);
  return ternary::RMSNormOp::create(b, out.getType(), x,
                                    getParameter(weight->name), out,
                                    b.getF32FloatAttr(config.epsilon))
      .getResult();
}

Value Emitter::linear(const Linear &linear, Value x) {
  setLocation(linear.module);
  Value weight = getParameter(linear.weight->name);
  Value out = empty(linear.rows, numTokens), scale;
  switch (linear.kind) {
  case Linear::Kind::Float:
    return ternary::LinearOp::create(b, x, weight, out).getResult();
  case Linear::Kind::Packed:
    scale = arith::ConstantOp::create(b, b.getF32FloatAttr(linear.scale));
    break;
  case Linear::Kind::Latent:
    auto type =
        cast<RankedTensorType>(weight.getType()).clone(b.getIntegerType(2));
    auto quantised =
        ternary::AbsmeanQuantizeOp::create(b, type, b.getF32Type(), weight);
    weight = quantised.getTrits();
    scale = quantised.getScale();
    break;
  }
  return ternary::BitLinearOp::create(b, out.getType(), x, weight, scale, out,
                                      /*group=*/nullptr)
      .getResult();
}

Value Emitter::rope(Value x) {
  Value out =
      empty(cast<RankedTensorType>(x.getType()).getDimSize(1), numTokens);
  return ternary::RopeOp::create(b, out.getType(), x, positions,
                                 getParameter(kRopeTable), out)
      .getResult();
}

Value Emitter::attention(const Layer &layer, int64_t index, Value x) {
  x = norm(layer.inputNorm, x, numTokens);
  Value q = linear(layer.q, x), k = linear(layer.k, x), v = linear(layer.v, x);
  setLocation(layer.name + ".self_attn");
  q = rope(q);
  k = rope(k);
  Value layerIndex = arith::ConstantIndexOp::create(b, index);
  ternary::KVUpdateOp::create(b, k, v, positions, slots, cache, layerIndex);
  Value out = empty(layer.q.rows, numTokens);
  auto scale = b.getF32FloatAttr(1 / std::sqrt(double(config.headDim)));
  Value y = ternary::AttentionOp::create(b, out.getType(), q, positions, slots,
                                         cache, layerIndex, out, scale)
                .getResult();
  if (layer.attentionSubNorm)
    y = norm(layer.attentionSubNorm, y, numTokens);
  return linear(layer.o, y);
}

Value Emitter::feedForward(const Layer &layer, Value x) {
  x = norm(layer.postAttentionNorm, x, numTokens);
  Value gate = linear(layer.gate, x), up = linear(layer.up, x);
  setLocation(layer.name + ".mlp");
  Value out = empty(config.intermediateSize, numTokens);
  auto activation = config.activation == ModelConfig::Activation::ReLU2
                        ? ternary::Activation::ReLU2
                        : ternary::Activation::SiLU;
  Value y = ternary::GatedActivationOp::create(b, out.getType(), gate, up, out,
                                               activation)
                .getResult();
  if (layer.ffnSubNorm)
    y = norm(layer.ffnSubNorm, y, numTokens);
  return linear(layer.down, y);
}

OwningOpRef<ModuleOp> Emitter::emit(const Model &model) {
  OwningOpRef<ModuleOp> module =
      ModuleOp::create(b.getLoc(), config.architecture);
  b.setInsertionPointToStart(module->getBody());
  declareParameters(model);

  auto ids = RankedTensorType::get({ShapedType::kDynamic}, b.getI32Type());
  auto logitsType = RankedTensorType::get(
      {ShapedType::kDynamic, config.vocabSize}, b.getF32Type());
  auto cacheType = ternary::KVCacheType::get(b.getContext(), config.numLayers,
                                             config.numKVHeads, numPositions,
                                             config.headDim, kvElement);
  setLocation("model");
  auto step = func::FuncOp::create(
      b, "step",
      b.getFunctionType({ids, ids, ids, ids, cacheType}, logitsType));
  Block *entry = step.addEntryBlock();
  static constexpr StringLiteral kNames[] = {"tokens", "positions", "slots",
                                             "logit_rows", "cache"};
  for (auto [argument, name] : llvm::zip_equal(entry->getArguments(), kNames))
    argument.setLoc(NameLoc::get(b.getStringAttr(name)));
  b.setInsertionPointToStart(entry);
  Value tokens = entry->getArgument(0), logitRows = entry->getArgument(3);
  positions = entry->getArgument(1);
  slots = entry->getArgument(2);
  cache = entry->getArgument(4);
  numTokens = tensor::DimOp::create(b, tokens, 0);

  setLocation("model.embed_tokens");
  Value out = empty(config.hiddenSize, numTokens);
  Value x = ternary::EmbeddingOp::create(b, out.getType(), tokens,
                                         getParameter(model.embedding->name),
                                         out, nullptr)
                .getResult();
  auto addResidual = [&](const Layer &layer, Value y) {
    setLocation(layer.name);
    Value out = empty(config.hiddenSize, numTokens);
    x = linalg::AddOp::create(b, ValueRange{x, y}, out).getResult(0);
  };
  for (const auto &[index, layer] : llvm::enumerate(model.layers)) {
    addResidual(layer, attention(layer, index, x));
    addResidual(layer, feedForward(layer, x));
  }

  // Only the rows whose logits are asked for go through the final norm and
  // head.
  setLocation("model");
  Value numRows = tensor::DimOp::create(b, logitRows, 0);
  out = empty(config.hiddenSize, numRows);
  x = ternary::GatherRowsOp::create(b, out.getType(), x, logitRows, out)
          .getResult();
  x = norm(model.norm, x, numRows);
  setLocation("lm_head");
  out = empty(config.vocabSize, numRows);
  Value logits =
      ternary::LinearOp::create(b, x, getParameter(model.head->name), out)
          .getResult();
  func::ReturnOp::create(b, logits);
  return module;
}

//===----------------------------------------------------------------------===//
// Entry
//===----------------------------------------------------------------------===//

static Expected<int64_t> getNumPositions(MLIRContext &context,
                                         const ModelConfig &config,
                                         const ImportOptions &options) {
  if (options.context == 0)
    return config.maxPositions;
  if (options.context < 0 || options.context > ModelConfig::kMaxPositions)
    return inputError(config.path, "a context of {0} is not in 1 to {1}",
                      options.context, ModelConfig::kMaxPositions);
  if (options.context > config.maxPositions)
    emitWarning(UnknownLoc::get(&context))
        << "a context of " << options.context
        << " exceeds max_position_embeddings = " << config.maxPositions
        << ": the model was not trained for positions beyond it";
  return options.context;
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
  Expected<int64_t> numPositions = getNumPositions(context, *config, options);
  if (!numPositions)
    return numPositions.takeError();
  Expected<SafetensorsReader> reader = SafetensorsReader::open(directoryOrFile);
  if (!reader)
    return reader.takeError();
  Expected<Model> model = Binder(*config, *reader).bind();
  if (!model)
    return model.takeError();

  context.loadDialect<arith::ArithDialect, func::FuncDialect,
                      linalg::LinalgDialect, tensor::TensorDialect,
                      ternary::TernaryDialect>();
  OwningOpRef<ModuleOp> module =
      Emitter(context, *config, *numPositions, options.kv).emit(*model);
  if (failed(verify(*module)))
    return llvm::createStringError(
        "internal error: the imported module is invalid");
  return module;
}
