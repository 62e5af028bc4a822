// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

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

/// -inf if there is none but NaN.
static float findLargest(std::span<const float> values) {
  size_t i = 0;
  float largest = -INFINITY;
  Float8 lanes = largest - Float8{};
  for (; i + 8 <= values.size(); i += 8) {
    Float8 x = *reinterpret_cast<const Float8 *>(&values[i]);
    lanes = x > lanes ? x : lanes; // false for NaN
  }
  for (int lane = 0; lane < 8; ++lane)
    largest = std::max(largest, lanes[lane]);
  for (; i < values.size(); ++i)
    largest = values[i] > largest ? values[i] : largest;
  return largest;
}

/// The indices of values that are not below `least`, in ascending order.
static void collect(std::span<const float> values, float least,
                    std::vector<int32_t> &rows) {
  constexpr size_t blockSize = 128;
  rows.clear();
  for (size_t begin = 0; begin < values.size(); begin += blockSize) {
    size_t end = std::min(begin + blockSize, values.size());
    if (findLargest(values.subspan(begin, end - begin)) >= least)
      for (size_t i = begin; i < end; ++i)
        if (values[i] >= least)
          rows.push_back(static_cast<int32_t>(i));
  }
}

/// The sum of exp((logit - maximum) / temperature), in eight lanes.
static double sumWeights(std::span<const float> logits, double maximum,
                         double scale) {
  size_t i = 0;
  Double8 lanes{};
  for (; i + 8 <= logits.size(); i += 8) {
    Float8 logit = *reinterpret_cast<const Float8 *>(&logits[i]);
    Double8 x = (__builtin_convertvector(logit, Double8) - maximum) * scale;
    Double8 weight = exponential<Double8, Integer8>(x);
    lanes += x >= smallestExponent ? weight : Double8{};
  }
  double sum = 0;
  for (int lane = 0; lane < 8; ++lane)
    sum += lanes[lane];
  for (; i < logits.size(); ++i)
    sum += sampleWeight((logits[i] - maximum) * scale);
  return sum;
}

/// The largest logit that is still unknown; -inf if there is none.
static float findLargestUnknown(const LogitBounds &logits) {
  if (logits.isKnown())
    return -INFINITY;
  size_t i = 0;
  float largest = -INFINITY;
  Float8 lanes = largest - Float8{};
  for (; i + 8 <= logits.size(); i += 8) {
    Float8 low = *reinterpret_cast<const Float8 *>(&logits.lower[i]);
    Float8 high = *reinterpret_cast<const Float8 *>(&logits.upper[i]);
    high = low < high ? high : largest - Float8{};
    lanes = high > lanes ? high : lanes;
  }
  for (int lane = 0; lane < 8; ++lane)
    largest = std::max(largest, lanes[lane]);
  for (; i < logits.size(); ++i)
    if (logits.lower[i] < logits.upper[i])
      largest = std::max(largest, logits.upper[i]);
  return largest;
}

//===----------------------------------------------------------------------===//
// The winner of all tokens
//===----------------------------------------------------------------------===//

/// The first of the highest logits; 0 if all are NaN.
int32_t Sampler::findBest(LogitBounds &logits) {
  collect(logits.upper, findLargest(logits.lower), rows);
  if (rows.size() > 1)
    logits.refine(rows);
  // None of the others reaches what is certain now.
  collect(logits.lower, findLargest(logits.lower), rows);
  return rows.empty() ? 0 : rows[0];
}

/// The token of the highest score with noise; of equal ones the first.
int32_t Sampler::findWinner(LogitBounds &logits, const Noise &noise) {
  float highest = findLargest(logits.lower);
  collect(logits.lower, highest, rows);
  if (rows.empty())
    return 0;
  // A score that is certain for some token: the noise of few others is worth
  // computing.
  double beaten = score(highest) + noise[rows[0]];
  rows.clear();
  rowNoise.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    double most = score(logits.upper[i]);
    if (!(most + noise.atMost(i) >= beaten))
      continue;
    double own = noise[i];
    if (!(most + own >= beaten))
      continue;
    rows.push_back(static_cast<int32_t>(i));
    rowNoise.push_back(own);
    beaten = std::max(beaten, score(logits.lower[i]) + own);
  }
  // Those that none overtook later on.
  size_t kept = 0;
  for (size_t i = 0; i < rows.size(); ++i)
    if (score(logits.upper[rows[i]]) + rowNoise[i] >= beaten) {
      rows[kept] = rows[i];
      rowNoise[kept++] = rowNoise[i];
    }
  rows.resize(kept);
  if (rows.size() > 1)
    logits.refine(rows);
  double best = -INFINITY;
  int32_t winner = rows[0];
  for (size_t i = 0; i < rows.size(); ++i) {
    double own = score(logits.upper[rows[i]]) + rowNoise[i];
    if (own > best) {
      best = own;
      winner = rows[i];
    }
  }
  return winner;
}

//===----------------------------------------------------------------------===//
// The winner of some
//===----------------------------------------------------------------------===//

/// What top-k and top-p leave is nearly always among the tokens of at least
/// this many temperatures below the best, a weight of 2^-12: some hundreds.
/// Ranking the whole vocabulary is the exception.
static constexpr float nearTemperatures = 8.3178f;

/// Makes `rows`, whose logits are known, candidates in order of rank: the
/// higher logit first, then the lower id, a total order.
void Sampler::rankRows(const LogitBounds &logits) {
  candidates.clear();
  for (int32_t row : rows)
    if (!std::isnan(logits.upper[row]))
      candidates.push_back({logits.upper[row], row, 0});
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate &a, const Candidate &b) {
              return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
            });
  for (Candidate &candidate : candidates)
    candidate.weight =
        sampleWeight((candidate.logit - double(candidates[0].logit)) * scale);
}

