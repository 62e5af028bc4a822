// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// bind() finds and checks every tensor that the architecture needs, then
// readWeights() looks into the matrices.

#include "frontends/GGUF/ImportGGUF.h"
#include "dialect/Ternary/SourceEncoding.h"
#include "frontends/GGUF/GGUFConfig.h"
#include "frontends/GGUF/GGUFReader.h"
#include "frontends/GGUF/GGUFWeights.h"
#include "frontends/Support/InputError.h"

#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/BitVector.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/Parallel.h"

using namespace mlir;
using namespace tercet;
using llvm::Error;
using llvm::Expected;
using llvm::formatv;

namespace {

/// Looks tensors up.
class Binder {
public:
  Binder(const GGUFConfig &config, const GGUFReader &reader)
      : config(config), reader(reader), used(reader.getTensors().size()) {}

  Expected<LanguageModel> bind();

private:
  const GGUFTensor *find(const Twine &name);
  const GGUFTensor *findOptional(const Twine &name);
  const GGUFTensor *getTensor(const Twine &name, ArrayRef<Dim> dims);
  Parameter getFloat(const Twine &name, ArrayRef<Dim> dims);
  Norm getNorm(const Twine &module, const Twine &name, Dim dim);
  Linear getLinear(const Twine &module, const Twine &name, Dim rows,
                   Dim columns, int64_t heads = 0);
  Layer getLayer(int64_t index);
  Parameter getHead(const Parameter &embedding);
  void checkAllUsed();
  Expected<ternary::Encoding> getI2SLayout(const LanguageModel &model);
  Error readMatrices(LanguageModel &model);
  Error readMatrix(Linear &linear, ternary::Encoding i2sLayout);

  template <typename... Ts>
  void fail(const GGUFTensor &tensor, const char *format, Ts &&...args) {
    errors.fail(describe(tensor), format, std::forward<Ts>(args)...);
  }

  const GGUFConfig &config;
  const GGUFReader &reader;
  llvm::BitVector used;
  FirstError errors;
};

} // namespace

static Parameter makeParameter(const GGUFTensor &tensor,
                               ternary::Encoding encoding) {
  return {tensor.name.str(), encoding,      tensor.shape,
          tensor.path,       tensor.offset, tensor.bytes.size()};
}

const GGUFTensor *Binder::findOptional(const Twine &name) {
  const GGUFTensor *tensor = reader.findTensor(name.str());
  if (tensor)
    used.set(tensor - reader.getTensors().data());
  return tensor;
}

const GGUFTensor *Binder::find(const Twine &name) {
  const GGUFTensor *tensor = findOptional(name);
  if (!tensor)
    errors.fail(config.path,
                "has no tensor '{0}', which a model of "
                "architecture '{1}' needs",
                name.str(), config.architecture);
  return tensor;
}

/// A tensor of a type and shape that a parameter may have.
const GGUFTensor *Binder::getTensor(const Twine &name, ArrayRef<Dim> dims) {
  const GGUFTensor *tensor = find(name);
  if (!tensor)
    return nullptr;
  auto expected =
      llvm::map_to_vector(dims, [](const Dim &dim) { return dim.size; });
  std::string reasons = printReasons(dims);
  if (ArrayRef(tensor->shape) != ArrayRef(expected))
    fail(*tensor, "has shape {0}, but the metadata ({1}) needs {2}",
         printShape(tensor->shape), reasons, printShape(expected));
  else if (!getEncoding(*tensor->type))
    fail(*tensor,
         "has type {0}, which is not supported; convert the model "
         "again with F16 here",
         tensor->type->name);
  else
    return tensor;
  return nullptr;
}

Parameter Binder::getFloat(const Twine &name, ArrayRef<Dim> dims) {
  const GGUFTensor *tensor = getTensor(name, dims);
  if (!tensor)
    return {};
  ternary::Encoding encoding = *getEncoding(*tensor->type);
  if (ternary::getEncodingInfo(encoding).isTernary)
    fail(*tensor,
         "has type {0}, and only linear layers can be ternary; "
         "convert the model again with F16 here",
         tensor->type->name);
  Parameter parameter = makeParameter(*tensor, encoding);
  parameter.isBF16 = tensor->shape.size() == 2 && !errors &&
                     holdsBF16(encoding, tensor->bytes);
  return parameter;
}

