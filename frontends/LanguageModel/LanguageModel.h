// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What frontends find in the files of a decoder-only language model, and the
// module of docs/architecture.md that is written from it.

#ifndef TERCET_FRONTENDS_LANGUAGEMODEL_LANGUAGEMODEL_H
#define TERCET_FRONTENDS_LANGUAGEMODEL_LANGUAGEMODEL_H

#include "frontends/Import.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include <optional>
#include <string>
#include <vector>

namespace tercet {

/// What the arithmetic depends on beside the weights.
struct TransformerConfig {
  /// Of any context: floats count up to here without gaps.
  static constexpr int64_t kMaxPositions = int64_t(1) << 24;
  /// Of any layer: int32 accumulation is exact up to here.
  static constexpr int64_t kMaxFeatures = 131072;

  std::string path;         ///< of the file that says all this
  std::string architecture; ///< "BitNetForCausalLM"
  ternary::Activation activation;
  int64_t hiddenSize, intermediateSize, numLayers, numHeads, numKVHeads,
      headDim;
  int64_t vocabSize, maxPositions;
  double epsilon, ropeTheta;
};

/// Bytes of a file. The frontend has checked them.
struct Parameter {
  std::string name; ///< the tensor's, in the file
  ternary::Encoding encoding;
  llvm::SmallVector<int64_t, 2> shape; ///< of what is encoded
  llvm::StringRef path;                ///< lives until the module is written
  uint64_t offset, size;
  std::optional<float> absmean = {}; ///< of floats that stand for trits
  bool isBF16 = false;               ///< whatever the encoding, all values are
  int64_t rotaryHeads = 0;           ///< whose rows are stored in pairs
};

/// A module is where ops come from, which verify and diagnostics print.
struct Norm {
  std::string module; ///< "model.layers.0.input_layernorm"
  Parameter weight;
};

struct Linear {
  enum class Kind {
    Trits,  ///< times `scale`, or `groupScales`
    Latent, ///< floats to be quantised by absmean
    Float,  ///< an ordinary linear layer
  };
  Kind kind;
  std::string module; ///< "model.layers.0.mlp.up_proj"
  Parameter weight;
  float scale = 1;
  std::optional<Parameter> groupScales = {}; ///< of `group` columns of a row
  int64_t group = 0;
};

struct Layer {
  std::string module;
  Norm inputNorm, postAttentionNorm;
  std::optional<Norm> attentionSubNorm, ffnSubNorm;
  Linear q, k, v, o, gate, up, down;
};

struct LanguageModel {
  Parameter embedding;
  std::vector<Layer> layers;
  Norm norm;
  Parameter head; ///< of the embedding's name when they are one
};

/// A dimension that the configuration implies, and the fields it comes from.
struct Dim {
  int64_t size;
  const char *fields;
};

/// "vocab_size = 128256, hidden_size = 2560"
std::string printReasons(llvm::ArrayRef<Dim> dims);

/// Whether all values are bf16s, whatever encodes them. Converters widen those
/// of checkpoints, and kernels read a head of bf16 fastest.
bool holdsBF16(ternary::Encoding encoding, llvm::ArrayRef<uint8_t> bytes);

/// Writes the module. Fails only on a context that there is not.
llvm::Expected<mlir::OwningOpRef<mlir::ModuleOp>>
emitLanguageModel(mlir::MLIRContext &context, const TransformerConfig &config,
                  const LanguageModel &model, const ImportOptions &options);

} // namespace tercet

#endif // TERCET_FRONTENDS_LANGUAGEMODEL_LANGUAGEMODEL_H
