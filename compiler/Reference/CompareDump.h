// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Compares a model with another implementation, op by op: every op gets the
// other implementation's own inputs, so that one rounding tie does not spread.

#ifndef TERCET_COMPILER_REFERENCE_COMPAREDUMP_H
#define TERCET_COMPILER_REFERENCE_COMPAREDUMP_H

#include "compiler/Support/ParameterReader.h"

#include "mlir/IR/BuiltinOps.h"

namespace tercet::reference {

/// Largest error of a float that counts as agreement, relative to the largest
/// magnitude of its row.
inline constexpr double kFloatTolerance = 1e-5;
/// Where x * s is that close to a tie, the quantised values may differ by one.
inline constexpr double kTieTolerance = 1e-3;

struct OpComparison {
  std::string op, name;
  /// Relative, as kFloatTolerance.
  double error = 0;
  /// Activations on the other side of a rounding tie.
  int64_t numTies = 0;
  /// Activations that differ without being near a tie.
  int64_t numWrongActivations = 0;

  bool agrees() const {
    return error <= kFloatTolerance && numWrongActivations == 0;
  }
};

/// One entry for each op of `directory`/manifest.json (docs/verify.md) against
/// the op of the imported `module` with the same name.
llvm::Expected<std::vector<OpComparison>>
compareDump(mlir::ModuleOp module, ParameterReader &reader,
            llvm::StringRef directory);

} // namespace tercet::reference

#endif // TERCET_COMPILER_REFERENCE_COMPAREDUMP_H
