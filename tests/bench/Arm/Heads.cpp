// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Heads of bf16 and of codes (docs/packings.md), with their chains as
// docs/numerics.md says.

#include "tests/bench/Arm/Dots.h"

using namespace tercet;

//===----------------------------------------------------------------------===//
// bf16
//===----------------------------------------------------------------------===//

namespace {

/// Columns that share a vector of x.
constexpr int64_t kSharedColumns = 4;

/// A column: chains over k.
template <int lane, int numTokens>
[[gnu::always_inline]] inline void addColumn(uint32x4_t word,
                                             const float32x4_t (&x)[numTokens],
                                             float32x4_t (&chains)[numTokens]) {
  float32x4_t w =
      vreinterpretq_f32_u32(lane % 2 ? vandq_u32(word, vdupq_n_u32(0xffff0000))
                                     : vshlq_n_u32(word, 16));
  for (int t = 0; t < numTokens; ++t)
    chains[t] = vfmaq_laneq_f32(chains[t], w, x[t], lane);
}

/// Some vectors of rows of a tile by some tokens.
template <int numVectors, int numTokens>
[[gnu::always_inline]] inline void runTile(const BF16Head &m, int64_t tile,
                                           int64_t token, int64_t firstRow) {
  constexpr int64_t kPairBytes = 4 * kBF16TileRows;
  const uint8_t *w =
      m.weights + tile * kPairBytes * (m.columns / 2) + 4 * firstRow;
  float32x4_t chains[numVectors][numTokens] = {};
#pragma clang loop unroll(disable)
  for (int64_t column = 0; column < m.columns;
       column += kSharedColumns, w += 2 * kPairBytes) {
    float32x4_t x[numTokens];
    for (int t = 0; t < numTokens; ++t)
      x[t] = vld1q_f32(m.x + (token + t) * m.columns + column);
    auto load = [&](int64_t pair, int v) {
      return vreinterpretq_u32_u8(vld1q_u8(w + pair * kPairBytes + 16 * v));
    };
    for (int v = 0; v < numVectors; ++v) {
      uint32x4_t word = load(0, v);
      addColumn<0>(word, x, chains[v]);
      addColumn<1>(word, x, chains[v]);
    }
    for (int v = 0; v < numVectors; ++v) {
      uint32x4_t word = load(1, v);
      addColumn<2>(word, x, chains[v]);
      addColumn<3>(word, x, chains[v]);
    }
  }
  for (int v = 0; v < numVectors; ++v)
    for (int t = 0; t < numTokens; ++t)
      vst1q_f32(m.y + (token + t) * m.rows + tile * kBF16TileRows + firstRow +
                    4 * v,
                chains[v][t]);
}

} // namespace

void tercet::runBF16GemvArm(const BF16Head &m) {
  for (int64_t tile = 0; tile < m.rows / kBF16TileRows; ++tile)
    runTile<kBF16TileRows / 4, 1>(m, tile, 0, 0);
}

void tercet::runBF16GemmArm(const BF16Head &m) {
  for (int64_t tile = 0; tile < m.rows / kBF16TileRows; ++tile)
    for (int64_t token = 0; token < m.numTokens; token += kBF16Tokens)
      for (int64_t row = 0; row < kBF16TileRows; row += 16)
        runTile<4, kBF16Tokens>(m, tile, token, row);
}

//===----------------------------------------------------------------------===//
// Codes of 8 and 6 bits
//===----------------------------------------------------------------------===//

namespace {

constexpr int64_t kGroup = 64;  ///< columns that share a scale
constexpr int64_t kRows = 16;   ///< of a tile
constexpr int64_t kScales = 32; ///< bytes in front of a group's codes
constexpr int64_t kStep = 64;   ///< bytes of a vector of 16 rows
constexpr int kDigits = 2;      ///< high and low

/// What some steps have of the codes of four rows, each 4 columns.
struct I8 {
#ifdef __ARM_FEATURE_DOTPROD
  static constexpr int kSteps = 4;
#else
  static constexpr int kSteps = 1;
#endif
  static constexpr int64_t kBytes = kSteps * kStep;
#ifdef __ARM_FEATURE_MATMUL_INT8
  static constexpr int32_t kZero = 128;
#else
  static constexpr int32_t kZero = 0; ///< signed bytes
#endif
  /// Vectors of rows at a time.
  static constexpr int getParts(int numTokens) { return kParts; }

