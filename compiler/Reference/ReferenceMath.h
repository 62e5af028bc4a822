// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The building blocks of docs/numerics.md, word for word.

#ifndef TERCET_COMPILER_REFERENCE_REFERENCEMATH_H
#define TERCET_COMPILER_REFERENCE_REFERENCEMATH_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/bit.h"

#include <array>
#include <cmath>

namespace tercet::reference {

/// Half to even (in the default rounding mode, which nobody changes).
inline float roundEven(float x) { return std::nearbyint(x); }

/// The exponential of the canonical order; below 1 ulp on [-87, 88].
inline float exp(float x) {
  x = x > -87.0f ? x : -87.0f;
  x = x < 88.0f ? x : 88.0f;
  float n = roundEven(x * 0x1.715476p+0f);
  float r = std::fma(n, -0x1.62e400p-1f, x);
  r = std::fma(n, -0x1.7f7d1cp-20f, r);
  float p = 0x1.6d43b4p-10f;
  for (float c :
       {0x1.120be8p-7f, 0x1.5554e8p-5f, 0x1.5554dcp-3f, 0.5f, 1.0f, 1.0f})
    p = std::fma(p, r, c);
  return p * llvm::bit_cast<float>(uint32_t(int32_t(n) + 127) << 23);
}

inline constexpr size_t kLanes = 16;

/// Folds lanes in halves: 8, 4, 2, 1.
inline float reduceLanes(std::array<float, kLanes> lanes) {
  for (size_t width = kLanes / 2; width > 0; width /= 2)
    for (size_t j = 0; j < width; ++j)
      lanes[j] = lanes[j] + lanes[j + width];
  return lanes[0];
}

inline float sum16(llvm::ArrayRef<float> terms) {
  std::array<float, kLanes> lanes = {};
  for (size_t i = 0; i < terms.size(); ++i)
    lanes[i % kLanes] = lanes[i % kLanes] + terms[i];
  return reduceLanes(lanes);
}

inline float sumSquares16(llvm::ArrayRef<float> x) {
  std::array<float, kLanes> lanes = {};
  for (size_t i = 0; i < x.size(); ++i)
    lanes[i % kLanes] = std::fma(x[i], x[i], lanes[i % kLanes]);
  return reduceLanes(lanes);
}

} // namespace tercet::reference

#endif // TERCET_COMPILER_REFERENCE_REFERENCEMATH_H
