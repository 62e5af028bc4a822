// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Layouts from the tuning database, and from the cost model where nobody has
// measured.

#ifndef TERCET_COMPILER_TUNE_TUNEDLAYOUTS_H
#define TERCET_COMPILER_TUNE_TUNEDLAYOUTS_H

#include "compiler/Tune/Tuner.h"
#include "compiler/Tune/TuningDatabase.h"

namespace tercet {

/// A matmul of a model, for reports.
struct TunedShape {
  MatmulShape shape;
  int64_t count; ///< in the model
  TunedLayout layout;
  bool isNew; ///< tuned now, rather than found in the database
};

class TunedLayouts : public LayoutPlanner {
public:
  /// Measures this CPU's memory, and its dot products of `target`, unless the
  /// database has them.
  static llvm::Expected<CpuDescription> measureCpu(TuningDatabase &database,
                                                   const TargetSpec &target);

  /// Without a database: the cost model of `cpu`. Results are valid for one
  /// version of the compiler.
  TunedLayouts(std::optional<TuningDatabase> database, CpuDescription cpu,
               TargetSpec target, unsigned numThreads, std::string compiler)
      : database(std::move(database)), cpu(cpu), target(target),
        numThreads(numThreads), compiler(std::move(compiler)),
        costs(std::move(cpu), std::move(target), numThreads) {}

  /// Plans will tune what the database lacks, in so many seconds.
  void tuneMissing(double seconds) { budgetSeconds = seconds; }

  llvm::Expected<LayoutPlan>
  plan(const ModelShapes &model,
       std::optional<ternary::Packing> packing) override;

  /// What the last plan consists of.
  llvm::ArrayRef<TunedShape> getShapes() const { return shapes; }
  /// Different matmuls that time did not suffice for.
  int64_t getNumMissing() const { return numMissing; }

  std::function<void(MatmulShape, const LayoutChoice &, double seconds)>
      progress;
  /// What becomes of an error of the database; without it plans fail.
  std::function<void(llvm::Error)> onDatabaseError;

private:
  llvm::Error useMeasurements(const ModelShapes &model, LayoutPlan &plan);
  llvm::Error tune(std::vector<TunedShape *> &missing,
                   const ModelShapes &model);
  TuningKey makeKey(MatmulShape shape, const ModelShapes &model,
                    BatchClass batch) const;
  llvm::Expected<std::optional<TunedLayout>>
  find(MatmulShape shape, const ModelShapes &model, std::string &date);
  llvm::Error store(MatmulShape shape, const ModelShapes &model,
                    const TunedLayout &layout);

  std::optional<TuningDatabase> database;
  CpuDescription cpu;
  TargetSpec target;
  unsigned numThreads;
  std::string compiler;
  CostModel costs;
  std::optional<double> budgetSeconds;
  std::vector<TunedShape> shapes;
  int64_t numMissing = 0;
};

} // namespace tercet

#endif // TERCET_COMPILER_TUNE_TUNEDLAYOUTS_H
