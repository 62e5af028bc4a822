// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// rms_norm and quantize_activations of a row, whose columns are a multiple of
// 16 (docs/numerics.md).

#include "tests/bench/Arm/Kernels.h"

#include <algorithm>
#include <arm_neon.h>
#include <cmath>

using namespace tercet;

namespace {

constexpr int kVectors = 4; ///< of 16 lanes

/// Lane j with lane j + w for w = 8, 4, 2, 1.
template <typename Combine>
float foldLanes(const float32x4_t (&v)[kVectors], Combine combine) {
  float lanes[16];
  for (int i = 0; i < kVectors; ++i)
    vst1q_f32(lanes + 4 * i, v[i]);
  for (int width = 8; width > 0; width /= 2)
    for (int i = 0; i < width; ++i)
      lanes[i] = combine(lanes[i], lanes[i + width]);
  return lanes[0];
}

} // namespace

void tercet::runRMSNormArm(const Row &row) {
  const Row m = row; // which stores do not change
  float32x4_t squares[kVectors] = {};
#pragma clang loop unroll(disable)
  for (int64_t column = 0; column < m.columns; column += 16)
    for (int i = 0; i < kVectors; ++i) {
      float32x4_t x = vld1q_f32(m.x + column + 4 * i);
      squares[i] = vfmaq_f32(squares[i], x, x);
    }
  float mean = foldLanes(squares, [](float a, float b) { return a + b; }) /
               float(m.columns);
  float r = 1 / std::sqrt(mean + m.epsilon);
#pragma clang loop unroll(disable)
  for (int64_t column = 0; column < m.columns; column += 16) {
    float32x4_t y[kVectors];
    for (int i = 0; i < kVectors; ++i)
      y[i] = vmulq_f32(vld1q_f32(m.weight + column + 4 * i),
                       vmulq_n_f32(vld1q_f32(m.x + column + 4 * i), r));
    for (int i = 0; i < kVectors; ++i)
      vst1q_f32(m.y + column + 4 * i, y[i]);
  }
}

void tercet::runQuantiseArm(const Row &row) {
  const Row m = row;
  float32x4_t largest[kVectors] = {};
#pragma clang loop unroll(disable)
  for (int64_t column = 0; column < m.columns; column += 16)
    for (int i = 0; i < kVectors; ++i)
      largest[i] =
          vmaxnmq_f32(largest[i], vabsq_f32(vld1q_f32(m.x + column + 4 * i)));
  float scale =
      127 / std::max(foldLanes(largest,
                               [](float a, float b) { return a > b ? a : b; }),
                     1e-5f);
  int32x4_t sums[kVectors] = {};
#pragma clang loop unroll(disable)
  for (int64_t column = 0; column < m.columns; column += 16) {
    int32x4_t codes[kVectors];
    for (int i = 0; i < kVectors; ++i) {
      float32x4_t x =
          vrndnq_f32(vmulq_n_f32(vld1q_f32(m.x + column + 4 * i), scale));
      x = vminnmq_f32(vmaxnmq_f32(x, vdupq_n_f32(-128)), vdupq_n_f32(127));
      codes[i] = vcvtq_s32_f32(x);
      sums[i] = vaddq_s32(sums[i], codes[i]);
    }
    int16x8_t halves[2];
    for (int i = 0; i < 2; ++i)
      halves[i] = vuzp1q_s16(vreinterpretq_s16_s32(codes[2 * i]),
                             vreinterpretq_s16_s32(codes[2 * i + 1]));
    vst1q_s8(m.q + column, vuzp1q_s8(vreinterpretq_s8_s16(halves[0]),
                                     vreinterpretq_s8_s16(halves[1])));
  }
  *m.scale = scale;
  *m.sum = vaddvq_s32(
      vaddq_s32(vaddq_s32(sums[0], sums[1]), vaddq_s32(sums[2], sums[3])));
}
