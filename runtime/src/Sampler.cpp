// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>

using namespace tercet;

/// Weights below exp(-40) are 0: no float32 softmax sees them.
static constexpr double smallestExponent = -40;

double tercet::sampleWeight(double x) {
  if (!(x >= smallestExponent))
    return 0;
  // x = n ln 2 + r with |r| <= ln 2 / 2; n * ln2High is exact.
  constexpr double ln2High = 0x1.62e42feep-1, ln2Low = 0x1.a39ef35793c76p-33;
  constexpr double round = 0x1.8p52; // adding it rounds to an integer
  double n = (x * 0x1.71547652b82fep0 + round) - round;
  double r = (x - n * ln2High) - n * ln2Low;
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
  double p = 0;
  for (double coefficient : inverseFactorials)
    p = p * r + coefficient;
  auto exponent = static_cast<int64_t>(n) + 1023;
  return p * std::bit_cast<double>(static_cast<uint64_t>(exponent) << 52);
}

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

/// Keeps the fewest best candidates that hold topP of the weight. They are
/// sorted in growing prefixes: few of a large vocabulary are needed.
void Sampler::keepTopP() {
  double total = 0, sum = 0;
  for (const Candidate &candidate : candidates)
    total += candidate.weight;

  size_t sorted = 0;
  for (size_t kept = 0; kept < candidates.size(); ++kept) {
    if (kept == sorted) {
      sorted = std::min(candidates.size(), std::max<size_t>(64, 8 * sorted));
      std::partial_sort(candidates.begin() + kept, candidates.begin() + sorted,
                        candidates.end(), ranksBefore);
    }
    sum += candidates[kept].weight;
    if (sum >= options.topP * total) {
      candidates.resize(kept + 1);
      return;
    }
  }
}

int32_t Sampler::sample(std::span<const float> logits) {
  size_t best = 0;
  for (size_t i = 1; i < logits.size(); ++i)
    if (logits[i] > logits[best] ||
        (std::isnan(logits[best]) && !std::isnan(logits[i])))
      best = i;
  if (!(options.temperature > 0) || options.topK == 1)
    return static_cast<int32_t>(best);

  double maximum = logits[best], scale = 1.0 / options.temperature;
  candidates.clear();
  for (size_t i = 0; i < logits.size(); ++i)
    if (logits[i] == logits[best] ||
        (logits[i] - maximum) * scale >= smallestExponent)
      candidates.push_back({logits[i], static_cast<int32_t>(i), 1});
  if (candidates.empty()) // all NaN
    return static_cast<int32_t>(best);

  auto topK = static_cast<size_t>(std::max(options.topK, 0));
  if (topK > 0 && topK < candidates.size()) {
    std::nth_element(candidates.begin(), candidates.begin() + topK,
                     candidates.end(), ranksBefore);
    candidates.resize(topK);
    std::sort(candidates.begin(), candidates.end(), ranksBefore);
  }
  for (Candidate &candidate : candidates)
    if (candidate.logit != logits[best]) // or infinite, a difference of NaN
      candidate.weight = sampleWeight((candidate.logit - maximum) * scale);
  if (options.topP < 1)
    keepTopP();

  double total = 0, sum = 0;
  for (const Candidate &candidate : candidates)
    total += candidate.weight;
  double point = uniform() * total;
  for (const Candidate &candidate : candidates)
    if ((sum += candidate.weight) > point)
      return candidate.id;
  return candidates.back().id;
}
