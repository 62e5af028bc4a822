// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The randomness of sampling: one number for each seed, draw and token, so that
// a choice asks for those of the tokens that it considers and for no others.

#ifndef TERCET_RUNTIME_NOISE_H
#define TERCET_RUNTIME_NOISE_H

#include <cstdint>

namespace tercet {

/// The natural logarithm of a normal x > 0 within 2 ulp (of 1 near 1), the same
/// bits on every IEEE machine.
double naturalLog(double x);

/// Gumbel noise: token i with the largest `logit[i] / temperature + noise[i]`
/// is a draw from the softmax of `logit / temperature` (and of any part of it).
class Noise {
public:
  Noise(uint64_t seed, uint64_t draw) : key(mix(seed, draw)) {}

  /// -log(-log(u)) of a uniform u in (0, 1).
  double operator[](uint64_t token) const {
    return -naturalLog(-naturalLog(1 - complement(token)));
  }

  /// Not less than that, and a few instructions. -log(1 - d) >= d, and between
  /// powers of two log2(d) is above the straight line that an exponent with its
  /// fraction is.
  double atMost(uint64_t token) const {
    auto bits = __builtin_bit_cast(int64_t, complement(token));
    double line = static_cast<double>(bits - (int64_t(1023) << 52)) * 0x1p-52;
    return 1e-9 - line * 0x1.62e42fefa39efp-1;
  }

private:
  /// Number i + 1 of the splitmix64 generator (Steele, Lea, Flood 2014) of this
  /// state.
  static uint64_t mix(uint64_t state, uint64_t i) {
    uint64_t z = state + (i + 1) * 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
  }
  /// 1 - u: 52 bits in the middle of their interval, so that both are exact.
  double complement(uint64_t token) const {
    return (static_cast<double>(int64_t(mix(key, token) >> 12)) + 0.5) *
           0x1p-52;
  }

  uint64_t key;
};

} // namespace tercet

#endif // TERCET_RUNTIME_NOISE_H