  [[gnu::always_inline]] static void load(const uint8_t *w,
                                          uint8x16_t (&codes)[kSteps]) {
    for (int step = 0; step < kSteps; ++step) {
      codes[step] = vld1q_u8(w + kStep * step);
#ifndef __ARM_FEATURE_MATMUL_INT8
      codes[step] = veorq_u8(codes[step], vdupq_n_u8(128));
#endif
    }
  }
};

struct Q6 {
  static constexpr int kSteps = 4;
  static constexpr int64_t kBytes = 3 * kStep;
  static constexpr int32_t kZero = 32;
#ifdef __ARM_FEATURE_DOTPROD
  static constexpr int getParts(int numTokens) {
    return numTokens > 1 ? 2 : kParts;
  }
#else
  static constexpr int getParts(int numTokens) { return 2; }
#endif

  [[gnu::always_inline]] static void load(const uint8_t *w,
                                          uint8x16_t (&codes)[4]) {
    uint8x16_t a = vld1q_u8(w), b = vld1q_u8(w + kStep),
               upper = vld1q_u8(w + 2 * kStep), mask = vdupq_n_u8(63);
    codes[0] = vandq_u8(vsliq_n_u8(a, upper, 4), mask);
    codes[1] = vandq_u8(vsriq_n_u8(vshlq_n_u8(upper, 2), a, 4), mask);
    codes[2] = vandq_u8(vbslq_u8(vdupq_n_u8(15), b, upper), mask);
    codes[3] = vsriq_n_u8(vshrq_n_u8(upper, 2), b, 4);
  }
};

#ifdef __ARM_FEATURE_DOTPROD

/// Sums of four rows, for each token and digit.
template <int numTokens> using Sums = int32x4_t[numTokens][kDigits];

template <int numTokens>
[[gnu::always_inline]] inline void
addSteps(const uint8x16_t (&codes)[4], const int8x16_t (&q)[numTokens][kDigits],
         Sums<numTokens> &sums) {
  for (int t = 0; t < numTokens; ++t)
    for (int digit = 0; digit < kDigits; ++digit) {
      int32x4_t &sum = sums[t][digit];
      sum = dot<0>(sum, codes[0], q[t][digit]);
      sum = dot<1>(sum, codes[1], q[t][digit]);
      sum = dot<2>(sum, codes[2], q[t][digit]);
      sum = dot<3>(sum, codes[3], q[t][digit]);
    }
}

/// Of four rows: 256 times the first digit's, and the second's.
template <typename Format, int numParts, int numTokens>
[[gnu::always_inline]] inline void
sumGroup(const CodesHead &m, const uint8_t *w, int64_t token, int64_t column,
         int32x4_t (*totals)[numTokens]) {
  Sums<numTokens> sums[numParts] = {};
#pragma clang loop unroll(disable)
  for (int64_t first = 0; first < kGroup; first += 16, w += Format::kBytes) {
    int8x16_t q[numTokens][kDigits];
    for (int t = 0; t < numTokens; ++t) {
      int64_t place = (token + t) * m.columns + column + first;
      q[t][0] = vld1q_s8(m.high + place);
      q[t][1] = vld1q_s8(m.low + place);
    }
    for (int part = 0; part < numParts; ++part) {
      uint8x16_t codes[4];
      Format::load(w + 16 * part, codes);
      addSteps<numTokens>(codes, q, sums[part]);
    }
  }
  for (int part = 0; part < numParts; ++part)
    for (int t = 0; t < numTokens; ++t)
      totals[part][t] =
          vaddq_s32(vshlq_n_s32(sums[part][t][0], 8), sums[part][t][1]);
}

#else

/// Of four rows: sums of two of them, twice.
struct Sums {
  int32x4_t low = {}, high = {};
};

/// Products of 16 bits, of which as many as there are steps fit.
template <int numSteps>
[[gnu::always_inline]] inline void addSteps(const uint8x16_t (&codes)[numSteps],
                                            const int8x16_t (&q)[numSteps],
                                            Sums &sums) {
  int8x16_t c = vreinterpretq_s8_u8(codes[0]);
  int16x8_t low = vmull_s8(vget_low_s8(c), vget_low_s8(q[0])),
            high = vmull_high_s8(c, q[0]);
  for (int step = 1; step < numSteps; ++step) {
    c = vreinterpretq_s8_u8(codes[step]);
    low = vmlal_s8(low, vget_low_s8(c), vget_low_s8(q[step]));
    high = vmlal_high_s8(high, c, q[step]);
  }
  sums.low = vpadalq_s16(sums.low, low);
  sums.high = vpadalq_s16(sums.high, high);
}

template <typename Format, int numParts, int numTokens>
[[gnu::always_inline]] inline void
sumGroup(const CodesHead &m, const uint8_t *w, int64_t token, int64_t column,
         int32x4_t (*totals)[numTokens]) {
  Sums sums[numParts][numTokens][kDigits];
#pragma clang loop unroll(disable)
  for (int64_t first = 0; first < kGroup;
       first += 4 * Format::kSteps, w += Format::kBytes) {
    int8x16_t q[numTokens][kDigits][Format::kSteps];
    for (int t = 0; t < numTokens; ++t)
      for (int step = 0; step < Format::kSteps; ++step) {
        int64_t place = (token + t) * m.columns + column + first + 4 * step;
        q[t][0][step] = broadcastQ(m.high + place);
        q[t][1][step] = broadcastQ(m.low + place);
      }
    for (int part = 0; part < numParts; ++part) {
      uint8x16_t codes[Format::kSteps];
      Format::load(w + 16 * part, codes);
      for (int t = 0; t < numTokens; ++t)
        for (int digit = 0; digit < kDigits; ++digit)
          addSteps(codes, q[t][digit], sums[part][t][digit]);
    }
  }
  for (int part = 0; part < numParts; ++part)
    for (int t = 0; t < numTokens; ++t) {
      auto sumOf = [&](int digit) {
        Sums &s = sums[part][t][digit];
        return vpaddq_s32(s.low, s.high);
      };
      totals[part][t] = vaddq_s32(vshlq_n_s32(sumOf(0), 8), sumOf(1));
    }
}

#endif

template <typename Format, int numTokens>
[[gnu::always_inline]] inline void runTile(const CodesHead &m, int64_t tile,
                                           int64_t token) {
  int64_t numGroups = m.columns / kGroup;
  constexpr int64_t kGroupBytes =
      kScales + kGroup / (4 * Format::kSteps) * Format::kBytes;
  float32x4_t chains[kParts][numTokens] = {};
#pragma clang loop unroll(disable)
  for (int64_t group = 0; group < numGroups; ++group) {
    const uint8_t *w = m.weights + (tile * numGroups + group) * kGroupBytes;
    int32x4_t totals[kParts][numTokens];
    constexpr int numParts = Format::getParts(numTokens);
    for (int part = 0; part < kParts; part += numParts)
      sumGroup<Format, numParts>(m, w + kScales + 16 * part, token,
                                 group * kGroup, totals + part);
    for (int part = 0; part < kParts; ++part) {
      float32x4_t scales = vreinterpretq_f32_u32(
          vshll_n_u16(vreinterpret_u16_u8(vld1_u8(w + 8 * part)), 16));
      for (int t = 0; t < numTokens; ++t) {
        int32x4_t exact =
            vsubq_s32(totals[part][t],
                      vdupq_n_s32(Format::kZero *
                                  m.sums[(token + t) * numGroups + group]));
        chains[part][t] =
            vfmaq_f32(chains[part][t], vcvtq_f32_s32(exact), scales);
      }
    }
  }
  for (int part = 0; part < kParts; ++part)
    for (int t = 0; t < numTokens; ++t)
      vst1q_f32(m.y + (token + t) * m.rows + tile * kRows + 4 * part,
                vmulq_n_f32(chains[part][t], m.scale[token + t]));
}

template <typename Format, int numTokens>
[[gnu::always_inline]] inline void runCodes(const CodesHead &m) {
  for (int64_t tile = 0; tile < m.rows / kRows; ++tile)
    for (int64_t token = 0; token < m.numTokens; token += numTokens)
      runTile<Format, numTokens>(m, tile, token);
}

} // namespace

void tercet::runI8GemvArm(const CodesHead &m) { runCodes<I8, 1>(m); }
void tercet::runI8GemmArm(const CodesHead &m) { runCodes<I8, kCodeTokens>(m); }
void tercet::runQ6GemvArm(const CodesHead &m) { runCodes<Q6, 1>(m); }
void tercet::runQ6GemmArm(const CodesHead &m) { runCodes<Q6, kCodeTokens>(m); }
