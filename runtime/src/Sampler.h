// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Chooses the next token. The choice is a function of logits, options and the
// number of the draw alone: IEEE double arithmetic in a fixed order, an own exp
// and log and an own generator, so that a seed gives the same text on every
// machine. Logits may be known as intervals only: the choice is the one that
// exact logits would give, and asks for those that it depends on.

#ifndef TERCET_RUNTIME_SAMPLER_H
#define TERCET_RUNTIME_SAMPLER_H

#include "runtime/src/LogitBounds.h"
#include "runtime/src/Noise.h"

#include <cstdint>
#include <span>
#include <vector>

namespace tercet {

struct SamplerOptions {
  float temperature = 0; // 0: greedy
  float topP = 1;        // 1: off
  int32_t topK = 0;      // 0: off
  uint64_t seed = 0;
  uint64_t draw = 0; // number of the first draw
};

class Sampler {
public:
  explicit Sampler(const SamplerOptions &options)
      : options(options), scale(1.0 / options.temperature), draw(options.draw) {
  }

  /// `logits` is not empty. Equal logits rank by ascending id; NaN ranks last.
  int32_t sample(LogitBounds &logits);
  int32_t sample(std::span<const float> logits) {
    LogitBounds bounds(logits);
    return sample(bounds);
  }

private:
  struct Candidate {
    float logit;
    int32_t id;
    double weight; // exp((logit - maximum) / temperature)
  };

  int32_t findBest(LogitBounds &logits);
  int32_t findWinner(LogitBounds &logits, const Noise &noise);
  int32_t chooseOfTopK(LogitBounds &logits, const Noise &noise);
  int32_t chooseOfNucleus(LogitBounds &logits, const Noise &noise);
  void refineLikeliest(LogitBounds &logits, float reach, size_t most,
                       double rest);
  void refineAll(LogitBounds &logits);
  void rankRows(const LogitBounds &logits);
  size_t countUntil(double mass) const;
  int32_t findWinner(size_t numCandidates, const Noise &noise) const;
  double score(float logit) const { return logit * scale; }

  SamplerOptions options;
  double scale; // 1 / temperature
  uint64_t draw;
  // Reused between calls.
  std::vector<int32_t> rows;
  std::vector<double> rowNoise, rowWeights;
  std::vector<Candidate> candidates;
};

/// exp(x) for x in [-40, 0] within 2 ulp, the same bits on every IEEE machine;
/// 0 for smaller x.
double sampleWeight(double x);

} // namespace tercet

#endif // TERCET_RUNTIME_SAMPLER_H
