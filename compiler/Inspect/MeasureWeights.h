// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Statistics of ternary matrices, and of the latent floats behind them.

#ifndef TERCET_COMPILER_INSPECT_MEASUREWEIGHTS_H
#define TERCET_COMPILER_INSPECT_MEASUREWEIGHTS_H

#include "compiler/Support/ParameterReader.h"

namespace tercet {

/// How a latent matrix relates to its quantisation. y = W x for one Gaussian x.
struct LatentMeasures {
  bool ternary;      ///< the floats take only the values -s, 0, s
  double cosWeights; ///< cos(W, q)
  double cosFake;    ///< cos(y, y of fake-quantised floats): must be 1
  double cosRaw;     ///< cos(y, y of the raw floats): no error measure
};

struct WeightMeasures {
  float scale; ///< of latent weights; otherwise 0
  uint64_t zeros;
  std::optional<LatentMeasures> latent;
};

llvm::Expected<WeightMeasures> measurePacked(ParameterReader &reader,
                                             ternary::ParameterOp parameter);
llvm::Expected<WeightMeasures> measureLatent(ParameterReader &reader,
                                             ternary::ParameterOp parameter);

/// The weight distribution that leaves such a fraction of zeros after absmean.
llvm::StringRef nameDistribution(double zeroFraction);

} // namespace tercet

#endif // TERCET_COMPILER_INSPECT_MEASUREWEIGHTS_H
