// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Who chooses the layouts of a model's ternary matmuls: the cost model, or who
// has measured them.

#ifndef TERCET_COMPILER_TARGET_LAYOUTPLANNER_H
#define TERCET_COMPILER_TARGET_LAYOUTPLANNER_H

#include "compiler/Target/Backend.h"

#include <optional>

namespace tercet {

/// What a step of a model reads.
struct ModelShapes {
  std::vector<MatmulShape> matmuls; ///< in the order of the module
  int64_t otherBytes = 0;           ///< the head's, which a step reads too
};

struct LayoutChoice {
  ternary::Packing packing;
  ternary::Schedule schedule;
};

struct LayoutPlan {
  std::vector<LayoutChoice> choices; ///< of each matmul
  // For `tercet compile --explain`.
  std::string reason;
  std::vector<std::string> details; ///< of each matmul: its times, in words
};

class LayoutPlanner {
public:
  virtual ~LayoutPlanner() = default;

  /// With `packing` only the schedules are free.
  virtual llvm::Expected<LayoutPlan>
  plan(const ModelShapes &model, std::optional<ternary::Packing> packing) = 0;
};

} // namespace tercet

#endif // TERCET_COMPILER_TARGET_LAYOUTPLANNER_H
