// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Linked with IntrinsicKernelsArm.cpp and run by an emulator: whether the
// kernels by hand compute what they say. Ends with 0 if so.

#include "tests/bench/IntrinsicKernels.h"

#include <cstdio>
#include <vector>

using namespace tercet;

namespace {

constexpr int64_t kRows = 128, kColumns = 512;

int32_t getTrit(int64_t row, int64_t column) {
  return int32_t(((row * kColumns + column) * 2654435761u >> 7) % 3) - 1;
}

/// docs/packings.md, i2.
std::vector<uint8_t> packTrits() {
  std::vector<uint8_t> packed(kRows * kColumns / 4);
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t column = 0; column < kColumns; ++column)
      packed[row / 64 * (kColumns / 4) * 64 + column / 4 * 64 + 4 * (row % 16) +
             column % 4] |= (getTrit(row, column) + 1) << (2 * (row % 64 / 16));
  return packed;
}

bool isRight(int64_t numTokens, void (*run)(const TernaryMatmul &)) {
  std::vector<uint8_t> weights = packTrits();
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
        std::fprintf(stderr, "token %d, row %d differ\n", int(n), int(row));
        return false;
      }
    }
  return true;
}

} // namespace

int main() {
  // Whole blocks of four and of six tokens.
  return isRight(1, runI2GemvArm) && isRight(12, runI2GemmArm) ? 0 : 1;
}
