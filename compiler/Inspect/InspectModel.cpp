// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Everything is read off the imported module, so that a model of any format is
// inspected as what would be compiled.

#include "compiler/Inspect/InspectModel.h"
#include "compiler/Inspect/CheckParameters.h"
#include "compiler/Inspect/InspectGraph.h"
#include "compiler/Inspect/MeasureWeights.h"
#include "compiler/Inspect/PackedTrits.h"
#include "dialect/ONNX/ONNX.h"
#include "dialect/Ternary/SourceEncoding.h"
#include "frontends/Import.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/Parallel.h"

using namespace llvm;
using namespace tercet;
using namespace tercet::ternary;

namespace {

struct Matrix {
  mutable ParameterOp parameter; // an op's accessors are not const
  bool latent;
  /// What the integer sum is multiplied with; nothing if groups of columns have
  /// scales of their own.
  std::optional<float> scale;
  WeightMeasures measures;

  StringRef name() const {
    StringRef name = parameter.getSymName();
    name.consume_back(".weight");
    return name;
  }
  ArrayRef<int64_t> shape() const {
    return cast<mlir::RankedTensorType>(parameter.getType()).getShape();
  }
  uint64_t size() const { return uint64_t(shape()[0]) * shape()[1]; }
  double zeroFraction() const { return double(measures.zeros) / size(); }
};

struct Report {
  std::string architecture;
  int64_t layers = 0, hidden = 0, ffn = 0, heads = 0, kvHeads = 0, headDim = 0;
  int64_t vocabulary = 0, context = 0;
  Activation activation = Activation::SiLU;
  bool subNorms = false, oldSubNorms = false, tied = false;
  std::vector<Matrix> matrices;
  uint64_t ternaryBytes = 0, floatBytes = 0, headBytes = 0, cacheBytes = 0;
  std::string headType;
  std::vector<std::string> notes;
  std::string failure; ///< why the weights cannot be right
};

} // namespace

static ParameterOp lookup(mlir::Value value) {
  auto get = value.getDefiningOp<GetParameterOp>();
  return get ? mlir::SymbolTable::lookupNearestSymbolFrom<ParameterOp>(
                   get, get.getNameAttr())
             : ParameterOp();
}

/// What blocks a parameter of floats has in its file, and in the executable.
static std::optional<BlockFormat> getBlockFormat(ParameterOp parameter) {
  auto source = dyn_cast<SourceAttr>(parameter.getValue());
  return source ? getBlockFormat(source.getEncoding()) : std::nullopt;
}

/// Bytes of a parameter of floats in the executable.
static uint64_t getSize(ParameterOp parameter) {
  auto type = cast<mlir::RankedTensorType>(parameter.getType());
  if (std::optional<BlockFormat> format = getBlockFormat(parameter))
    return type.getNumElements() / format->columns *
           format->size(/*tileRows=*/1);
  return type.getNumElements() * type.getElementTypeBitWidth() / 8;
}

/// "q6_k" or "bf16".
static std::string getElementName(ParameterOp parameter) {
  if (getBlockFormat(parameter))
    return stringifyEncoding(
               cast<SourceAttr>(parameter.getValue()).getEncoding())
        .str();
  std::string name;
  raw_string_ostream(name)
      << cast<mlir::ShapedType>(parameter.getType()).getElementType();
  return name;
}

static int64_t width(mlir::Value value) {
  return cast<mlir::ShapedType>(value.getType()).getShape().back();
}

//===----------------------------------------------------------------------===//
// Gathering
//===----------------------------------------------------------------------===//

static void addMatrices(BitLinearOp op, Report &report) {
  for (auto [weight, scale] : zip_equal(op.getWeights(), op.getScales())) {
    auto quantise = weight.getDefiningOp<AbsmeanQuantizeOp>();
    ParameterOp parameter = lookup(quantise ? quantise.getLatent() : weight);
    if (!parameter)
      continue;
    Matrix matrix{parameter, bool(quantise), std::nullopt, {}};
    if (mlir::FloatAttr constant;
        matchPattern(scale, mlir::m_Constant(&constant)))
      matrix.scale = float(constant.getValueAsDouble());
    report.matrices.push_back(matrix);
  }
}

