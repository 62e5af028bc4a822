// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// config.json of a Hugging Face checkpoint, as far as arithmetic depends on it.
// Defaults are those of transformers' classes for the same model_type.

#ifndef TERCET_FRONTENDS_SAFETENSORS_MODELCONFIG_H
#define TERCET_FRONTENDS_SAFETENSORS_MODELCONFIG_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <optional>
#include <string>
#include <vector>

namespace tercet {

struct ModelConfig {
  enum class Family {
    BitNet, ///< BitNetForCausalLM, BitnetForCausalLM: sub-norms in each layer
    Llama,  ///< LlamaForCausalLM with quantization_config (Falcon3 and -E too)
  };
  /// How a BitLinear stores its weights.
  enum class Weights {
    Latent,   ///< floats to be quantised by absmean (AutoBitLinear online)
    Multiply, ///< packed; y is multiplied by weight_scale (AutoBitLinear
              ///< offline)
    Divide,   ///< packed; y is divided by weight_scale (BitLinear)
  };
  enum class Activation { ReLU2, SiLU };

  /// Of any context: floats count up to here without gaps.
  static constexpr int64_t kMaxPositions = int64_t(1) << 24;

  std::string path;         ///< of the config.json
  std::string architecture; ///< "BitNetForCausalLM"
  Family family;
  Weights weights;
  Activation activation;
  int64_t hiddenSize, intermediateSize, numLayers, numHeads, numKVHeads,
      headDim;
  int64_t vocabSize, maxPositions;
  double epsilon, ropeTheta;
  bool tiedEmbeddings;
  /// quantization_config.modules_to_not_convert; absent, only the head is kept.
  std::optional<std::vector<std::string>> floatModules;

  /// Whether a module ("model.layers.0.mlp.up_proj") stays an ordinary linear.
  bool isFloatModule(llvm::StringRef module) const;

  static llvm::Expected<ModelConfig> read(llvm::StringRef path);
  static llvm::Expected<ModelConfig> parse(llvm::StringRef text,
                                           llvm::StringRef path);
};

} // namespace tercet

#endif // TERCET_FRONTENDS_SAFETENSORS_MODELCONFIG_H
