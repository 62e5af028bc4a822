// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Linked with the kernels by hand and run by an emulator: whether they compute
// what they say. Ends with 0 if so.

#include "tests/bench/Arm/Kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

using namespace tercet;

namespace {

constexpr int64_t kRows = 192, kColumns = 512;

int32_t getTrit(int64_t row, int64_t column) {
  return int32_t(((row * kColumns + column) * 2654435761u >> 7) % 3) - 1;
}

// Each as docs/packings.md says.

std::vector<uint8_t> packI2() {
  std::vector<uint8_t> packed(kRows * kColumns / 4);
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t column = 0; column < kColumns; ++column)
      packed[row / 64 * (kColumns / 4) * 64 + column / 4 * 64 + 4 * (row % 16) +
             column % 4] |= (getTrit(row, column) + 1) << (2 * (row % 64 / 16));
  return packed;
}

std::vector<uint8_t> packT3() {
  std::vector<uint8_t> packed(kRows / 48 * (kColumns / 32) * 320);
  for (int64_t row = 0; row < kRows; row = row % 16 == 15 ? row + 33 : row + 1)
    for (int64_t column = 0; column < kColumns; ++column) {
      int32_t v = getTrit(row, column) + 3 * getTrit(row + 16, column) +
                  9 * getTrit(row + 32, column);
      uint8_t *cell = &packed[(row / 48 * (kColumns / 32) + column / 32) * 320];
      int64_t step = column % 32 / 4, byte = 4 * (row % 16) + column % 4;
      cell[64 * (1 + step / 2) + byte] |= std::abs(v) << (4 * (step % 2));
      cell[byte] |= (v < 0) << (7 - step / 2 - 4 * (step % 2));
    }
  return packed;
}

std::vector<uint8_t> packL3() {
  int64_t numCells = (kColumns + 8) / 9;
  std::vector<uint8_t> packed(kRows / 32 * numCells * 64);
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t column = 0; column < kColumns; column += 3) {
      int32_t v = 0, weight = 1;
      for (int64_t i = column; i < std::min(column + 3, kColumns);
           ++i, weight *= 3)
        v += weight * getTrit(row, i);
      uint8_t *word = &packed[(row / 32 * numCells + column / 9) * 64 +
                              4 * (row % 16) + 2 * (row % 32 / 16)];
      int code = (std::abs(v) | (v < 0) << 4) << (5 * (column % 9 / 3));
      word[0] |= code;
      word[1] |= code >> 8;
    }
  return packed;
}

bool isRight(const char *name, const std::vector<uint8_t> &weights,
             int64_t numTokens, void (*run)(const TernaryMatmul &)) {
  std::vector<int8_t> q(numTokens * kColumns);
  std::vector<int32_t> sum(numTokens);
  std::vector<float> scale(numTokens), scales(kRows / 16);
  for (int64_t n = 0; n < numTokens; ++n) {
    scale[n] = float(n + 3);
    for (int64_t k = 0; k < kColumns; ++k)
      sum[n] += q[n * kColumns + k] =
          int8_t((n * kColumns + k) * 2654435761u >> 9);
  }
  for (size_t group = 0; group < scales.size(); ++group)
    scales[group] = float(group % 7 + 1) / 8;
  std::vector<float> y(numTokens * kRows);
  run({kRows, kColumns, numTokens, q.data(), scale.data(), sum.data(),
       weights.data(), scales.data(), y.data()});
  for (int64_t n = 0; n < numTokens; ++n)
    for (int64_t row = 0; row < kRows; ++row) {
      int32_t exact = 0;
      for (int64_t k = 0; k < kColumns; ++k)
        exact += getTrit(row, k) * q[n * kColumns + k];
      if (y[n * kRows + row] != float(exact) * (scales[row / 16] / scale[n])) {
        std::fprintf(stderr, "%s: token %d, row %d differ\n", name, int(n),
                     int(row));
        return false;
      }
    }
  return true;
}

/// Of any sequence of numbers.
uint32_t hash(int64_t number) { return uint32_t(number) * 2654435761u >> 8; }

bool isEqual(const char *name, const std::vector<float> &y,
             const std::vector<float> &expected) {
  if (std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)) == 0)
    return true;
  std::fprintf(stderr, "%s differs\n", name);
  return false;
}

uint32_t getBF16(int64_t row, int64_t column) {
  return (hash(row * kColumns + column) & 0x807f) | 0x3f80;
}