static void gatherStructure(mlir::ModuleOp module, Report &report) {
  report.architecture = module.getSymName().value_or("unknown").str();
  mlir::Value table, head;
  module.walk([&](mlir::Operation *op) {
    TypeSwitch<mlir::Operation *, void>(op)
        .Case([&](EmbeddingOp op) {
          table = op.getTable();
          report.hidden = width(op.getOuts());
        })
        .Case([&](AttentionOp op) {
          KVCacheType cache = op.getCache().getType();
          report.layers = cache.getLayers();
          report.kvHeads = cache.getHeads();
          report.headDim = cache.getHeadDim();
          report.context = cache.getCapacity();
          report.heads = width(op.getQ()) / cache.getHeadDim();
        })
        .Case([&](GatedActivationOp op) {
          report.ffn = width(op.getOuts());
          report.activation = op.getActivation();
        })
        .Case([&](RMSNormOp op) {
          auto location = dyn_cast<mlir::NameLoc>(op.getLoc());
          StringRef name = location ? location.getName().getValue() : "";
          report.oldSubNorms |= name.contains("inner_attn_ln");
          report.subNorms |= name.contains("attn_sub_norm");
        })
        .Case([&](LinearOp op) {
          head = op.getWeight(); // the last one
          report.vocabulary = width(op.getOuts());
        })
        .Case([&](BitLinearOp op) { addMatrices(op, report); });
  });
  report.subNorms |= report.oldSubNorms;
  report.tied = table && head && lookup(table) == lookup(head);
  if (ParameterOp parameter = head ? lookup(head) : ParameterOp()) {
    report.headBytes = getSize(parameter);
    report.headType = getElementName(parameter);
  }
  report.cacheBytes = 2 * sizeof(float) * report.layers * report.kvHeads *
                      report.context * report.headDim;
  SmallPtrSet<mlir::Operation *, 32> ternary;
  for (const Matrix &matrix : report.matrices) {
    ternary.insert(matrix.parameter);
    report.ternaryBytes += divideCeil(matrix.size(), 4);
  }
  for (auto parameter : module.getOps<ParameterOp>())
    if (isa<SourceAttr>(parameter.getValue()) && !ternary.contains(parameter))
      report.floatBytes += getSize(parameter);
}

static Error measure(Report &report) {
  ParameterReader reader;
  return parallelForEachError(report.matrices, [&](Matrix &matrix) -> Error {
    Expected<WeightMeasures> measures =
        matrix.latent ? measureLatent(reader, matrix.parameter)
                      : measurePacked(reader, matrix.parameter);
    if (!measures)
      return measures.takeError();
    matrix.measures = *measures;
    if (matrix.latent)
      matrix.scale = measures->scale;
    return Error::success();
  });
}

