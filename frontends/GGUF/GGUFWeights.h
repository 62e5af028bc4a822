// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the bytes of a matrix of a GGUF file mean: trits and their scales, or
// floats. Types say it only in part.

#ifndef TERCET_FRONTENDS_GGUF_GGUFWEIGHTS_H
#define TERCET_FRONTENDS_GGUF_GGUFWEIGHTS_H

#include "frontends/GGUF/GGUFReader.h"
#include "frontends/LanguageModel/LanguageModel.h"

namespace tercet {

/// How a type's bytes are decoded; I2_S has more than one way. Nothing for
/// types of integers and F64, which hold no parameter.
std::optional<ternary::Encoding> getEncoding(const GGMLType &type);

/// "PATH: tensor 'NAME'", for messages.
std::string describe(const GGUFTensor &tensor);

/// Fills in how a linear layer's weights are stored: reads the scales of
/// ternary types, and of others whether all values are -s, 0 or s.
/// `latentAllowed`: floats that are not may be latent weights.
llvm::Error readWeights(const GGUFTensor &tensor, ternary::Encoding encoding,
                        bool latentAllowed, Linear &linear);

/// A matrix of type I2_S, and the norm whose output it multiplies.
struct I2SMatrix {
  const GGUFTensor *weight, *inputNorm;
};

/// The layout that a file's matrices of type I2_S have, of the three that go by
/// that name (docs/decisions/0016-i2s-layouts.md).
llvm::Expected<ternary::Encoding>
chooseI2SLayout(const GGUFReader &reader, llvm::ArrayRef<I2SMatrix> matrices);

} // namespace tercet

#endif // TERCET_FRONTENDS_GGUF_GGUFWEIGHTS_H
