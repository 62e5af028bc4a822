// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What --bench measured, and three ways to show it.

#ifndef TERCET_RUNTIME_BENCHREPORT_H
#define TERCET_RUNTIME_BENCHREPORT_H

#include "runtime/src/KernelTimes.h"

#include <string>

namespace tercet {

/// A phase on some threads. Rates are medians of the rounds, spreads (least to
/// most) parts of them.
struct BenchRow {
  int threads = 0;
  int64_t batch = 1;           ///< sequences together
  double rate = 0, spread = 0; ///< tokens/s of all of them
  double limit = 0; ///< of the machine: multiply-accumulates/s, or bytes/s
  double work = 0;  ///< of a token, in the limit's unit
  double fraction = 0, fractionSpread = 0; ///< of the limit of the same round
  double ofPrefill = 0;                    ///< rate / that of prefill
  // Of a screened head and one sequence: what a token took of the exact one.
  bool isScreened = false;
  double exactGroups = 0; ///< groups of 16 rows a token
  uint64_t fullHeads = 0; ///< tokens that needed all of it
};

struct BenchResult {
  std::string cpu, target;
  int64_t depth = 0, promptTokens = 0, generatedTokens = 0;
  int rounds = 0;
  double loadSeconds = 0, peakRssInMB = 0;
  double ternaryWeights = 0;
  double stepBytes = 0;   ///< of weights that a step reads
  int64_t stepTokens = 0; ///< in a step of a prompt
  std::vector<BenchRow> prefill, decode;
  std::vector<KernelTime> kernels; ///< with the threads of the last row

  /// What no conclusion should be drawn from, as a sentence; else empty.
  std::string noise() const;
};

std::string formatText(const BenchResult &result);
std::string formatJson(const BenchResult &result);
/// One page that needs no other file.
std::string formatHtml(const BenchResult &result);

} // namespace tercet

#endif // TERCET_RUNTIME_BENCHREPORT_H
