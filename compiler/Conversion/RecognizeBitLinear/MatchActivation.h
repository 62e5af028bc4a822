// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Expressions that quantise activations by their absmax, in whatever order a
// graph multiplies and divides.

#ifndef TERCET_COMPILER_CONVERSION_MATCHACTIVATION_H
#define TERCET_COMPILER_CONVERSION_MATCHACTIVATION_H

#include "mlir/IR/Value.h"
#include "llvm/ADT/SmallVector.h"

#include <optional>
#include <string>

namespace tercet {

/// factor * a^power, or that times q(x), where a = max(max |x|, 1e-5) over the
/// last axis of x and q(x) = clip(round(x * 127 / a), -128, 127).
struct ActivationTerm {
  /// None: the term is the constant `factor`.
  mlir::Value x;
  double factor = 1;
  int power = 0;
  bool isQuantized = false;
  /// Lower bound of a. Terms that `match` returns have the one above.
  double bound = 0;
  /// The last axis as the graph has it.
  int64_t axis = -1;
};

/// The product, if it is a term.
std::optional<ActivationTerm> operator*(const ActivationTerm &a,
                                        const ActivationTerm &b);
ActivationTerm reciprocal(ActivationTerm term);

class ActivationMatcher {
public:
  std::optional<ActivationTerm> match(mlir::Value value);

  /// Why a value is no term, if it looks like one.
  llvm::StringRef getReason() const { return reason; }

private:
  std::optional<ActivationTerm> matchNode(mlir::Operation *op);
  std::optional<ActivationTerm> matchAbsmax(mlir::Operation *op);
  std::optional<ActivationTerm> matchBound(mlir::Operation *op);
  std::optional<ActivationTerm> matchRound(mlir::Operation *op);
  /// Keeps the first reason.
  template <typename... Ts>
  std::nullopt_t fail(const char *format, Ts... numbers);

  std::string reason;
  int depth = 0;
};

/// (codes - zero) * factor, and that times or divided by `scale`.
struct IntegerActivation {
  /// i8, ui8 that stand for numbers 128 less, or numbers of -128..127 of
  /// another type.
  mlir::Value codes;
  int64_t zero = 0;
  double factor = 1;
  /// Null: none. It has one value along the axes that are summed.
  mlir::Value scale = {};
  bool divides = false;
};

/// Axes of activations that a product adds up over: 1, 2, .. of a convolution;
/// the last, which is -1, where the rank is not known.
struct SummedAxes {
  llvm::SmallVector<int64_t> axes;
  /// 0: not known.
  int64_t rank;
};

/// Activations that are integers but for a scale: rounded and clipped to 8
/// bits, or of QuantizeLinear.
std::optional<IntegerActivation> matchIntegers(mlir::Value value,
                                               const SummedAxes &summedAxes);

/// The value of a constant of one f32 and rank 0 or 1, which gives no operand
/// that it is broadcast with another shape.
std::optional<double> getScalar(mlir::Value value);

/// Whether the node converts its operand to f32.
bool isCastToF32(mlir::Operation *op);

} // namespace tercet

#endif // TERCET_COMPILER_CONVERSION_MATCHACTIVATION_H
