// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// config.json of a Hugging Face checkpoint, as far as arithmetic depends on it.
// Defaults are those of transformers' classes for the same model_type.

#ifndef TERCET_FRONTENDS_SAFETENSORS_MODELCONFIG_H
#define TERCET_FRONTENDS_SAFETENSORS_MODELCONFIG_H

#include "frontends/LanguageModel/LanguageModel.h"

namespace tercet {

struct ModelConfig : TransformerConfig {
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

  Family family;
  Weights weights;
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
