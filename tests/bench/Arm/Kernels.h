// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels by hand for 64-bit Arm, which test_arm_kernels.py compares with what
// the backend generates: one thread, whole tiles.

#ifndef TERCET_TESTS_BENCH_ARM_KERNELS_H
#define TERCET_TESTS_BENCH_ARM_KERNELS_H

#include "tests/bench/IntrinsicKernels.h"

namespace tercet {

/// Tokens of a GEMM's register tile, of which there must be whole ones.
#ifdef __ARM_FEATURE_MATMUL_INT8
inline constexpr int kI2Tokens = 6, kT3Tokens = 6, kCodeTokens = 2;
#elif defined(__ARM_FEATURE_DOTPROD)
inline constexpr int kI2Tokens = 4, kT3Tokens = 6, kCodeTokens = 2;
#else
inline constexpr int kI2Tokens = 4, kT3Tokens = 4, kCodeTokens = 1;
#endif
inline constexpr int kL3Tokens = 4, kBF16Tokens = 4;

/// One token, and columns a multiple of 256.
void runI2GemvArm(const TernaryMatmul &matmul);
void runI2GemmArm(const TernaryMatmul &matmul);
void runT3GemvArm(const TernaryMatmul &matmul);
void runT3GemmArm(const TernaryMatmul &matmul);
void runL3GemvArm(const TernaryMatmul &matmul);
void runL3GemmArm(const TernaryMatmul &matmul);

/// y[n, m] = chain over k of fma(w[m, k], x[n, k], .).
struct BF16Head {
  int64_t rows, columns, numTokens;
  const float *x;
  const uint8_t *weights;
  float *y;
};
inline constexpr int64_t kBF16TileRows = 64;

void runBF16GemvArm(const BF16Head &head);
void runBF16GemmArm(const BF16Head &head);

/// The same of codes less their zero, q = 256 high + low and the scales of
/// groups of 64 columns and of tokens; sums[n, group] are those of q.
struct CodesHead {
  int64_t rows, columns, numTokens;
  const int8_t *high, *low;
  const float *scale;
  const int32_t *sums;
  const uint8_t *weights;
  float *y;
};

void runI8GemvArm(const CodesHead &head);
void runI8GemmArm(const CodesHead &head);
void runQ6GemvArm(const CodesHead &head);
void runQ6GemmArm(const CodesHead &head);

/// Query heads that share a KV head.
inline constexpr int kHeads = 4;

/// scores[h, j] = chain over d of fma(q[h, d], key[j, d], .), and
/// outs[h, d] = chain over keys j of fma(scores[h, j], value[j, d], .). Keys
/// are whole blocks of 64, headDim is a multiple of 32.
struct Attention {
  int64_t headDim, numKeys;
  const float *q, *keys, *values;
  float *scores, *outs;
};

void runScoresArm(const Attention &attention);
void runValuesArm(const Attention &attention);

/// What rms_norm and quantize_activations have of a token.
struct Row {
  int64_t columns;
  const float *x, *weight;
  float epsilon;
  float *y;
  int8_t *q;
  float *scale;
  int32_t *sum;
};

void runRMSNormArm(const Row &row);
void runQuantiseArm(const Row &row);

} // namespace tercet

#endif // TERCET_TESTS_BENCH_ARM_KERNELS_H
