// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How far a row of a quantised head may be from the head that it stands for.

#ifndef TERCET_COMPILER_SUPPORT_ERRORBOUND_H
#define TERCET_COMPILER_SUPPORT_ERRORBOUND_H

#include "compiler/Support/CodePacking.h"

namespace tercet {

/// A number R such that `linear` with `weights` (one row) and
/// `quantized_linear` with its codes differ by at most R * activationNorm(x)
/// (runtime/src/LogitBounds.h), all roundings included; docs/decisions/0008 has
/// the proof. The format has no minimum.
float getErrorBound(llvm::ArrayRef<float> weights, const CodeMatrix &matrix,
                    int64_t row);

} // namespace tercet

#endif // TERCET_COMPILER_SUPPORT_ERRORBOUND_H
