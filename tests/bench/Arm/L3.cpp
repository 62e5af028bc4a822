// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// l3 (docs/packings.md): no products but lookups, which need neither i8mm nor
// dotprod. Tables are the low, then the high bytes of 16 sums.

#include "tests/bench/Arm/Dots.h"

#include <vector>

using namespace tercet;

namespace {

constexpr int kPlanes = 2;
constexpr int kCodes = 3; ///< in a word, of three columns each
constexpr int64_t kCellColumns = 9, kTableBytes = 32;
constexpr int64_t kChain = 28; ///< cells whose sums fit 16 bits

/// Three columns' sums with the trits of 0 .. 13.
void buildTable(const int8_t *q, int64_t count, uint8_t *table) {
  for (int v = 0; v <= 13; ++v) {
    int rest = v, sum = 0;
    for (int64_t i = 0; i < count; ++i) {
      int trit = (rest + 1) % 3 - 1;
      sum += trit * q[i];
      rest = (rest - trit) / 3;
    }
    table[v] = uint8_t(sum);
    table[16 + v] = uint8_t(sum >> 8);
  }
}

std::vector<uint8_t> buildTables(const TernaryMatmul &m, int64_t numCells) {
  std::vector<uint8_t> tables(m.numTokens * numCells * kCodes * kTableBytes);
  uint8_t *table = tables.data();
  for (int64_t token = 0; token < m.numTokens; ++token)
    for (int64_t column = 0; column < numCells * kCellColumns;
         column += 3, table += kTableBytes)
      buildTable(m.q + token * m.columns + column,
                 column < m.columns ? std::min<int64_t>(3, m.columns - column)
                                    : 0,
                 table);
  return tables;
}

struct Code {
  uint8x16_t magnitude;
  int16x8_t sign;
};

template <int i> [[gnu::always_inline]] inline Code getCode(uint16x8_t words) {
  uint16x8_t low = words;
  if constexpr (i > 0)
    low = vshrq_n_u16(words, 5 * i);
  return {
      vreinterpretq_u8_u16(vandq_u16(low, vdupq_n_u16(15))),
      vshrq_n_s16(vreinterpretq_s16_u16(vshlq_n_u16(words, 11 - 5 * i)), 15)};
}

/// The table's sum, or of a negative code one less than minus the sum.
[[gnu::always_inline]] inline int16x8_t lookUp(uint8x16_t low, uint8x16_t high,
                                               const Code &code) {
  uint16x8_t entry =
      vsliq_n_u16(vreinterpretq_u16_u8(vqtbl1q_u8(low, code.magnitude)),
                  vreinterpretq_u16_u8(vqtbl1q_u8(high, code.magnitude)), 8);
  return veorq_s16(vreinterpretq_s16_u16(entry), code.sign);
}

template <int i, int numParts, int numTokens>
[[gnu::always_inline]] inline void
addCodes(const uint16x8_t (&words)[numParts], const uint8_t *tables,
         int64_t tokenBytes, int16x8_t (&sums)[numParts][numTokens],
         int16x8_t (&negatives)[numParts]) {
  Code codes[numParts];
  for (int part = 0; part < numParts; ++part) {
    codes[part] = getCode<i>(words[part]);
    negatives[part] = vaddq_s16(negatives[part], codes[part].sign);
  }
  for (int t = 0; t < numTokens; ++t) {
    const uint8_t *table = tables + t * tokenBytes + i * kTableBytes;
    uint8x16_t low = vld1q_u8(table), high = vld1q_u8(table + 16);
    for (int part = 0; part < numParts; ++part)
      sums[part][t] = vaddq_s16(sums[part][t], lookUp(low, high, codes[part]));
  }
}

/// Some parts by some tokens.
template <int numParts, int numTokens>
[[gnu::always_inline]] inline void runTile(const TernaryMatmul &m,
                                           const uint8_t *tables, int64_t tile,
                                           int64_t token, int firstPart) {
  int64_t numCells = (m.columns + kCellColumns - 1) / kCellColumns;
  int64_t tokenBytes = numCells * kCodes * kTableBytes;
  const uint8_t *w = m.weights + tile * numCells * 64 + 16 * firstPart;
  const uint8_t *table = tables + token * tokenBytes;
  int32x4_t totals[numParts][numTokens][kPlanes] = {};
#pragma clang loop unroll(disable)
  for (int64_t first = 0; first < numCells; first += kChain) {
    int16x8_t sums[numParts][numTokens] = {}, negatives[numParts] = {};
#pragma clang loop unroll(disable)
    for (int64_t cell = first; cell < std::min(first + kChain, numCells);
         ++cell, w += 64, table += kCodes * kTableBytes) {
      uint16x8_t words[numParts];
      for (int part = 0; part < numParts; ++part)
        words[part] = vreinterpretq_u16_u8(vld1q_u8(w + 16 * part));
      addCodes<0>(words, table, tokenBytes, sums, negatives);
      addCodes<1>(words, table, tokenBytes, sums, negatives);
      addCodes<2>(words, table, tokenBytes, sums, negatives);
    }
    for (int part = 0; part < numParts; ++part)
      for (int t = 0; t < numTokens; ++t) {
        int32x4_t both =
            vreinterpretq_s32_s16(vsubq_s16(sums[part][t], negatives[part]));
        int32x4_t(&total)[kPlanes] = totals[part][t];
        total[0] = vaddq_s32(total[0], vshrq_n_s32(vshlq_n_s32(both, 16), 16));
        total[1] = vsraq_n_s32(total[1], both, 16);
      }
  }
  for (int part = 0; part < numParts; ++part)
    for (int t = 0; t < numTokens; ++t)
      for (int p = 0; p < kPlanes; ++p)
        storeExact(m, token + t, tile * kPlanes + p, firstPart + part,
                   totals[part][t][p]);
}

} // namespace

void tercet::runL3GemvArm(const TernaryMatmul &m) {
  int64_t numCells = (m.columns + kCellColumns - 1) / kCellColumns;
  std::vector<uint8_t> tables = buildTables(m, numCells);
  for (int64_t tile = 0; tile < m.rows / 32; ++tile)
    for (int part = 0; part < kParts; part += 2)
      runTile<2, 1>(m, tables.data(), tile, 0, part);
}

void tercet::runL3GemmArm(const TernaryMatmul &m) {
  int64_t numCells = (m.columns + kCellColumns - 1) / kCellColumns;
  std::vector<uint8_t> tables = buildTables(m, numCells);
  for (int64_t tile = 0; tile < m.rows / 32; ++tile)
    for (int64_t token = 0; token < m.numTokens; token += kL3Tokens)
      for (int part = 0; part < kParts; part += 2)
        runTile<2, kL3Tokens>(m, tables.data(), tile, token, part);
}
