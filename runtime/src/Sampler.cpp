// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Sampler.h"

#include <algorithm>
#include <cmath>

using namespace tercet;

// A vocabulary has 128 thousand logits, and a decode step of a ternary model
// may take 10 ms: a scalar pass with an exp in it would be a tenth of that.
// Lanes are independent, so vectors change speed and not results.
using Float8 = float __attribute__((vector_size(32), aligned(4)));
using Double8 = double __attribute__((vector_size(64), aligned(8)));
using Integer8 = int64_t __attribute__((vector_size(64), aligned(8)));

//===----------------------------------------------------------------------===//
// Passes over all logits
//===----------------------------------------------------------------------===//

/// Weights below exp(-40) are 0: no float32 softmax sees them.
static constexpr double smallestExponent = -40;

/// exp(x) for x <= 0, on doubles or vectors of them.
template <typename Real, typename Integer> static Real exponential(Real x) {
  // x = n ln 2 + r with |r| <= ln 2 / 2; n * ln2High is exact.
  constexpr double ln2High = 0x1.62e42feep-1, ln2Low = 0x1.a39ef35793c76p-33;
  constexpr double round = 0x1.8p52; // adding it rounds to an integer
  Real shifted = x * 0x1.71547652b82fep0 + round;
  Real n = shifted - round;
  Real r = (x - n * ln2High) - n * ln2Low;
  // Taylor series in Horner form: the first term left out is below 2^-56.
  constexpr double inverseFactorials[] = {1.0 / 6227020800,
                                          1.0 / 479001600,
                                          1.0 / 39916800,
                                          1.0 / 3628800,
                                          1.0 / 362880,
                                          1.0 / 40320,
                                          1.0 / 5040,
                                          1.0 / 720,
                                          1.0 / 120,
                                          1.0 / 24,
                                          1.0 / 6,
                                          1.0 / 2,
                                          1.0,
                                          1.0};
  Real p = r * 0.0;
  for (double coefficient : inverseFactorials)
    p = p * r + coefficient;
  // The low bits of `shifted` are n as an integer.
  Integer exponent = __builtin_bit_cast(Integer, shifted) -
                     __builtin_bit_cast(int64_t, round) + 1023;
  return p * __builtin_bit_cast(Real, exponent << 52);
}

double tercet::sampleWeight(double x) {
  return x >= smallestExponent ? exponential<double, int64_t>(x) : 0;
}

/// The first of the highest logits; 0 if all are NaN.
static size_t findBest(std::span<const float> logits) {
  size_t i = 0;
  float best = -INFINITY;
  Float8 bests = best - Float8{};
  for (; i + 8 <= logits.size(); i += 8) {
    Float8 x = *reinterpret_cast<const Float8 *>(&logits[i]);
    bests = x > bests ? x : bests; // false for NaN
  }
  for (int lane = 0; lane < 8; ++lane)
    best = std::max(best, bests[lane]);
  for (; i < logits.size(); ++i)
    best = logits[i] > best ? logits[i] : best;
  auto found = std::find(logits.begin(), logits.end(), best);
  return found == logits.end() ? 0 : found - logits.begin();
}

void Sampler::computeWeights(std::span<const float> logits, float maximum) {
  weights.resize(logits.size());
  double scale = 1.0 / options.temperature;
  size_t i = 0;
  for (; i + 8 <= logits.size(); i += 8) {
    Float8 logit = *reinterpret_cast<const Float8 *>(&logits[i]);
    Double8 x = (__builtin_convertvector(logit, Double8) - maximum) * scale;
    Double8 weight = exponential<Double8, Integer8>(x);
    *reinterpret_cast<Double8 *>(&weights[i]) =
        x >= smallestExponent ? weight : Double8{};
  }
  for (; i < logits.size(); ++i)
    weights[i] = sampleWeight((logits[i] - double(maximum)) * scale);
  // Infinite differences are NaN; all the probability is at the maximum.
  for (i = 0; std::isinf(maximum) && i < logits.size(); ++i)
    weights[i] = logits[i] == maximum;
}

//===----------------------------------------------------------------------===//
// Choosing
//===----------------------------------------------------------------------===//

/// The higher logit first, then the lower id: a total order without NaN, so
/// that every correct selection algorithm gives the same result.
static constexpr auto ranksBefore = [](const auto &a, const auto &b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
};

/// Splitmix64 (Steele, Lea, Flood 2014); the upper 53 bits, in [0, 1).
double Sampler::uniform() {
  uint64_t z = state += 0x9E3779B97F4A7C15;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
  z = (z ^ z >> 27) * 0x94D049BB133111EB;
  return static_cast<double>((z ^ z >> 31) >> 11) * 0x1p-53;
}

/// The candidates in order of rank that the options leave, out of all tokens
/// whose weight is at least `cutoff`. False if that was too few to tell.
bool Sampler::select(std::span<const float> logits, double cutoff,
                     double total) {
  candidates.clear();
  double sum = 0;
  for (size_t i = 0; i < logits.size(); ++i)
    if (weights[i] >= cutoff && weights[i] > 0) {
      candidates.push_back({logits[i], static_cast<int32_t>(i), weights[i]});
      sum += weights[i];
    }
  auto topK = static_cast<size_t>(std::max(options.topK, 0));
  bool complete =
      topK > 0 ? candidates.size() >= topK : sum >= options.topP * total;
  if (!complete && cutoff > 0)
    return false;

  std::sort(candidates.begin(), candidates.end(), ranksBefore);
  if (topK > 0 && topK < candidates.size())
    candidates.resize(topK);
  // With top-k, top-p is a part of what that left.
  if (topK > 0) {
    total = 0;
    for (const Candidate &candidate : candidates)
      total += candidate.weight;
  }
  sum = 0;
  for (size_t kept = 0; kept < candidates.size(); ++kept)
    if ((sum += candidates[kept].weight) >= options.topP * total) {
      candidates.resize(kept + 1);
      break;
    }
  return true;
}

int32_t Sampler::sample(std::span<const float> logits) {
  size_t best = findBest(logits);
  if (!(options.temperature > 0) || options.topK == 1 ||
      std::isnan(logits[best]))
    return static_cast<int32_t>(best);
  computeWeights(logits, logits[best]);

  double total = 0, sum = 0;
  for (double weight : weights)
    total += weight;
  if (options.topK <= 0 && options.topP >= 1) {
    double point = uniform() * total;
    for (size_t i = 0; i < weights.size(); ++i)
      if ((sum += weights[i]) > point)
        return static_cast<int32_t>(i);
    return static_cast<int32_t>(best);
  }

  // What the options leave is nearly always within exp(-8) of the best, some
  // hundreds of tokens; sorting the whole vocabulary is the exception.
  if (!select(logits, 0x1p-12, total))
    select(logits, 0, total);
  total = 0;
  for (const Candidate &candidate : candidates)
    total += candidate.weight;
  double point = uniform() * total;
  for (const Candidate &candidate : candidates)
    if ((sum += candidate.weight) > point)
      return candidate.id;
  return candidates.back().id;
}
