// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The products of attention with keys and values of f32, as docs/packings.md
// has them in the cache and docs/numerics.md their chains.

#include "tests/bench/Arm/Kernels.h"

#include <arm_neon.h>

using namespace tercet;

namespace {

constexpr int kVectors = 4; ///< of 16 keys, or of 16 values of d
constexpr int64_t kKeysOfBlock = 64;

/// Element `lane` of what is multiplied with 16 keys of each.
template <int lane, int numHeads>
[[gnu::always_inline]] inline void
addKeys(const float *keys, const float32x4_t (&q)[numHeads],
        float32x4_t (&chains)[numHeads][kVectors]) {
  for (int v = 0; v < kVectors; ++v) {
    float32x4_t key = vld1q_f32(keys + lane * kKeysOfBlock + 4 * v);
    for (int h = 0; h < numHeads; ++h)
      chains[h][v] = vfmaq_laneq_f32(chains[h][v], key, q[h], lane);
  }
}

/// The key `lane` of those whose weights are there.
template <int lane, int numHeads, int numVectors>
[[gnu::always_inline]] inline void
addValues(const float *values, const float32x4_t (&weights)[numHeads],
          float32x4_t (&chains)[numHeads][numVectors]) {
  for (int v = 0; v < numVectors; ++v) {
    float32x4_t value = vld1q_f32(values + 4 * v);
    for (int h = 0; h < numHeads; ++h)
      chains[h][v] = vfmaq_laneq_f32(chains[h][v], value, weights[h], lane);
  }
}

} // namespace

void tercet::runScoresArm(const Attention &m) {
  for (int64_t first = 0; first < m.numKeys; first += 16) {
    const float *keys = m.keys +
                        first / kKeysOfBlock * kKeysOfBlock * m.headDim +
                        first % kKeysOfBlock;
    float32x4_t chains[kHeads][kVectors] = {};
#pragma clang loop unroll(disable)
    for (int64_t d = 0; d < m.headDim; d += 4, keys += 4 * kKeysOfBlock) {
      float32x4_t q[kHeads];
      for (int h = 0; h < kHeads; ++h)
        q[h] = vld1q_f32(m.q + h * m.headDim + d);
      addKeys<0>(keys, q, chains);
      addKeys<1>(keys, q, chains);
      addKeys<2>(keys, q, chains);
      addKeys<3>(keys, q, chains);
    }
    for (int h = 0; h < kHeads; ++h)
      for (int v = 0; v < kVectors; ++v)
        vst1q_f32(m.scores + h * m.numKeys + first + 4 * v, chains[h][v]);
  }
}

void tercet::runValuesArm(const Attention &m) {
  constexpr int kPairOfHeads = 2, kOutVectors = 2 * kVectors;
  for (int64_t head = 0; head < kHeads; head += kPairOfHeads)
    for (int64_t d = 0; d < m.headDim; d += 4 * kOutVectors) {
      const float *values = m.values + d;
      float32x4_t chains[kPairOfHeads][kOutVectors] = {};
#pragma clang loop unroll(disable)
      for (int64_t key = 0; key < m.numKeys; key += 4) {
        float32x4_t weights[kPairOfHeads];
        for (int h = 0; h < kPairOfHeads; ++h)
          weights[h] = vld1q_f32(m.scores + (head + h) * m.numKeys + key);
        addValues<0>(values, weights, chains);
        addValues<1>(values + m.headDim, weights, chains);
        addValues<2>(values + 2 * m.headDim, weights, chains);
        addValues<3>(values + 3 * m.headDim, weights, chains);
        values += 4 * m.headDim;
      }
      for (int h = 0; h < kPairOfHeads; ++h)
        for (int v = 0; v < kOutVectors; ++v)
          vst1q_f32(m.outs + (head + h) * m.headDim + d + 4 * v, chains[h][v]);
    }
}
