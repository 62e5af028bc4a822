// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_COMPILER_PASSES_PASSES_H
#define TERCET_COMPILER_PASSES_PASSES_H

#include "compiler/Support/WeightPiece.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include <vector>

namespace tercet {

class LayoutPlanner;
class ParameterReader;

#define GEN_PASS_DECL
#include "compiler/Passes/Passes.h.inc"

/// The passes that read parameters share the compilation's reader. Without one
/// (tercet-opt) they use their own, and packed bytes are dropped.
std::unique_ptr<mlir::Pass> createQuantizeWeights(ParameterReader &reader);
std::unique_ptr<mlir::Pass> createPackWeights(ParameterReader &reader,
                                              std::vector<WeightPiece> &pieces);

/// With a planner instead of the cost model of a CPU that nobody has described.
std::unique_ptr<mlir::Pass>
createSelectLayout(LayoutPlanner &planner, const SelectLayoutOptions &options);

#define GEN_PASS_REGISTRATION
#include "compiler/Passes/Passes.h.inc"

} // namespace tercet

#endif // TERCET_COMPILER_PASSES_PASSES_H
