// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/LogitBounds.h"

#include <algorithm>
#include <cmath>

float tercet::activationNorm(std::span<const float> hidden) {
  double squares = 0;
  for (float x : hidden)
    squares += double(x) * x;
  double norm = std::max(std::sqrt(squares), 1e-30);
  // Slack for this computation and for the roundings of logit -+ bound.
  return static_cast<float>(norm * (1 + 0x1p-20));
}
