// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Finds the fastest layout of a ternary matmul by running candidates in turns
// on the same data.

#ifndef TERCET_COMPILER_TUNE_TUNER_H
#define TERCET_COMPILER_TUNE_TUNER_H

#include "compiler/Target/CostModel.h"
#include "compiler/Tune/MatmulData.h"
#include "runtime/src/ThreadPool.h"

#include <chrono>

namespace tercet {

/// A median, and the distance of the quartiles as a part of it.
struct Timing {
  double seconds = 0, spread = 0;
};

Timing summarize(std::vector<double> seconds);

/// A median of ratios and its 95 % confidence interval, by order statistics.
struct RatioInterval {
  double low, median, high;
};

/// Of the times of two that ran in turns, round by round.
RatioInterval compareRounds(llvm::ArrayRef<double> seconds,
                            llvm::ArrayRef<double> other);

using Clock = std::chrono::steady_clock;

/// A candidate that runs.
struct Contestant {
  LayoutChoice choice;
  MatmulKernel kernel;
  std::vector<double> seconds = {}; ///< of each round
  bool isPredicted = false;         ///< wins a tie

  double getMedian() const { return summarize(seconds).seconds; }
};

/// Kernels of one matmul and number of tokens that run in turns, so that what
/// slows the machine down slows down all.
class Race {
public:
  Race(MatmulData &data, int64_t numTokens, unsigned numThreads)
      : data(data), numTokens(numTokens), numThreads(numThreads) {}

  /// Runs it once on weights that are packed for it. False: it does not compute
  /// what the reference does, and takes no part.
  llvm::Expected<bool> add(Contestant contestant);

  /// Adds a sample to each of the first contestants.
  void runRound(size_t numContestants);

  /// Halves the field until few are left or time is up, and sorts it, the
  /// fastest first. A contestant is compared with those of its rounds only.
  /// Which of nearly equal ones is the fastest depends on what else the machine
  /// does at the time: the predicted one is kept, and comes first unless it is
  /// slower beyond doubt.
  void run(Clock::time_point deadline);

  /// Sorts the first contestants by the median of their times, each as a part
  /// of the median of its round.
  void sort(size_t numContestants);

  std::vector<Contestant> contestants;

private:
  double sample(Contestant &contestant);
  void keepPredicted(size_t field);
  void preferPredicted(size_t field);

  MatmulData &data;
  int64_t numTokens;
  unsigned numThreads;
  uint64_t scratchBytes = 0;
  std::unique_ptr<tercet_pool> pool;
  int64_t callsPerSample = 0;
  size_t numRounds = 0;
};

struct TunedLayout {
  LayoutChoice choice;
  Timing decode, prefill;
  int64_t numCandidates = 0; ///< that were run
  /// Layouts whose kernels compute something else: bugs of the compiler.
  std::vector<LayoutChoice> wrong = {};
};

class Tuner {
public:
  Tuner(CpuDescription cpu, TargetSpec target, unsigned numThreads)
      : cpu(cpu), target(target), numThreads(numThreads),
        costs(std::move(cpu), std::move(target), numThreads) {}

  /// Called with the best layout so far.
  std::function<void(MatmulShape, const LayoutChoice &, double seconds)>
      progress;

  /// Tunes a matmul of a model. Runs the default of each packing however little
  /// time there is.
  llvm::Expected<TunedLayout> tune(MatmulShape shape, const ModelShapes &model,
                                   Clock::time_point deadline);

  /// Spreads weights of packings that run in turns over as much memory as they
  /// have in a model, at most what the caches cannot hold.
  llvm::Error spread(MatmulData &data,
                     llvm::ArrayRef<ternary::Packing> packings,
                     const ModelShapes &model) const;

  /// Compiles in parallel as long as there is time, and at least the first.
  llvm::Expected<std::vector<Contestant>>
  compile(MatmulShape shape, int64_t numTokens,
          llvm::ArrayRef<LayoutChoice> choices,
          Clock::time_point deadline) const;

private:
  friend class MatmulTuning;

  CpuDescription cpu;
  TargetSpec target;
  unsigned numThreads;
  CostModel costs;
};

} // namespace tercet

#endif // TERCET_COMPILER_TUNE_TUNER_H
