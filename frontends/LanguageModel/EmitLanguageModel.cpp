// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "dialect/Ternary/SourceEncoding.h"
#include "frontends/LanguageModel/LanguageModel.h"
#include "frontends/Support/InputError.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/IR/Verifier.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Parallel.h"
#include <atomic>
#include <cmath>

using namespace mlir;
using namespace tercet;
using llvm::Expected;

namespace {

/// Writes @step. Every op is located at the module it comes from
/// ("model.layers.0.mlp.up_proj"), which later diagnostics name.
class Emitter {
public:
  Emitter(MLIRContext &context, const TransformerConfig &config,
          int64_t numPositions, ternary::KVElement kvElement)
      : b(UnknownLoc::get(&context), &context), config(config),
        numPositions(numPositions), kvElement(kvElement) {}

  OwningOpRef<ModuleOp> emit(const LanguageModel &model);

private:
  void setLocation(const Twine &name) {
    b.setLoc(NameLoc::get(b.getStringAttr(name)));
  }
  void declare(const Parameter &parameter, Type elementType);
  void declareNorm(const Norm &norm);
  void declareFloat(const Parameter &parameter);
  void declareLinear(const Linear &linear);
  void declareParameters(const LanguageModel &model);

  /// An uninitialised tensor<? x features x f32> for as many rows as `count`.
  Value empty(int64_t features, Value count);
  Value getParameter(StringRef name);
  Value norm(const Norm &norm, Value x, Value count);
  Value linear(const Linear &linear, Value x);
  Value rope(Value x);
  Value attention(const Layer &layer, int64_t index, Value x);
  Value feedForward(const Layer &layer, Value x);

  ImplicitLocOpBuilder b;
  const TransformerConfig &config;
  int64_t numPositions;
  ternary::KVElement kvElement;
  llvm::StringMap<RankedTensorType> parameters;
  Value positions, slots, cache, numTokens;
};

constexpr StringRef kRopeTable = "rope_table";

} // namespace

void Emitter::declare(const Parameter &parameter, Type elementType) {
  auto type = RankedTensorType::get(parameter.shape, elementType);
  if (!parameters.try_emplace(parameter.name, type).second)
    return;
  setLocation(parameter.name);
  FloatAttr absmean =
      parameter.absmean ? b.getF32FloatAttr(*parameter.absmean) : FloatAttr();
  auto source = ternary::SourceAttr::get(
      b.getContext(), parameter.path, parameter.offset, parameter.size,
      parameter.encoding, absmean, parameter.rotaryHeads);
  ternary::ParameterOp::create(b, parameter.name, type, source);
}

/// Floats in blocks are widened when they are read.
void Emitter::declareFloat(const Parameter &parameter) {
  Type type = parameter.isBF16 || parameter.encoding == ternary::Encoding::BF16
                  ? Type(b.getBF16Type())
              : parameter.encoding == ternary::Encoding::F16
                  ? Type(b.getF16Type())
                  : Type(b.getF32Type());
  declare(parameter, type);
}

/// Norm weights are few: they are widened when they are read.
void Emitter::declareNorm(const Norm &norm) {
  declare(norm.weight, b.getF32Type());
}

void Emitter::declareLinear(const Linear &linear) {
  if (linear.kind == Linear::Kind::Trits)
    declare(linear.weight, b.getIntegerType(2));
  else
    declareFloat(linear.weight);
  if (linear.groupScales)
    declare(*linear.groupScales, b.getF32Type());
}