Norm Binder::getNorm(const Twine &module, const Twine &name, Dim dim) {
  return {module.str(), getFloat(name + ".weight", dim)};
}

/// `heads`: whose rows are in the order of rotary pairs, if the architecture
/// has that.
Linear Binder::getLinear(const Twine &module, const Twine &name, Dim rows,
                         Dim columns, int64_t heads) {
  Linear linear{Linear::Kind::Trits, module.str(), {}};
  if (const GGUFTensor *tensor = getTensor(name + ".weight", {rows, columns})) {
    linear.weight = makeParameter(*tensor, *getEncoding(*tensor->type));
    linear.weight.rotaryHeads = config.isBitNet ? 0 : heads;
  }
  const GGUFTensor *scale = findOptional(name + ".scale");
  if (scale && (scale->type->name != "F32" || scale->shape.size() != 1 ||
                scale->shape[0] != 1))
    fail(*scale, "must be one F32 number, not {0} of shape {1}",
         scale->type->name, printShape(scale->shape));
  return linear;
}

Layer Binder::getLayer(int64_t index) {
  Dim hidden{config.hiddenSize, "embedding_length"};
  Dim ffn{config.intermediateSize, "feed_forward_length"};
  Dim queries{config.numHeads * config.headDim,
              "attention.head_count * attention.key_length"};
  Dim keys{config.numKVHeads * config.headDim,
           "attention.head_count_kv * attention.key_length"};

  Layer layer;
  layer.module = formatv("model.layers.{0}", index);
  std::string attention = layer.module + ".self_attn.",
              mlp = layer.module + ".mlp.", block = formatv("blk.{0}.", index);
  layer.inputNorm =
      getNorm(layer.module + ".input_layernorm", block + "attn_norm", hidden);
  layer.q = getLinear(attention + "q_proj", block + "attn_q", queries, hidden,
                      config.numHeads);
  layer.k = getLinear(attention + "k_proj", block + "attn_k", keys, hidden,
                      config.numKVHeads);
  layer.v = getLinear(attention + "v_proj", block + "attn_v", keys, hidden);
  layer.o =
      getLinear(attention + "o_proj", block + "attn_output", hidden, queries);
  layer.postAttentionNorm = getNorm(layer.module + ".post_attention_layernorm",
                                    block + "ffn_norm", hidden);
  layer.gate = getLinear(mlp + "gate_proj", block + "ffn_gate", ffn, hidden);
  layer.up = getLinear(mlp + "up_proj", block + "ffn_up", ffn, hidden);
  layer.down = getLinear(mlp + "down_proj", block + "ffn_down", hidden, ffn);
  if (config.isBitNet) { // called as in the models that have the activation
    bool isOld = config.activation == ternary::Activation::SiLU;
    layer.attentionSubNorm =
        getNorm(attention + (isOld ? "inner_attn_ln" : "attn_sub_norm"),
                block + "attn_sub_norm", queries);
    layer.ffnSubNorm = getNorm(mlp + (isOld ? "ffn_layernorm" : "ffn_sub_norm"),
                               block + "ffn_sub_norm", ffn);
  }
  return layer;
}

/// Without an output of its own a model has that of the embedding; some files
/// store it a second time.
Parameter Binder::getHead(const Parameter &embedding) {
  const GGUFTensor *head = reader.findTensor("output.weight");
  const GGUFTensor *table = reader.findTensor("token_embd.weight");
  if (!head)
    return embedding;
  Parameter parameter =
      getFloat("output.weight", {{config.vocabSize, "tokens"},
                                 {config.hiddenSize, "embedding_length"}});
  bool isTied = head->type == table->type && head->bytes == table->bytes;
  return isTied ? embedding : parameter;
}

/// A tensor nobody read may be a bias or a norm of another model.
void Binder::checkAllUsed() {
  for (const auto &[index, tensor] : llvm::enumerate(reader.getTensors()))
    if (!used[index])
      return fail(tensor,
                  "is not part of a model of architecture '{0}' and {1} "
                  "layers; ignoring it could change the results",
                  config.architecture, config.numLayers);
}

