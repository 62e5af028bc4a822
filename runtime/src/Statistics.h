// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Of a few samples of a noisy quantity.

#ifndef TERCET_RUNTIME_STATISTICS_H
#define TERCET_RUNTIME_STATISTICS_H

#include <algorithm>
#include <vector>

namespace tercet {

/// The middle of samples, of which there is at least one.
inline double median(std::vector<double> samples) {
  auto middle = samples.begin() + samples.size() / 2;
  std::nth_element(samples.begin(), middle, samples.end());
  return *middle;
}

/// How far apart the middle half of the samples is (of three, all), as a part
/// of their median.
inline double spread(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  size_t left = samples.size() / 4;
  double middle = median(samples);
  return middle > 0
             ? (samples[samples.size() - 1 - left] - samples[left]) / middle
             : 0;
}

} // namespace tercet

#endif // TERCET_RUNTIME_STATISTICS_H
