// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "tests/bench/IntrinsicKernels.h"

#include "dialect/Ternary/Ternary.h"

#include <array>
#include <cstring>
#include <immintrin.h>

using namespace tercet;

#define VNNI                                                                   \
  gnu::target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi")

namespace {

[[VNNI, gnu::always_inline]] inline __m512i broadcastQ(const int8_t *q) {
  int32_t word;
  memcpy(&word, q, sizeof(word));
  return _mm512_set1_epi32(word);
}

[[VNNI, gnu::always_inline]] inline void
storeRows(const TernaryMatmul &m, int64_t token, int64_t group, __m512i sum) {
  __m512i exact = _mm512_sub_epi32(sum, _mm512_set1_epi32(m.sum[token]));
  float factor = m.scales[group] / m.scale[token];
  _mm512_storeu_ps(
      m.y + token * m.rows + 16 * group,
      _mm512_mul_ps(_mm512_cvtepi32_ps(exact), _mm512_set1_ps(factor)));
}

} // namespace

[[VNNI]] void tercet::runI2Gemv(const TernaryMatmul &m) {
  constexpr int kUnroll = 4;
  const __m512i masks[4] = {_mm512_set1_epi8(3), _mm512_set1_epi8(12),
                            _mm512_set1_epi8(48), _mm512_set1_epi8(-64)};
  int64_t numSteps = m.columns / 4;
  for (int64_t tile = 0; tile < m.rows / 64; ++tile) {
    const uint8_t *w = m.weights + tile * numSteps * 64;
    __m512i acc[kUnroll][4] = {};
    for (int64_t step = 0; step < numSteps; step += kUnroll)
#pragma clang loop unroll(full)
      for (int u = 0; u < kUnroll; ++u) {
        const uint8_t *cell = w + (step + u) * 64;
        __m512i v = _mm512_loadu_si512(cell);
        __m512i x = broadcastQ(m.q + 4 * (step + u));
        for (int p = 0; p < 4; ++p)
          acc[u][p] = _mm512_dpbusd_epi32(
              acc[u][p], p == 3 ? v : _mm512_and_si512(v, masks[p]), x);
      }
    __m512i total[4];
    for (int p = 0; p < 4; ++p)
      total[p] = _mm512_add_epi32(_mm512_add_epi32(acc[0][p], acc[1][p]),
                                  _mm512_add_epi32(acc[2][p], acc[3][p]));
    for (int p = 0; p < 3; ++p)
      total[3] = _mm512_sub_epi32(total[3], total[p]);
    for (int p = 0; p < 4; ++p)
      storeRows(m, 0, tile * 4 + p,
                _mm512_sra_epi32(total[p], _mm_cvtsi32_si128(2 * p)));
  }
}

[[VNNI]] void tercet::runI2Gemm(const TernaryMatmul &m) {
  constexpr int kTokens = 6;
  const __m512i masks[4] = {_mm512_set1_epi8(3), _mm512_set1_epi8(12),
                            _mm512_set1_epi8(48), _mm512_set1_epi8(-64)};
  int64_t numSteps = m.columns / 4;
  for (int64_t tile = 0; tile < m.rows / 64; ++tile)
    for (int64_t token = 0; token < m.numTokens; token += kTokens) {
      const uint8_t *w = m.weights + tile * numSteps * 64;
      const int8_t *q = m.q + token * m.columns;
      __m512i acc[kTokens][4] = {};
      for (int64_t step = 0; step < numSteps; ++step) {
        __m512i v = _mm512_loadu_si512(w + step * 64);
        __m512i codes[4];
        for (int p = 0; p < 4; ++p)
          codes[p] = p == 3 ? v : _mm512_and_si512(v, masks[p]);
        for (int t = 0; t < kTokens; ++t) {
          __m512i x = broadcastQ(q + t * m.columns + 4 * step);
          for (int p = 0; p < 4; ++p)
            acc[t][p] = _mm512_dpbusd_epi32(acc[t][p], codes[p], x);
        }
      }
      for (int t = 0; t < kTokens; ++t) {
        for (int p = 0; p < 3; ++p)
          acc[t][3] = _mm512_sub_epi32(acc[t][3], acc[t][p]);
        for (int p = 0; p < 4; ++p)
          storeRows(m, token + t, tile * 4 + p,
                    _mm512_sra_epi32(acc[t][p], _mm_cvtsi32_si128(2 * p)));
      }
    }
}

[[VNNI]] void tercet::runT5Gemv(const TernaryMatmul &m) {
  constexpr int kUnroll = 2;
  std::array<uint8_t, 128> fields = {}, last = {};
  for (int byte = 0; byte < 128; ++byte) {
    std::array<int8_t, 5> trits = ternary::getT5Trits(byte);
    for (int p = 0; p < 4; ++p)
      fields[byte] |= (trits[p] + 1) << (2 * p);
    last[byte] = trits[4] + 1;
  }
  const __m512i fieldsLow = _mm512_loadu_si512(fields.data()),
                fieldsHigh = _mm512_loadu_si512(fields.data() + 64),
                lastCodes = _mm512_loadu_si512(last.data());
  const __m512i ofMinus = _mm512_set1_epi8(int8_t(0xaa));
  const __m512i masks[3] = {_mm512_set1_epi8(3), _mm512_set1_epi8(12),
                            _mm512_set1_epi8(48)};
  int64_t numSteps = m.columns / 4;
  for (int64_t tile = 0; tile < m.rows / 80; ++tile) {
    const uint8_t *w = m.weights + tile * numSteps * 64;
    __m512i acc[kUnroll][5] = {};
    for (int64_t step = 0; step < numSteps; step += kUnroll)
#pragma clang loop unroll(full)
      for (int u = 0; u < kUnroll; ++u) {
        const uint8_t *cell = w + (step + u) * 64;
        __m512i v = _mm512_loadu_si512(cell);
        __mmask64 minus = _mm512_movepi8_mask(v);
        __m512i f = _mm512_permutex2var_epi8(fieldsLow, v, fieldsHigh);
        __m512i l = _mm512_permutexvar_epi8(v, lastCodes);
        f = _mm512_mask_sub_epi8(f, minus, ofMinus, f);
        __m512i x = broadcastQ(m.q + 4 * (step + u));
        for (int p = 0; p < 5; ++p) {
          __m512i codes = p == 4   ? l
                          : p == 3 ? f
                                   : _mm512_and_si512(f, masks[p]);
          acc[u][p] = _mm512_dpbusd_epi32(acc[u][p], codes, x);
        }
      }
    __m512i total[5];
    for (int p = 0; p < 5; ++p)
      total[p] = _mm512_add_epi32(acc[0][p], acc[1][p]);
    for (int p = 0; p < 3; ++p)
      total[3] = _mm512_sub_epi32(total[3], total[p]);
    for (int p = 0; p < 5; ++p)
      storeRows(
          m, 0, tile * 5 + p,
          _mm512_sra_epi32(total[p], _mm_cvtsi32_si128(p < 4 ? 2 * p : 0)));
  }
}
