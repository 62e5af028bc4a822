// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// i2 (docs/packings.md).

#include "tests/bench/Arm/Dots.h"

using namespace tercet;

namespace {

constexpr int kPlanes = 4;

} // namespace

#ifdef __ARM_FEATURE_DOTPROD

namespace {

/// Planes from p on, all in one byte: their sums are subtracted at the end.
/// Plane 0 is alone where bytes are signed.
[[gnu::always_inline]] inline void
separatePlanes(uint8x16_t v, uint8x16_t (&codes)[kPlanes]) {
#ifdef __ARM_FEATURE_MATMUL_INT8
  codes[0] = v;
#else
  codes[0] = vandq_u8(v, vdupq_n_u8(3));
#endif
  codes[1] = vshrq_n_u8(v, 2);
  codes[2] = vshrq_n_u8(v, 4);
  codes[3] = vshrq_n_u8(v, 6);
}

/// One step of some parts and tokens.
template <int lane, int numParts, int numTokens>
[[gnu::always_inline]] inline void
addStep(const uint8_t *w, const int8x16_t (&q)[numTokens],
        int32x4_t (&sums)[numParts][numTokens][kPlanes]) {
  for (int part = 0; part < numParts; ++part) {
    uint8x16_t codes[kPlanes];
    separatePlanes(vld1q_u8(w + lane * 64 + part * 16), codes);
    for (int t = 0; t < numTokens; ++t)
      for (int p = 0; p < kPlanes; ++p)
        sums[part][t][p] = dot<lane>(sums[part][t][p], codes[p], q[t]);
  }
}

[[gnu::always_inline]] inline void storeSums(const TernaryMatmul &m,
                                             int64_t token, int64_t tile,
                                             int part,
                                             int32x4_t (&sums)[kPlanes]) {
#ifdef __ARM_FEATURE_MATMUL_INT8
  constexpr int first = 0;
#else
  constexpr int first = 1;
#endif
  for (int p = first; p + 1 < kPlanes; ++p)
    sums[p] = vsubq_s32(sums[p], vshlq_n_s32(sums[p + 1], 2));
  for (int p = 0; p < kPlanes; ++p)
    storeRows(m, token, tile * kPlanes + p, part, sums[p]);
}

} // namespace

namespace {

/// Some parts by some tokens; four steps share the vectors of q.
template <int numParts, int numTokens>
[[gnu::always_inline]] inline void runTile(const TernaryMatmul &m, int64_t tile,
                                           int64_t token, int firstPart) {
  const uint8_t *w = m.weights + tile * m.columns * 16 + firstPart * 16;
  int32x4_t sums[numParts][numTokens][kPlanes] = {};
#pragma clang loop unroll(disable)
  for (int64_t column = 0; column < m.columns; column += 16) {
    int8x16_t q[numTokens];
    for (int t = 0; t < numTokens; ++t)
      q[t] = vld1q_s8(m.q + (token + t) * m.columns + column);
    addStep<0>(w + column * 16, q, sums);
    addStep<1>(w + column * 16, q, sums);
    addStep<2>(w + column * 16, q, sums);
    addStep<3>(w + column * 16, q, sums);
  }
  for (int part = 0; part < numParts; ++part)
    for (int t = 0; t < numTokens; ++t)
      storeSums(m, token + t, tile, firstPart + part, sums[part][t]);
}

} // namespace

void tercet::runI2GemvArm(const TernaryMatmul &m) {
  for (int64_t tile = 0; tile < m.rows / 64; ++tile)
    runTile<kParts, 1>(m, tile, 0, 0);
}

#ifndef __ARM_FEATURE_MATMUL_INT8

void tercet::runI2GemmArm(const TernaryMatmul &m) {
  for (int64_t tile = 0; tile < m.rows / 64; ++tile)
    for (int64_t token = 0; token < m.numTokens; token += kI2Tokens)
      for (int part = 0; part < kParts; ++part)
        runTile<1, kI2Tokens>(m, tile, token, part);
}

#else