Expected<LanguageModel> Binder::bind() {
  LanguageModel model;
  Dim hidden{config.hiddenSize, "embedding_length"};
  model.embedding =
      getFloat("token_embd.weight", {{config.vocabSize, "tokens"}, hidden});
  for (int64_t i = 0; i < config.numLayers && !errors; ++i)
    model.layers.push_back(getLayer(i));
  model.norm = getNorm("model.norm", "output_norm", hidden);
  if (!errors)
    model.head = getHead(model.embedding);
  checkAllUsed();
  if (Error error = errors.take())
    return std::move(error);
  if (Error error = readMatrices(model))
    return std::move(error);
  return model;
}

//===----------------------------------------------------------------------===//
// What is in the matrices
//===----------------------------------------------------------------------===//

Expected<ternary::Encoding> Binder::getI2SLayout(const LanguageModel &model) {
  std::vector<I2SMatrix> matrices;
  auto add = [&](const Linear &linear, const std::optional<Norm> &norm) {
    const GGUFTensor *weight = reader.findTensor(linear.weight.name);
    if (weight->type->name == "I2_S" && norm)
      matrices.push_back({weight, reader.findTensor(norm->weight.name)});
  };
  for (const Layer &layer : model.layers) {
    for (const Linear *linear : {&layer.q, &layer.k, &layer.v})
      add(*linear, layer.inputNorm);
    add(layer.o, layer.attentionSubNorm);
    for (const Linear *linear : {&layer.gate, &layer.up})
      add(*linear, layer.postAttentionNorm);
    add(layer.down, layer.ffnSubNorm);
  }
  if (matrices.empty())
    return ternary::Encoding::I2S;
  return chooseI2SLayout(reader, matrices);
}

Error Binder::readMatrix(Linear &linear, ternary::Encoding i2sLayout) {
  const GGUFTensor &tensor = *reader.findTensor(linear.weight.name);
  ternary::Encoding encoding = *getEncoding(*tensor.type);
  if (encoding == ternary::Encoding::I2S)
    encoding = i2sLayout;
  if (Error error = readWeights(tensor, encoding, config.isBitNet, linear))
    return error;
  StringRef name = tensor.name;
  name.consume_back(".weight");
  const GGUFTensor *scale = reader.findTensor((name + ".scale").str());
  if (!scale)
    return Error::success();
  float factor = llvm::support::endian::read<float, llvm::endianness::little>(
      scale->bytes.data());
  if (!(factor >= 1e-6 && factor <= 1e6))
    return inputError(describe(*scale),
                      "is {0}, no plausible scale (1e-6 to 1e6); the file is "
                      "damaged",
                      printNumber(factor));
  if (linear.groupScales || linear.kind != Linear::Kind::Trits)
    return inputError(describe(*scale), "is a scale for a matrix that is not "
                                        "one of trits with a single scale");
  linear.scale *= factor;
  return Error::success();
}

Error Binder::readMatrices(LanguageModel &model) {
  Expected<ternary::Encoding> i2sLayout = getI2SLayout(model);
  if (!i2sLayout)
    return i2sLayout.takeError();
  std::vector<Linear *> linears;
  for (Layer &layer : model.layers)
    for (Linear *linear : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate,
                           &layer.up, &layer.down})
      linears.push_back(linear);
  std::vector<std::string> messages(linears.size());
  llvm::parallelFor(0, linears.size(), [&](size_t i) {
    if (Error error = readMatrix(*linears[i], *i2sLayout))
      messages[i] = toString(std::move(error));
  });
  for (const std::string &message : messages)
    if (!message.empty())
      return llvm::createStringError(message);
  return Error::success();
}

Expected<OwningOpRef<ModuleOp>>
tercet::importGGUF(MLIRContext &context, StringRef path,
                   const ImportOptions &options) {
  Expected<GGUFReader> reader = GGUFReader::open(path);
  if (!reader)
    return reader.takeError();
  Expected<GGUFConfig> config = GGUFConfig::read(*reader, path);
  if (!config)
    return config.takeError();
  Expected<LanguageModel> model = Binder(*config, *reader).bind();
  if (!model)
    return model.takeError();
  if (!config->isBitNet)
    emitWarning(UnknownLoc::get(&context))
        << "architecture 'llama' does not say how the model was trained: its "
           "activations are quantised, as those of a BitNet";
  return emitLanguageModel(context, *config, *model, options);
}
