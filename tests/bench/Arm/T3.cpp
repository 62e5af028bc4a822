// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// t3 (docs/packings.md): a nibble and a sign are an index into a table of 32
// bytes, of the fields of three planes.

#include "tests/bench/Arm/Dots.h"

using namespace tercet;

namespace {

constexpr int kPlanes = 3;
constexpr int64_t kCellColumns = 32, kCellBytes = 320;
constexpr int kVectors = 4; ///< of nibbles in a cell

/// Digits of |v| = 0 .. 13, then of -|v|.
struct Table {
  uint8_t bytes[32] = {};
  constexpr Table() {
    for (int w2 = -1; w2 <= 1; ++w2)
      for (int w1 = -1; w1 <= 1; ++w1)
        for (int w0 = -1; w0 <= 1; ++w0) {
          int v = w0 + 3 * w1 + 9 * w2;
          int fields = (w0 + 1) | (w1 + 1) << 2 | (w2 + 1) << 4;
          if (v >= 0)
            bytes[v] = fields;
          if (v <= 0)
            bytes[16 - v] = fields;
        }
  }
};
constexpr Table kTable;

struct Fields {
  uint8x16_t first, second; ///< of two steps
};

/// Signs are in bits 7 and 3.
[[gnu::always_inline]] inline Fields
unpack(uint8x16_t nibbles, uint8x16_t signs, uint8x16x2_t table) {
  uint8x16_t doubled = vaddq_u8(signs, signs);
  uint8x16_t second = vsriq_n_u8(vandq_u8(doubled, vdupq_n_u8(16)), nibbles, 4);
  uint8x16_t first = vsliq_n_u8(nibbles, vshrq_n_u8(signs, 7), 4);
  return {vqtbl2q_u8(table, first), vqtbl2q_u8(table, second)};
}

/// Each with those above it, except where products have 16 bits.
[[gnu::always_inline]] inline void getPlanes(uint8x16_t fields,
                                             uint8x16_t (&codes)[kPlanes]) {
  codes[0] = fields;
  codes[1] = vshrq_n_u8(fields, 2);
  codes[2] = vshrq_n_u8(fields, 4);
#ifndef __ARM_FEATURE_DOTPROD
  codes[0] = vandq_u8(codes[0], vdupq_n_u8(3));
  codes[1] = vandq_u8(codes[1], vdupq_n_u8(3));
#endif
}

[[gnu::always_inline]] inline void storeSums(const TernaryMatmul &m,
                                             int64_t token, int64_t tile,
                                             int part,
                                             int32x4_t (&sums)[kPlanes]) {
#ifdef __ARM_FEATURE_DOTPROD
  for (int p = 0; p + 1 < kPlanes; ++p)
    sums[p] = vsubq_s32(sums[p], vshlq_n_s32(sums[p + 1], 2));
#endif
  for (int p = 0; p < kPlanes; ++p)
    storeRows(m, token, tile * kPlanes + p, part, sums[p]);
}

} // namespace

#ifdef __ARM_FEATURE_DOTPROD

namespace {

template <int lane, int numTokens>
[[gnu::always_inline]] inline void
addStep(uint8x16_t fields, const int8x8_t (&q)[numTokens],
        int32x4_t (&sums)[numTokens][kPlanes]) {
  uint8x16_t codes[kPlanes];
  getPlanes(fields, codes);
  for (int t = 0; t < numTokens; ++t)
    for (int p = 0; p < kPlanes; ++p)
      sums[t][p] = dot<lane>(sums[t][p], codes[p], q[t]);
}

/// Some parts by some tokens.
template <int numParts, int numTokens>
[[gnu::always_inline]] inline void runTile(const TernaryMatmul &m, int64_t tile,
                                           int64_t token, int firstPart) {
  int64_t numCells = m.columns / kCellColumns;
  const uint8_t *w = m.weights + tile * numCells * kCellBytes + 16 * firstPart;
  uint8x16x2_t table = vld1q_u8_x2(kTable.bytes);
  int32x4_t sums[numParts][numTokens][kPlanes] = {};
#pragma clang loop unroll(disable)
  for (int64_t cell = 0; cell < numCells; ++cell, w += kCellBytes) {
    uint8x16_t signs[numParts];
    for (int part = 0; part < numParts; ++part)
      signs[part] = vld1q_u8(w + 16 * part);
#pragma clang loop unroll(disable)
    for (int64_t vector = 0; vector < kVectors; ++vector) {
      int8x8_t q[numTokens];
      for (int t = 0; t < numTokens; ++t)
        q[t] = vld1_s8(m.q + (token + t) * m.columns + cell * kCellColumns +
                       8 * vector);
      for (int part = 0; part < numParts; ++part) {
        Fields fields = unpack(vld1q_u8(w + 64 * (1 + vector) + 16 * part),
                               signs[part], table);
        addStep<0>(fields.first, q, sums[part]);
        addStep<1>(fields.second, q, sums[part]);
        signs[part] = vaddq_u8(signs[part], signs[part]);
      }
    }
  }
  for (int part = 0; part < numParts; ++part)
    for (int t = 0; t < numTokens; ++t)
      storeSums(m, token + t, tile, firstPart + part, sums[part][t]);
}

} // namespace

