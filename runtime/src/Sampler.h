// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Chooses the next token from a row of logits. The choice is a function of
// logits, options and the number of earlier draws alone: IEEE double
// arithmetic in a fixed order, an own exp and an own generator, so that a seed
// gives the same text on every machine.

#ifndef TERCET_RUNTIME_SAMPLER_H
#define TERCET_RUNTIME_SAMPLER_H

#include <cstdint>
#include <span>
#include <vector>

namespace tercet {

struct SamplerOptions {
  float temperature = 0; // 0: greedy
  float topP = 1;        // 1: off
  int32_t topK = 0;      // 0: off
  uint64_t seed = 0;
};

class Sampler {
public:
  explicit Sampler(const SamplerOptions &options)
      : options(options), state(options.seed) {}

  /// `logits` is not empty. Equal logits rank by ascending id; NaN ranks last.
  int32_t sample(std::span<const float> logits);

private:
  struct Candidate {
    float logit;
    int32_t id;
    double weight; // exp((logit - maximum) / temperature)
  };

  double uniform();
  void computeWeights(std::span<const float> logits, float maximum);
  bool select(std::span<const float> logits, double cutoff, double total);

  SamplerOptions options;
  uint64_t state;
  // Reused between calls.
  std::vector<double> weights;
  std::vector<Candidate> candidates;
};

/// exp(x) for x in [-40, 0] within 2 ulp, the same bits on every IEEE machine;
/// 0 for smaller x.
double sampleWeight(double x);

} // namespace tercet

#endif // TERCET_RUNTIME_SAMPLER_H
