// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"
#include "compiler/Support/ParameterReader.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Threading.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_QUANTIZEWEIGHTS
#include "compiler/Passes/Passes.h.inc"

namespace {

struct QuantizeWeights : impl::QuantizeWeightsBase<QuantizeWeights> {
  QuantizeWeights() = default;
  explicit QuantizeWeights(ParameterReader &reader) : reader(&reader) {}
  QuantizeWeights(const QuantizeWeights &other)
      : impl::QuantizeWeightsBase<QuantizeWeights>(other),
        reader(other.reader) {}

  void runOnOperation() override {
    ParameterReader ownReader;
    ParameterReader &theReader = reader ? *reader : ownReader;
    SymbolTable symbols(getOperation());

    llvm::MapVector<Operation *, SmallVector<ternary::AbsmeanQuantizeOp>> uses;
    WalkResult walk = getOperation().walk([&](ternary::AbsmeanQuantizeOp op) {
      auto get = op.getLatent().getDefiningOp<ternary::GetParameterOp>();
      auto parameter =
          get ? symbols.lookup<ternary::ParameterOp>(get.getName()) : nullptr;
      if (!parameter || !isa<ternary::SourceAttr>(parameter.getValue())) {
        op.emitOpError("quantises something that is not a parameter of the "
                       "checkpoint");
        return WalkResult::interrupt();
      }
      uses[parameter].push_back(op);
      return WalkResult::advance();
    });
    if (walk.wasInterrupted())
      return signalPassFailure();

    // The scales need a pass over all weights: in parallel.
    std::vector<float> scales(uses.size());
    auto latents = llvm::to_vector(llvm::make_first_range(uses));
    if (failed(failableParallelForEachN(
            &getContext(), 0, latents.size(), [&](size_t i) -> LogicalResult {
              auto parameter = cast<ternary::ParameterOp>(latents[i]);
              llvm::Expected<float> scale =
                  computeAbsmean(theReader, parameter);
              if (!scale)
                return parameter.emitError(llvm::toString(scale.takeError()));
              scales[i] = *scale;
              return success();
            })))
      return signalPassFailure();

    for (auto [scale, entry] : llvm::zip(scales, uses)) {
      auto parameter = cast<ternary::ParameterOp>(entry.first);
      auto source = cast<ternary::SourceAttr>(parameter.getValue());
      OpBuilder b(parameter);
      auto trits = ternary::ParameterOp::create(
          b, parameter.getLoc(), (parameter.getSymName() + ".trits").str(),
          entry.second.front().getTrits().getType(),
          ternary::SourceAttr::get(
              &getContext(), source.getPath(), source.getOffset(),
              source.getSize(), source.getEncoding(), b.getF32FloatAttr(scale),
              source.getRotaryHeads()));
      symbols.insert(trits);
      for (ternary::AbsmeanQuantizeOp op : entry.second) {
        b.setInsertionPoint(op);
        op.getTrits().replaceAllUsesWith(ternary::GetParameterOp::create(
            b, op.getLoc(), op.getTrits().getType(), trits.getSymName()));
        op.getScale().replaceAllUsesWith(arith::ConstantOp::create(
            b, op.getLoc(), b.getF32FloatAttr(scale)));
        Operation *get = op.getLatent().getDefiningOp();
        op.erase();
        if (get->use_empty())
          get->erase();
      }
    }
  }

  ParameterReader *reader = nullptr;
};

} // namespace

std::unique_ptr<Pass> createQuantizeWeights(ParameterReader &reader) {
  return std::make_unique<QuantizeWeights>(reader);
}

} // namespace tercet