void tercet::runT3GemvArm(const TernaryMatmul &m) {
  for (int64_t tile = 0; tile < m.rows / 48; ++tile)
    runTile<kParts, 1>(m, tile, 0, 0);
}

void tercet::runT3GemmArm(const TernaryMatmul &m) {
  for (int64_t tile = 0; tile < m.rows / 48; ++tile)
    for (int64_t token = 0; token < m.numTokens; token += kT3Tokens)
      for (int part = 0; part < kParts; ++part)
        runTile<1, kT3Tokens>(m, tile, token, part);
}

#else

namespace {

/// Some parts by some tokens.
template <int numParts, int numTokens>
[[gnu::always_inline]] inline void runTile(const TernaryMatmul &m, int64_t tile,
                                           int64_t token, int firstPart) {
  constexpr int64_t kChain = 8; ///< cells whose dot products fit 16 bits
  int64_t numCells = m.columns / kCellColumns;
  const uint8_t *w = m.weights + tile * numCells * kCellBytes + 16 * firstPart;
  const int8_t *q = m.q + token * m.columns;
  uint8x16x2_t table = vld1q_u8_x2(kTable.bytes);
  int32x4_t sums[numParts][numTokens][kPlanes] = {};
#pragma clang loop unroll(disable)
  for (int64_t first = 0; first < numCells; first += kChain) {
    int16x8_t pairs[numParts][numTokens][kPlanes] = {};
#pragma clang loop unroll(disable)
    for (int64_t cell = first; cell < first + kChain; ++cell, w += kCellBytes) {
      uint8x16_t signs[numParts];
      for (int part = 0; part < numParts; ++part)
        signs[part] = separate(vld1q_u8(w + 16 * part));
#pragma clang loop unroll(disable)
      for (int64_t vector = 0; vector < kVectors; ++vector, q += 8) {
        Fields fields[numParts];
        for (int part = 0; part < numParts; ++part) {
          fields[part] =
              unpack(separate(vld1q_u8(w + 64 * (1 + vector) + 16 * part)),
                     signs[part], table);
          signs[part] = vaddq_u8(signs[part], signs[part]);
        }
        for (int step = 0; step < 2; ++step) {
          uint8x16_t codes[numParts][kPlanes];
          for (int part = 0; part < numParts; ++part)
            getPlanes(step ? fields[part].second : fields[part].first,
                      codes[part]);
          for (int t = 0; t < numTokens; ++t) {
            int8x16_t broadcast =
                separateQ(broadcastQ(q + t * m.columns + 4 * step));
            for (int part = 0; part < numParts; ++part)
              for (int p = 0; p < kPlanes; ++p)
                pairs[part][t][p] =
                    addPairs(pairs[part][t][p], codes[part][p], broadcast);
          }
        }
      }
    }
    for (int part = 0; part < numParts; ++part)
      for (int t = 0; t < numTokens; ++t)
        for (int p = 0; p < kPlanes; ++p)
          sums[part][t][p] = vpadalq_s16(sums[part][t][p], pairs[part][t][p]);
  }
  for (int part = 0; part < numParts; ++part)
    for (int t = 0; t < numTokens; ++t)
      storeSums(m, token + t, tile, firstPart + part, sums[part][t]);
}

} // namespace

void tercet::runT3GemvArm(const TernaryMatmul &m) {
  for (int64_t tile = 0; tile < m.rows / 48; ++tile)
    for (int part = 0; part < kParts; part += 2)
      runTile<2, 1>(m, tile, 0, part);
}

void tercet::runT3GemmArm(const TernaryMatmul &m) {
  for (int64_t tile = 0; tile < m.rows / 48; ++tile)
    for (int64_t token = 0; token < m.numTokens; token += kT3Tokens)
      for (int part = 0; part < kParts; ++part)
        runTile<1, kT3Tokens>(m, tile, token, part);
}

#endif