void Emitter::declareParameters(const LanguageModel &model) {
  declareFloat(model.embedding);
  for (const Layer &layer : model.layers) {
    declareNorm(layer.inputNorm);
    for (const Linear *linear : {&layer.q, &layer.k, &layer.v})
      declareLinear(*linear);
    if (layer.attentionSubNorm)
      declareNorm(*layer.attentionSubNorm);
    declareLinear(layer.o);
    declareNorm(layer.postAttentionNorm);
    for (const Linear *linear : {&layer.gate, &layer.up})
      declareLinear(*linear);
    if (layer.ffnSubNorm)
      declareNorm(*layer.ffnSubNorm);
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

Value Emitter::norm(const Norm &norm, Value x, Value count) {
  setLocation(norm.module);
  Value out = empty(norm.weight.shape[0], count);
  return ternary::RMSNormOp::create(b, out.getType(), x,
                                    getParameter(norm.weight.name), out,
                                    b.getF32FloatAttr(config.epsilon))
      .getResult();
}

Value Emitter::linear(const Linear &linear, Value x) {
  setLocation(linear.module);
  Value weight = getParameter(linear.weight.name);
  Value out = empty(linear.weight.shape[0], numTokens), scale;
  switch (linear.kind) {
  case Linear::Kind::Float:
    return ternary::LinearOp::create(b, x, weight, out).getResult();
  case Linear::Kind::Trits:
    scale = linear.groupScales ? getParameter(linear.groupScales->name)
                               : Value(arith::ConstantOp::create(
                                     b, b.getF32FloatAttr(linear.scale)));
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
                                      linear.groupScales
                                          ? b.getI64IntegerAttr(linear.group)
                                          : IntegerAttr())
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
  setLocation(layer.module + ".self_attn");
  q = rope(q);
  k = rope(k);
  Value layerIndex = arith::ConstantIndexOp::create(b, index);
  ternary::KVUpdateOp::create(b, k, v, positions, slots, cache, layerIndex);
  Value out = empty(layer.q.weight.shape[0], numTokens);
  auto scale = b.getF32FloatAttr(1 / std::sqrt(double(config.headDim)));
  Value y = ternary::AttentionOp::create(b, out.getType(), q, positions, slots,
                                         cache, layerIndex, out, scale)
                .getResult();
  if (layer.attentionSubNorm)
    y = norm(*layer.attentionSubNorm, y, numTokens);
  return linear(layer.o, y);
}

Value Emitter::feedForward(const Layer &layer, Value x) {
  x = norm(layer.postAttentionNorm, x, numTokens);
  Value gate = linear(layer.gate, x), up = linear(layer.up, x);
  setLocation(layer.module + ".mlp");
  Value out = empty(config.intermediateSize, numTokens);
  Value y = ternary::GatedActivationOp::create(b, out.getType(), gate, up, out,
                                               config.activation)
                .getResult();
  if (layer.ffnSubNorm)
    y = norm(*layer.ffnSubNorm, y, numTokens);
  return linear(layer.down, y);
}

OwningOpRef<ModuleOp> Emitter::emit(const LanguageModel &model) {
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
                                         getParameter(model.embedding.name),
                                         out, nullptr)
                .getResult();
  auto addResidual = [&](const Layer &layer, Value y) {
    setLocation(layer.module);
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
      ternary::LinearOp::create(b, x, getParameter(model.head.name), out)
          .getResult();
  func::ReturnOp::create(b, logits);
  return module;
}

//===----------------------------------------------------------------------===//
// Entry
//===----------------------------------------------------------------------===//

std::string tercet::printReasons(ArrayRef<Dim> dims) {
  return llvm::join(
      llvm::map_range(
          dims,
          [](const Dim &dim) {
            return llvm::formatv("{0} = {1}", dim.fields, dim.size).str();
          }),
      ", ");
}

bool tercet::holdsBF16(ternary::Encoding encoding, ArrayRef<uint8_t> bytes) {
  ternary::EncodingInfo info = ternary::getEncodingInfo(encoding);
  if (encoding == ternary::Encoding::BF16 || info.blockSize != 1)
    return info.blockSize == 1;
  constexpr int64_t kBlock = 1 << 14;
  int64_t count = int64_t(bytes.size()) / info.blockBytes;
  std::atomic<bool> all = true;
  llvm::parallelFor(0, llvm::divideCeil(count, kBlock), [&](size_t i) {
    if (!all)
      return;
    int64_t begin = int64_t(i) * kBlock;
    std::vector<float> values(std::min(kBlock, count - begin));
    ternary::decodeFloats(encoding, bytes.data(), begin, values);
    uint32_t lower = 0;
    for (float value : values)
      lower |= llvm::bit_cast<uint32_t>(value) & 0xffff;
    if (lower != 0)
      all = false;
  });
  return all;
}

static Expected<int64_t> getNumPositions(MLIRContext &context,
                                         const TransformerConfig &config,
                                         const ImportOptions &options) {
  if (options.context == 0)
    return config.maxPositions;
  if (options.context < 0 || options.context > TransformerConfig::kMaxPositions)
    return inputError(config.path, "a context of {0} is not in 1 to {1}",
                      options.context, TransformerConfig::kMaxPositions);
  if (options.context > config.maxPositions)
    emitWarning(UnknownLoc::get(&context))
        << "a context of " << options.context << " exceeds the model's own of "
        << config.maxPositions
        << ": it was not trained for positions beyond it";
  return options.context;
}

Expected<OwningOpRef<ModuleOp>>
tercet::emitLanguageModel(MLIRContext &context, const TransformerConfig &config,
                          const LanguageModel &model,
                          const ImportOptions &options) {
  Expected<int64_t> numPositions = getNumPositions(context, config, options);
  if (!numPositions)
    return numPositions.takeError();
  context.loadDialect<arith::ArithDialect, func::FuncDialect,
                      linalg::LinalgDialect, tensor::TensorDialect,
                      ternary::TernaryDialect>();
  OwningOpRef<ModuleOp> module =
      Emitter(context, config, *numPositions, options.kv).emit(model);
  if (failed(verify(*module)))
    return llvm::createStringError(
        "internal error: the imported module is invalid");
  return module;
}
