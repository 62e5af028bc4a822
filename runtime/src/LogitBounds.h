// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a token is chosen from: an interval around each logit, which closes on
// demand. A head that computes all logits has closed them from the start.

#ifndef TERCET_RUNTIME_LOGITBOUNDS_H
#define TERCET_RUNTIME_LOGITBOUNDS_H

#include <cstdint>
#include <span>

namespace tercet {

class LogitBounds {
public:
  /// Logits that are known.
  explicit LogitBounds(std::span<const float> logits)
      : lower(logits), upper(logits) {}
  virtual ~LogitBounds() = default;

  size_t size() const { return lower.size(); }
  /// Whether all logits were known from the start.
  bool isKnown() const { return lower.data() == upper.data(); }

  /// Makes these logits known, and maybe others: lower[i] == upper[i].
  virtual void refine(std::span<const int32_t>) {}

  /// lower[i] <= logit i <= upper[i].
  std::span<const float> lower, upper;

protected:
  LogitBounds() = default;
};

/// The norm of hidden states that error bounds are relative to: not less than
/// their Euclidean norm, nor than the 1e-30 at which `quantize_wide` ends.
float activationNorm(std::span<const float> hidden);

} // namespace tercet

#endif // TERCET_RUNTIME_LOGITBOUNDS_H
