// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Compiled for x86-64-v3, so that no register beyond its 16 is used.

#include "tests/bench/IntrinsicKernels.h"

#include <algorithm>
#include <cstring>
#include <immintrin.h>

using namespace tercet;

namespace {

/// 16 rows of a plane in two halves.
struct Halves {
  __m256i half[2];
};

inline void storeRows(const TernaryMatmul &m, int64_t group,
                      const Halves &sum) {
  __m256i sumOfQ = _mm256_set1_epi32(m.sum[0]);
  __m256 factor = _mm256_set1_ps(m.scales[group] / m.scale[0]);
  for (int h = 0; h < 2; ++h)
    _mm256_storeu_ps(
        m.y + 16 * group + 8 * h,
        _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(sum.half[h], sumOfQ)),
                      factor));
}

} // namespace

void tercet::runI2GemvAVX2(const TernaryMatmul &m) {
  constexpr int64_t kChain = 64; // steps whose sums fit 16 bits
  const __m256i mask = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
  int64_t numSteps = m.columns / 4;
  for (int64_t tile = 0; tile < m.rows / 64; ++tile) {
    const uint8_t *w = m.weights + tile * numSteps * 64;
    Halves sums[4] = {};
    for (int64_t first = 0; first < numSteps; first += kChain) {
      Halves chain[4] = {};
      int64_t end = std::min(first + kChain, numSteps);
      for (int64_t step = first; step < end; ++step) {
        int32_t word;
        memcpy(&word, m.q + 4 * step, sizeof(word));
        __m256i x = _mm256_set1_epi32(word);
        for (int h = 0; h < 2; ++h) {
          __m256i v = _mm256_loadu_si256(
              reinterpret_cast<const __m256i *>(w + step * 64 + 32 * h));
          for (int p = 0; p < 4; ++p) {
            __m256i codes = _mm256_and_si256(_mm256_srli_epi16(v, 2 * p), mask);
            chain[p].half[h] = _mm256_add_epi16(chain[p].half[h],
                                                _mm256_maddubs_epi16(codes, x));
          }
        }
      }
      for (int p = 0; p < 4; ++p)
        for (int h = 0; h < 2; ++h)
          sums[p].half[h] = _mm256_add_epi32(
              sums[p].half[h], _mm256_madd_epi16(chain[p].half[h], ones));
    }
    for (int p = 0; p < 4; ++p)
      storeRows(m, tile * 4 + p, sums[p]);
  }
}
