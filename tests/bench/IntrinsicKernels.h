// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The ternary kernels written by hand, for the compiler to be measured against:
// what packed_matmul computes, one thread, whole tiles.

#ifndef TERCET_TESTS_BENCH_INTRINSICKERNELS_H
#define TERCET_TESTS_BENCH_INTRINSICKERNELS_H

#include <cstdint>

namespace tercet {

/// y[n, m] = (sum_k q[n, k] w[m, k]) * (scales[m / 16] / scale[n]), with w
/// packed as docs/packings.md says, sum[n] = sum_k q[n, k], and columns a
/// multiple of 16.
struct TernaryMatmul {
  int64_t rows, columns, numTokens;
  const int8_t *q;
  const float *scale;
  const int32_t *sum;
  const uint8_t *weights;
  const float *scales;
  float *y;
};

/// One token; AVX512-VNNI.
void runI2Gemv(const TernaryMatmul &matmul);
/// Tokens in blocks of six, of which there must be whole ones; AVX512-VNNI.
void runI2Gemm(const TernaryMatmul &matmul);
/// One token; AVX512-VNNI and VBMI.
void runT5Gemv(const TernaryMatmul &matmul);
/// One token; AVX2.
void runI2GemvAVX2(const TernaryMatmul &matmul);
/// One token; 64-bit Arm, whose columns are a multiple of 256.
void runI2GemvArm(const TernaryMatmul &matmul);
/// Tokens in blocks of six with i8mm, else four, of which there must be whole
/// ones; the same.
void runI2GemmArm(const TernaryMatmul &matmul);

} // namespace tercet

#endif // TERCET_TESTS_BENCH_INTRINSICKERNELS_H
