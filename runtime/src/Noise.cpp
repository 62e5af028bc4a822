// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Noise.h"

double tercet::naturalLog(double x) {
  // x = 2^n m with m in [sqrt(1/2), sqrt(2)).
  constexpr int64_t sqrtHalf = 0x3fe6a09e667f3bcd;
  auto bits = __builtin_bit_cast(int64_t, x);
  int64_t n = (bits - sqrtHalf) >> 52;
  double m = __builtin_bit_cast(double, bits - n * (int64_t(1) << 52));
  // log(m) = 2 artanh(s); s^2 < 0.0295, and the first term of the series that
  // is left out below 2^-60.
  double s = (m - 1) / (m + 1), z = s * s, series = 0;
  for (int i = 11; i >= 0; --i)
    series = series * z + 1.0 / (2 * i + 1);
  constexpr double ln2High = 0x1.62e42feep-1, ln2Low = 0x1.a39ef35793c76p-33;
  return n * ln2High + (2 * s * series + n * ln2Low);
}