/// Two rows by two tokens by eight columns at a time. The words of two vectors
/// of codes side by side are rows of eight columns.
void tercet::runI2GemmArm(const TernaryMatmul &m) {
  int64_t numSteps = m.columns / 4;
  for (int64_t tile = 0; tile < m.rows / 64; ++tile)
    for (int64_t token = 0; token < m.numTokens; token += kI2Tokens)
      for (int part = 0; part < kParts; ++part) {
        const uint8_t *w = m.weights + tile * numSteps * 64 + part * 16;
        int32x4_t tiles[2][kI2Tokens / 2][kPlanes] = {};
#pragma clang loop unroll(disable)
        for (int64_t step = 0; step < numSteps; step += 2) {
          uint32x4_t first = vreinterpretq_u32_u8(vld1q_u8(w + step * 64)),
                     second =
                         vreinterpretq_u32_u8(vld1q_u8(w + step * 64 + 64));
          uint8x16_t rows[2] = {
              vreinterpretq_u8_u32(vzip1q_u32(first, second)),
              vreinterpretq_u8_u32(vzip2q_u32(first, second))};
          int8x16_t q[kI2Tokens / 2];
          for (int pair = 0; pair < kI2Tokens / 2; ++pair) {
            const int8_t *row = m.q + (token + 2 * pair) * m.columns + 4 * step;
            q[pair] = vcombine_s8(vld1_s8(row), vld1_s8(row + m.columns));
          }
          uint8x16_t codes[2][kPlanes];
          separatePlanes(rows[0], codes[0]);
          separatePlanes(rows[1], codes[1]);
          for (int p = 0; p < kPlanes; ++p)
            for (int half = 0; half < 2; ++half)
              for (int pair = 0; pair < kI2Tokens / 2; ++pair)
                tiles[half][pair][p] =
                    vusmmlaq_s32(tiles[half][pair][p], codes[half][p], q[pair]);
        }
        for (int t = 0; t < kI2Tokens; ++t) {
          int32x4_t sums[kPlanes];
          for (int p = 0; p < kPlanes; ++p) {
            int32x4_t a = tiles[0][t / 2][p], b = tiles[1][t / 2][p];
            sums[p] = t % 2 ? vuzp2q_s32(a, b) : vuzp1q_s32(a, b);
          }
          storeSums(m, token + t, tile, part, sums);
        }
      }
}

#endif

#else // smull

namespace {

/// Dot products that fit 16 bits.
constexpr int64_t kChain = 64;

[[gnu::always_inline]] inline uint8x16_t getPlane(uint8x16_t v, int plane) {
  switch (plane) {
  case 0:
    return vandq_u8(v, vdupq_n_u8(3));
  case 1:
    return vandq_u8(vshrq_n_u8(v, 2), vdupq_n_u8(3));
  case 2:
    return vandq_u8(vshrq_n_u8(v, 4), vdupq_n_u8(3));
  default:
    return vshrq_n_u8(v, 6);
  }
}

/// Some parts by some tokens.
template <int numParts, int numTokens>
[[gnu::always_inline]] inline void runTile(const TernaryMatmul &m, int64_t tile,
                                           int64_t token, int firstPart) {
  int64_t numSteps = m.columns / 4;
  const uint8_t *w = m.weights + tile * numSteps * 64 + firstPart * 16;
  int32x4_t sums[numParts][numTokens][kPlanes] = {};
#pragma clang loop unroll(disable)
  for (int64_t first = 0; first < numSteps; first += kChain) {
    int16x8_t pairs[numParts][numTokens][kPlanes] = {};
#pragma clang loop unroll(disable)
    for (int64_t step = first; step < first + kChain; ++step) {
      uint8x16_t bytes[numParts];
      for (int part = 0; part < numParts; ++part)
        bytes[part] = separate(vld1q_u8(w + step * 64 + part * 16));
      for (int t = 0; t < numTokens; ++t) {
        int8x16_t q =
            separateQ(broadcastQ(m.q + (token + t) * m.columns + 4 * step));
        for (int part = 0; part < numParts; ++part)
          for (int p = 0; p < kPlanes; ++p)
            pairs[part][t][p] =
                addPairs(pairs[part][t][p], getPlane(bytes[part], p), q);
      }
    }
    for (int part = 0; part < numParts; ++part)
      for (int t = 0; t < numTokens; ++t)
        for (int p = 0; p < kPlanes; ++p)
          sums[part][t][p] = vpadalq_s16(sums[part][t][p], pairs[part][t][p]);
  }
  for (int part = 0; part < numParts; ++part)
    for (int t = 0; t < numTokens; ++t)
      for (int p = 0; p < kPlanes; ++p)
        storeRows(m, token + t, tile * kPlanes + p, firstPart + part,
                  sums[part][t][p]);
}

} // namespace

void tercet::runI2GemvArm(const TernaryMatmul &m) {
  for (int64_t tile = 0; tile < m.rows / 64; ++tile)
    runTile<kParts, 1>(m, tile, 0, 0);
}

void tercet::runI2GemmArm(const TernaryMatmul &m) {
  for (int64_t tile = 0; tile < m.rows / 64; ++tile)
    for (int64_t token = 0; token < m.numTokens; token += kI2Tokens)
      for (int part = 0; part < kParts; ++part)
        runTile<1, kI2Tokens>(m, tile, token, part);
}

#endif