/// What is known to go wrong with ternary checkpoints.
static void judge(Report &report) {
  size_t numTernary = 0;
  for (const Matrix &matrix : report.matrices) {
    const std::optional<LatentMeasures> &latent = matrix.measures.latent;
    numTernary += latent && latent->ternary;
    if (!report.failure.empty())
      continue;
    if (isSignOnly(matrix.measures.zeros, matrix.size()))
      report.failure = formatv("{0}: {1:P} of the weights are zero; these are "
                               "the signs of a matrix, not its ternary values",
                               matrix.name(), matrix.zeroFraction());
    else if (latent && latent->cosFake < 0.9999)
      report.failure =
          formatv("{0}: cos(y,fakeq) is {1:F6}, must be 1: the integer form "
                  "does not compute the quantised layer",
                  matrix.name(), latent->cosFake);
  }
  bool latent = any_of(report.matrices,
                       [](const Matrix &matrix) { return matrix.latent; });
  if (latent)
    report.notes.push_back("the raw-W cosine is not an error measure: the "
                           "model was trained on q(W).");
  if (numTernary)
    report.notes.push_back(
        formatv("{0} latent matrices hold only -s, 0, s already; absmean gives "
                "them a scale below s, as transformers does.",
                numTernary));
  if (report.subNorms && !report.oldSubNorms &&
      report.activation != Activation::ReLU2)
    report.notes.push_back("warning: sub-norms with silu; models with "
                           "attn_sub_norm were trained with relu2. Check "
                           "hidden_act.");
  if (!report.subNorms && report.activation == Activation::ReLU2)
    report.notes.push_back("warning: relu2 without sub-norms; models with "
                           "relu2 were trained with both. Check hidden_act.");
}

//===----------------------------------------------------------------------===//
// Printing
//===----------------------------------------------------------------------===//

static std::string printBytes(uint64_t bytes) {
  return bytes < 10'000'000 ? formatv("{0:F1} KB", bytes / 1e3).str()
                            : formatv("{0:F1} MB", bytes / 1e6).str();
}

/// "model.layers.0.mlp.up_proj" and "blk.0.up_proj" are "0.up_proj" in a table.
static std::string shorten(StringRef name) {
  if (name.consume_front("blk."))
    return name.str();
  if (!name.consume_front("model.layers."))
    return name.str();
  return (name.take_until([](char c) { return c == '.'; }) + "." +
          name.rsplit('.').second)
      .str();
}

static void printWeights(const Report &report, raw_ostream &os) {
  size_t numLatent = 0, numTernary = 0;
  std::string encoding;
  for (const Matrix &matrix : report.matrices) {
    numLatent += matrix.latent;
    numTernary += matrix.measures.latent && matrix.measures.latent->ternary;
    if (matrix.latent)
      encoding =
          stringifyEncoding(
              cast<SourceAttr>(matrix.parameter.getValue()).getEncoding())
              .str();
  }
  if (numLatent)
    os << formatv("weights: LATENT ({0}, {1}/{2} ternary) -> fake-quantising, "
                  "absmean per matrix, half-to-even\n",
                  encoding, numTernary, numLatent);
  else
    os << "weights: PACKED (2 bits a weight)\n";
}

static void printText(const Report &report, raw_ostream &os) {
  os << formatv("model:   {0}, {1} layers, hidden {2}, ffn {3} ({4}{5}), {6} "
                "heads of {7}, {8} KV heads, vocabulary {9}, context {10}\n",
                report.architecture, report.layers, report.hidden, report.ffn,
                stringifyActivation(report.activation),
                report.subNorms ? ", sub-norms" : "", report.heads,
                report.headDim, report.kvHeads, report.vocabulary,
                report.context);
  printWeights(report, os);
  os << formatv("memory:  ternary {0}, float {1} (head {2}), KV cache {3} a "
                "sequence of {4}\n",
                printBytes(report.ternaryBytes), printBytes(report.floatBytes),
                report.tied ? "shares the embedding" : "of its own",
                printBytes(report.cacheBytes), report.context);
  os << formatv("compile: {0} bit_linear, 2 bits a weight; head {1} of {3}; "
                "a token reads {2} of weights\n\n",
                report.matrices.size(), printBytes(report.headBytes),
                printBytes(report.ternaryBytes + report.headBytes),
                report.headType);

  bool latent = any_of(report.matrices,
                       [](const Matrix &matrix) { return matrix.latent; });
  os << formatv("{0,-14} {1,-12} {2,-10} {3,6}  {4}\n", "layer", "shape",
                "gamma", "zero%",
                latent ? "dist          cos(W,q) cos(y,fakeq) cos(y,rawW)"
                       : "dist");
  for (const Matrix &matrix : report.matrices) {
    StringRef distribution = nameDistribution(matrix.zeroFraction());
    os << formatv(
        "{0,-14} {1,-12} {2,-10} {3,6:F1}  {4}", shorten(matrix.name()),
        formatv("{0}x{1}", matrix.shape()[0], matrix.shape()[1]),
        matrix.scale ? formatv("{0:F6}", *matrix.scale).str() : "groups",
        100 * matrix.zeroFraction(), distribution);
    if (const auto &latent = matrix.measures.latent)
      os.indent(14 - distribution.size())
          << formatv("{0,8:F4} {1,12:F6} {2,11:F4}", latent->cosWeights,
                     latent->cosFake, latent->cosRaw);
    os << "\n";
  }
  for (const std::string &note : report.notes)
    os << (StringRef(note).starts_with("warning") ? "" : "note: ") << note
       << "\n";
}

