// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Predicts how long a ternary matmul takes: what reads its weights, or what
// computes with them, whichever is slower.

#ifndef TERCET_COMPILER_TARGET_COSTMODEL_H
#define TERCET_COMPILER_TARGET_COSTMODEL_H

#include "compiler/Target/CpuDescription.h"
#include "compiler/Target/LayoutPlanner.h"

namespace tercet {

class CostModel : public LayoutPlanner {
public:
  /// For so many threads of a CPU.
  CostModel(CpuDescription cpu, TargetSpec target, unsigned numThreads);

  /// What holds so many bytes for the threads together.
  const MemoryLevel &getHome(int64_t sizeInBytes) const;

  const MemoryLevel &getMemory() const { return cpu.levels.back(); }

  /// Bytes that a step of one token reads with all weights in a packing.
  int64_t getFootprint(const ModelShapes &model,
                       ternary::Packing packing) const;

  /// Seconds of one matmul of a model.
  double predict(MatmulShape shape, const LayoutChoice &choice,
                 BatchClass batch, const ModelShapes &model) const;

  /// All candidates for a batch class, the fastest first. Of a prefill they
  /// share with `base` what a GEMV uses.
  std::vector<LayoutChoice> rank(MatmulShape shape, BatchClass batch,
                                 const ModelShapes &model,
                                 std::optional<LayoutChoice> base = {}) const;

  llvm::Expected<LayoutPlan>
  plan(const ModelShapes &model,
       std::optional<ternary::Packing> packing) override;

  /// Why a packing suits a model, in words.
  std::string explain(const ModelShapes &model, ternary::Packing packing) const;

  /// How long one matmul of a model takes in each class of batches, in words:
  /// what bounds it, and what one token would take with other packings.
  std::string explain(MatmulShape shape, const LayoutChoice &choice,
                      const ModelShapes &model) const;

  /// The packings that there are for a matmul.
  std::vector<ternary::Packing> getPackings(MatmulShape shape) const;

private:
  /// That the threads have together.
  unsigned countCaches(const MemoryLevel &level) const;
  std::string describeCaches(const MemoryLevel &level) const;
  std::string describeCpu() const;
  MatmulRates getRates(ternary::Packing packing) const;
  double getReadRate(const MemoryLevel &level) const;
  bool isBoundByReading(const ModelShapes &model,
                        ternary::Packing packing) const;
  ternary::Schedule getDefault(MatmulShape shape, ternary::Packing packing,
                               const ModelShapes &model) const;
  LayoutChoice chooseSchedule(MatmulShape shape, ternary::Packing packing,
                              const ModelShapes &model) const;
  LayoutChoice choose(MatmulShape shape, const ModelShapes &model) const;

  CpuDescription cpu;
  TargetSpec target;
  unsigned numThreads;
};

/// `122 us`, `5.1 ms`.
std::string formatSeconds(double seconds);

/// Tokens of a prefill's step, the capacity of every artifact.
inline constexpr int64_t kPrefillTokens = 128;

double getBitsPerTrit(ternary::Packing packing);

} // namespace tercet

#endif // TERCET_COMPILER_TARGET_COSTMODEL_H
