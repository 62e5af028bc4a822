// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_LOWERMATH
#include "compiler/Passes/Passes.h.inc"

namespace {

/// In terms of other functions, of every type.
constexpr StringRef kExpanded[] = {"acosh", "asinh", "atanh", "cosh",
                                   "powf",  "sinh",  "tan"};

/// Polynomials, of f32.
constexpr StringRef kApproximated[] = {
    math::AcosOp::getOperationName(),  math::AsinOp::getOperationName(),
    math::AtanOp::getOperationName(),  math::CosOp::getOperationName(),
    math::ErfOp::getOperationName(),   math::ExpOp::getOperationName(),
    math::ExpM1Op::getOperationName(), math::LogOp::getOperationName(),
    math::Log1pOp::getOperationName(), math::SinOp::getOperationName(),
    math::TanhOp::getOperationName()};

struct LowerMath : impl::LowerMathBase<LowerMath> {
  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    math::populateExpansionPatterns(patterns, kExpanded);
    populateMathPolynomialApproximationPatterns(patterns, [](StringRef name) {
      return llvm::is_contained(kApproximated, name);
    });
    arith::populateExpandBFloat16Patterns(patterns);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

} // namespace
} // namespace tercet
