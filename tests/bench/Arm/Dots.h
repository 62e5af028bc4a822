// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Dot products of four bytes in the lanes of a register, with i8mm, dotprod or
// neither, whichever the compiler is told to use.

#ifndef TERCET_TESTS_BENCH_ARM_DOTS_H
#define TERCET_TESTS_BENCH_ARM_DOTS_H

#include "tests/bench/Arm/Kernels.h"

#include <algorithm>
#include <arm_neon.h>
#include <cstring>

namespace tercet {

/// Registers of 4 rows that a row of 64 bytes has.
inline constexpr int kParts = 4;

[[gnu::always_inline]] inline void storeExact(const TernaryMatmul &m,
                                              int64_t token, int64_t group,
                                              int part, int32x4_t exact) {
  float factor = m.scales[group] / m.scale[token];
  vst1q_f32(m.y + token * m.rows + 16 * group + 4 * part,
            vmulq_n_f32(vcvtq_f32_s32(exact), factor));
}
/// Codes are one more than trits.
[[gnu::always_inline]] inline void storeRows(const TernaryMatmul &m,
                                             int64_t token, int64_t group,
                                             int part, int32x4_t sum) {
  storeExact(m, token, group, part, vsubq_s32(sum, vdupq_n_s32(m.sum[token])));
}

#ifdef __ARM_FEATURE_DOTPROD

/// With q[4 lane .. 4 lane + 3].
template <int lane>
[[gnu::always_inline]] inline int32x4_t dot(int32x4_t sum, uint8x16_t codes,
                                            int8x16_t q) {
#ifdef __ARM_FEATURE_MATMUL_INT8
  return vusdotq_laneq_s32(sum, codes, q, lane);
#else
  return vdotq_laneq_s32(sum, vreinterpretq_s8_u8(codes), q, lane);
#endif
}
template <int lane>
[[gnu::always_inline]] inline int32x4_t dot(int32x4_t sum, uint8x16_t codes,
                                            int8x8_t q) {
#ifdef __ARM_FEATURE_MATMUL_INT8
  return vusdotq_lane_s32(sum, codes, q, lane);
#else
  return vdotq_lane_s32(sum, vreinterpretq_s8_u8(codes), q, lane);
#endif
}

#else

/// q[k .. k + 3] in every lane.
[[gnu::always_inline]] inline int8x16_t broadcastQ(const int8_t *q) {
  int32_t word;
  memcpy(&word, q, sizeof word);
  return vreinterpretq_s8_s32(vdupq_n_s32(word));
}

/// Even bytes, then odd ones: those of a pair meet in a lane of the products.
[[gnu::always_inline]] inline uint8x16_t separate(uint8x16_t v) {
  constexpr uint8x16_t order = {0, 2, 4, 6, 8, 10, 12, 14,
                                1, 3, 5, 7, 9, 11, 13, 15};
  return vqtbl1q_u8(v, order);
}
[[gnu::always_inline]] inline int8x16_t separateQ(int8x16_t q) {
  return vreinterpretq_s8_u8(separate(vreinterpretq_u8_s8(q)));
}

[[gnu::always_inline]] inline int16x8_t
addPairs(int16x8_t sum, uint8x16_t codes, int8x16_t q) {
  int8x16_t c = vreinterpretq_s8_u8(codes);
  return vmlal_high_s8(vmlal_s8(sum, vget_low_s8(c), vget_low_s8(q)), c, q);
}

#endif

} // namespace tercet

#endif // TERCET_TESTS_BENCH_ARM_DOTS_H