/// How many candidates it takes to reach a mass; one more than there are if
/// they do not.
size_t Sampler::countUntil(double mass) const {
  double sum = 0;
  for (size_t i = 0; i < candidates.size(); ++i)
    if ((sum += candidates[i].weight) >= mass)
      return i + 1;
  return candidates.size() + 1;
}

int32_t Sampler::findWinner(size_t numCandidates, const Noise &noise) const {
  double best = -INFINITY;
  int32_t winner = candidates[0].id;
  for (size_t i = 0; i < numCandidates; ++i) {
    const Candidate &candidate = candidates[i];
    double own = score(candidate.logit) + noise[candidate.id];
    if (own > best || (own == best && candidate.id < winner)) {
      best = own;
      winner = candidate.id;
    }
  }
  return winner;
}

int32_t Sampler::chooseOfTopK(LogitBounds &logits, const Noise &noise) {
  // Whose upper bound is not below the k-th highest lower one may be among the
  // k best.
  auto k = static_cast<size_t>(options.topK);
  float best = findLargest(logits.lower);
  collect(logits.lower, best - nearTemperatures * options.temperature, rows);
  if (rows.size() < k)
    collect(logits.lower, -INFINITY, rows);
  if (rows.empty())
    return 0;
  k = std::min(k, rows.size());
  std::nth_element(
      rows.begin(), rows.begin() + (k - 1), rows.end(),
      [&](int32_t a, int32_t b) { return logits.lower[a] > logits.lower[b]; });
  collect(logits.upper, logits.lower[rows[k - 1]], rows);
  logits.refine(rows);
  rankRows(logits);
  if (candidates.empty())
    return 0;
  k = std::min(k, candidates.size());
  candidates.resize(k);
  // With top-k, top-p is a part of what that left.
  double total = 0;
  for (const Candidate &candidate : candidates)
    total += candidate.weight;
  return findWinner(std::min(k, countUntil(options.topP * total)), noise);
}

/// Makes the likeliest tokens known, at most `most` of those that may be within
/// `reach` of the best: what is left holds about `rest` of their probability.
void Sampler::refineLikeliest(LogitBounds &logits, float reach, size_t most,
                              double rest) {
  float best = findLargest(logits.lower);
  collect(logits.upper, best - reach, rows);
  std::sort(rows.begin(), rows.end(), [&](int32_t a, int32_t b) {
    return logits.upper[a] > logits.upper[b];
  });
  // Errors are far smaller than their bounds: the middle is about right.
  auto middle = [&](int32_t row) {
    return (double(logits.lower[row]) + logits.upper[row]) / 2;
  };
  double largest = best, total = 0, sum = 0;
  for (int32_t row : rows)
    largest = std::max(largest, middle(row));
  rowWeights.clear();
  for (int32_t row : rows) {
    rowWeights.push_back(sampleWeight((middle(row) - largest) * scale));
    total += rowWeights.back();
  }
  size_t count = 0;
  while (count < std::min(rows.size(), most) &&
         (sum < (1 - rest) * total || logits.upper[rows[count]] >= best))
    sum += rowWeights[count++];
  rows.resize(count);
  logits.refine(rows);
}

void Sampler::refineAll(LogitBounds &logits) {
  rows.resize(logits.size());
  std::iota(rows.begin(), rows.end(), 0);
  logits.refine(rows);
}

int32_t Sampler::chooseOfNucleus(LogitBounds &logits, const Noise &noise) {
  float reach = nearTemperatures * options.temperature;
  double rest = std::min(1.0 / 64, (1.0 - options.topP) / 4);
  for (size_t most : {512, 4096, 0}) {
    if (!logits.isKnown()) {
      if (most)
        refineLikeliest(logits, reach, most, rest);
      else
        refineAll(logits);
    }
    // What is known and above all unknown logits is ranked for certain.
    float unknown = findLargestUnknown(logits);
    float least = findLargest(logits.lower) - reach;
    if (!most)
      least = -std::numeric_limits<float>::max();
    collect(logits.lower, std::max(least, std::nextafter(unknown, INFINITY)),
            rows);
    reach *= 2;
    rest /= 16;
    if (rows.empty())
      continue;
    rankRows(logits);

    // So is who reaches the mass of top-p between its bounds, which also cover
    // the roundings of these sums.
    float maximum = candidates[0].logit;
    double high = sumWeights(logits.upper, maximum, scale), low = high;
    if (unknown != -INFINITY) {
      low = sumWeights(logits.lower, maximum, scale) * (1 - 1e-9);
      high *= 1 + 1e-9;
    }
    size_t certain = countUntil(options.topP * low);
    size_t possible = countUntil(options.topP * high);
    if (possible <= candidates.size()) {
      int32_t winner = findWinner(possible, noise);
      if (certain == possible || winner == findWinner(certain, noise))
        return winner;
    }
  }
  return rows.empty() ? 0 : findWinner(candidates.size(), noise);
}

//===----------------------------------------------------------------------===//
// Sampler
//===----------------------------------------------------------------------===//

int32_t Sampler::sample(LogitBounds &logits) {
  Noise noise(options.seed, draw++);
  if (!(options.temperature > 0) || options.topK == 1)
    return findBest(logits);
  if (options.topK > 0)
    return chooseOfTopK(logits, noise);
  if (options.topP < 1)
    return chooseOfNucleus(logits, noise);
  return findWinner(logits, noise);
}