bool isRight(const char *name, int64_t numTokens,
             void (*run)(const BF16Head &)) {
  std::vector<uint8_t> weights(kRows * kColumns * 2);
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t column = 0; column < kColumns; ++column) {
      int64_t place = row / kBF16TileRows * kBF16TileRows * kColumns * 2 +
                      column / 2 * kBF16TileRows * 4 + row % kBF16TileRows * 4 +
                      column % 2 * 2;
      weights[place] = getBF16(row, column);
      weights[place + 1] = getBF16(row, column) >> 8;
    }
  std::vector<float> x(numTokens * kColumns), y(numTokens * kRows),
      expected(y.size());
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = float(hash(i)) / 9999 - 800;
  for (int64_t n = 0; n < numTokens; ++n)
    for (int64_t row = 0; row < kRows; ++row) {
      float chain = 0;
      for (int64_t k = 0; k < kColumns; ++k) {
        uint32_t bits = getBF16(row, k) << 16;
        float w;
        std::memcpy(&w, &bits, sizeof w);
        chain = std::fma(w, x[n * kColumns + k], chain);
      }
      expected[n * kRows + row] = chain;
    }
  run({kRows, kColumns, numTokens, x.data(), weights.data(), y.data()});
  return isEqual(name, y, expected);
}

/// i8, or q6.
bool isRight(const char *name, int bits, int64_t numTokens,
             void (*run)(const CodesHead &)) {
  constexpr int64_t kGroups = kColumns / 64;
  int64_t groupBytes = 32 + 64 * 16 * bits / 8;
  std::vector<uint8_t> weights(kRows / 16 * kGroups * groupBytes);
  auto getCode = [&](int64_t row, int64_t column) {
    return hash(row * kColumns + column) & ((1 << bits) - 1);
  };
  auto getScale = [&](int64_t row, int64_t group) {
    return getBF16(row, group + 7);
  };
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t column = 0; column < kColumns; ++column) {
      uint8_t *group =
          &weights[(row / 16 * kGroups + column / 64) * groupBytes];
      group[2 * (row % 16)] = getScale(row, column / 64);
      group[2 * (row % 16) + 1] = getScale(row, column / 64) >> 8;
      uint8_t *codes = group + 32 + 4 * (row % 16) + column % 4;
      uint32_t code = getCode(row, column);
      if (bits == 8) {
        codes[column % 64 / 4 * 64] = code;
        continue;
      }
      codes += column % 64 / 16 * 192;
      int64_t plane = column % 16 / 4;
      codes[plane / 2 * 64] |= (code & 15) << (4 * (plane % 2));
      codes[128] |= code >> 4 << (2 * plane);
    }
  std::vector<int8_t> high(numTokens * kColumns), low(high.size());
  std::vector<float> scale(numTokens), y(numTokens * kRows), expected(y.size());
  std::vector<int32_t> sums(numTokens * kGroups);
  for (int64_t n = 0; n < numTokens; ++n) {
    scale[n] = float(n + 3) / 7;
    for (int64_t k = 0; k < kColumns; ++k) {
      int64_t i = n * kColumns + k;
      high[i] = hash(i);
      low[i] = hash(i + 1234567);
      sums[n * kGroups + k / 64] += 256 * high[i] + low[i];
    }
    for (int64_t row = 0; row < kRows; ++row) {
      float chain = 0;
      for (int64_t group = 0; group < kGroups; ++group) {
        int32_t exact = 0;
        for (int64_t k = group * 64; k < group * 64 + 64; ++k)
          exact += (int32_t(getCode(row, k)) - (1 << (bits - 1))) *
                   (256 * high[n * kColumns + k] + low[n * kColumns + k]);
        uint32_t bits = getScale(row, group) << 16;
        float factor;
        std::memcpy(&factor, &bits, sizeof factor);
        chain = std::fma(float(exact), factor, chain);
      }
      expected[n * kRows + row] = chain * scale[n];
    }
  }
  run({kRows, kColumns, numTokens, high.data(), low.data(), scale.data(),
       sums.data(), weights.data(), y.data()});
  return isEqual(name, y, expected);
}

std::vector<float> makeFloats(int64_t count, int64_t seed) {
  std::vector<float> floats(count);
  for (int64_t i = 0; i < count; ++i)
    floats[i] = float(hash(i + seed)) / 0x1p20f - 8;
  return floats;
}