static void printJSON(const Report &report, raw_ostream &os) {
  json::OStream out(os, /*IndentSize=*/2);
  out.object([&] {
    out.attribute("architecture", report.architecture);
    out.attribute("layers", report.layers);
    out.attribute("hidden_size", report.hidden);
    out.attribute("intermediate_size", report.ffn);
    out.attribute("hidden_act", stringifyActivation(report.activation));
    out.attribute("sub_norms", report.subNorms);
    out.attribute("heads", report.heads);
    out.attribute("kv_heads", report.kvHeads);
    out.attribute("head_dim", report.headDim);
    out.attribute("vocab_size", report.vocabulary);
    out.attribute("context", report.context);
    out.attribute("tied_head", report.tied);
    out.attribute("head_type", report.headType);
    out.attributeObject("memory", [&] {
      out.attribute("ternary_bytes", int64_t(report.ternaryBytes));
      out.attribute("float_bytes", int64_t(report.floatBytes));
      out.attribute("head_bytes", int64_t(report.headBytes));
      out.attribute("kv_cache_bytes", int64_t(report.cacheBytes));
    });
    out.attributeArray("matrices", [&] {
      for (const Matrix &matrix : report.matrices)
        out.object([&] {
          out.attribute("name", matrix.name());
          out.attribute("shape", json::Array(matrix.shape()));
          out.attribute("weights", matrix.latent ? "latent" : "packed");
          out.attribute("gamma", matrix.scale ? json::Value(*matrix.scale)
                                              : json::Value(nullptr));
          out.attribute("zero_fraction", matrix.zeroFraction());
          out.attribute("distribution",
                        nameDistribution(matrix.zeroFraction()));
          if (const auto &latent = matrix.measures.latent) {
            out.attribute("cos_weights", latent->cosWeights);
            out.attribute("cos_fake_quantised", latent->cosFake);
            out.attribute("cos_raw", latent->cosRaw);
          }
        });
    });
    out.attributeArray("notes", [&] {
      for (const std::string &note : report.notes)
        out.value(note);
    });
  });
  os << "\n";
}

//===----------------------------------------------------------------------===//
// Entry
//===----------------------------------------------------------------------===//

Error tercet::inspectModule(mlir::ModuleOp module, bool json, raw_ostream &os) {
  Report report;
  gatherStructure(module, report);
  if (Error error = measure(report))
    return error;
  judge(report);
  json ? printJSON(report, os) : printText(report, os);
  return report.failure.empty() ? Error::success()
                                : createStringError(report.failure);
}

Error tercet::inspectModel(StringRef model, bool json, RecognizeGraph recognize,
                           raw_ostream &os) {
  mlir::MLIRContext context;
  Expected<mlir::OwningOpRef<mlir::ModuleOp>> module =
      importModel(context, model, {});
  if (!module)
    return module.takeError();
  if ((*module)->lookupSymbol(onnx::kGraphName))
    return inspectGraph(**module, recognize, json, os);
  if (Error error = checkParameters(**module))
    return error;
  return inspectModule(**module, json, os);
}