bool isAttentionRight() {
  constexpr int64_t kHeadDim = 64, kKeys = 128;
  std::vector<float> q = makeFloats(kHeads * kHeadDim, 1),
                     keys = makeFloats(kKeys * kHeadDim, 2),
                     values = makeFloats(kKeys * kHeadDim, 3);
  std::vector<float> scores(kHeads * kKeys), outs(kHeads * kHeadDim),
      expectedScores(scores.size()), expectedOuts(outs.size());
  for (int64_t h = 0; h < kHeads; ++h)
    for (int64_t j = 0; j < kKeys; ++j) {
      float &chain = expectedScores[h * kKeys + j];
      for (int64_t d = 0; d < kHeadDim; ++d)
        chain = std::fma(q[h * kHeadDim + d],
                         keys[j / 64 * 64 * kHeadDim + d * 64 + j % 64], chain);
    }
  for (int64_t h = 0; h < kHeads; ++h)
    for (int64_t d = 0; d < kHeadDim; ++d) {
      float &chain = expectedOuts[h * kHeadDim + d];
      for (int64_t j = 0; j < kKeys; ++j)
        chain = std::fma(expectedScores[h * kKeys + j],
                         values[j * kHeadDim + d], chain);
    }
  Attention attention = {kHeadDim,      kKeys,         q.data(),   keys.data(),
                         values.data(), scores.data(), outs.data()};
  runScoresArm(attention);
  runValuesArm(attention);
  return isEqual("scores", scores, expectedScores) &&
         isEqual("values", outs, expectedOuts);
}

bool isRowRight() {
  std::vector<float> x = makeFloats(kColumns, 4),
                     weight = makeFloats(kColumns, 5), y(kColumns),
                     expected(kColumns);
  constexpr float kEpsilon = 1e-5f;
  float lanes[16] = {}, largest = 0;
  for (int64_t k = 0; k < kColumns; ++k) {
    lanes[k % 16] = std::fma(x[k], x[k], lanes[k % 16]);
    largest = std::max(largest, std::fabs(x[k]));
  }
  for (int width = 8; width > 0; width /= 2)
    for (int i = 0; i < width; ++i)
      lanes[i] += lanes[i + width];
  float r = 1 / std::sqrt(lanes[0] / float(kColumns) + kEpsilon);
  float scale, expectedScale = 127 / largest;
  int32_t sum, expectedSum = 0;
  std::vector<int8_t> q(kColumns), expectedQ(kColumns);
  for (int64_t k = 0; k < kColumns; ++k) {
    expected[k] = weight[k] * (x[k] * r);
    expectedSum += expectedQ[k] = int8_t(std::nearbyint(x[k] * expectedScale));
  }
  Row row = {kColumns, x.data(), weight.data(), kEpsilon,
             y.data(), q.data(), &scale,        &sum};
  runRMSNormArm(row);
  runQuantiseArm(row);
  if (q != expectedQ || scale != expectedScale || sum != expectedSum) {
    std::fprintf(stderr, "quantised activations differ\n");
    return false;
  }
  return isEqual("rms_norm", y, expected);
}

} // namespace

int main() {
  std::vector<uint8_t> i2 = packI2(), t3 = packT3(), l3 = packL3();
  return isRight("i2 GEMV", i2, 1, runI2GemvArm) &&
                 isRight("i2 GEMM", i2, 2 * kI2Tokens, runI2GemmArm) &&
                 isRight("t3 GEMV", t3, 1, runT3GemvArm) &&
                 isRight("t3 GEMM", t3, 2 * kT3Tokens, runT3GemmArm) &&
                 isRight("l3 GEMV", l3, 1, runL3GemvArm) &&
                 isRight("l3 GEMM", l3, 2 * kL3Tokens, runL3GemmArm) &&
                 isRight("bf16 GEMV", 1, runBF16GemvArm) &&
                 isRight("bf16 GEMM", 2 * kBF16Tokens, runBF16GemmArm) &&
                 isRight("i8 GEMV", 8, 1, runI8GemvArm) &&
                 isRight("i8 GEMM", 8, 2 * kCodeTokens, runI8GemmArm) &&
                 isRight("q6 GEMV", 6, 1, runQ6GemvArm) &&
                 isRight("q6 GEMM", 6, 2 * kCodeTokens, runQ6GemmArm) &&
                 isAttentionRight() && isRowRight()
             ? 0
             : 1;
}
