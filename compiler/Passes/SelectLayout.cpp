// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"
#include "compiler/Target/CostModel.h"
#include "dialect/Ternary/SourceEncoding.h"
#include "dialect/Ternary/Ternary.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_SELECTLAYOUT
#include "compiler/Passes/Passes.h.inc"

namespace {

/// How a constant matrix of floats is packed: as the file has it, but that
/// bf16s are pairs.
std::optional<ternary::Packing> getFloatPacking(Value matrix) {
  auto get = matrix.getDefiningOp<ternary::GetParameterOp>();
  if (!get)
    return std::nullopt;
  Type element = cast<ShapedType>(matrix.getType()).getElementType();
  if (element.isBF16())
    return ternary::Packing::BF16Pairs;
  if (element.isF16())
    return ternary::Packing::F16;
  auto parameter = SymbolTable::lookupNearestSymbolFrom<ternary::ParameterOp>(
      get, get.getNameAttr());
  auto source = dyn_cast<ternary::SourceAttr>(parameter.getValue());
  if (source && ternary::getBlockFormat(source.getEncoding()))
    return ternary::symbolizePacking(
        ternary::stringifyEncoding(source.getEncoding()));
  return ternary::Packing::F32;
}

/// Of the first target, in the smallest tiles that any of them selects: others
/// work on several. A head of which groups of 16 rows are asked for has tiles
/// of them.
ternary::LayoutAttr getHeadLayout(MLIRContext *context,
                                  ternary::Packing packing, bool ofGroups,
                                  ArrayRef<TargetSpec> targets) {
  int64_t tileRows = INT64_MAX;
  for (const TargetSpec &target : targets)
    tileRows =
        std::min(tileRows, getBackend(target).getHeadTileRows(packing, target));
  if (ofGroups)
    tileRows = ternary::kRowGroup;
  const TargetSpec &own = targets.front();
  return ternary::LayoutAttr::get(
      context, packing, tileRows,
      getBackend(own).getHeadSchedule(packing, tileRows, own));
}

/// Of the first target, in the largest tiles that any of them selects: smaller
/// ones are parts of them.
ternary::CodeLayoutAttr getCodeLayout(MLIRContext *context,
                                      ternary::CodeFormat format,
                                      ArrayRef<TargetSpec> targets) {
  auto select = [&](const TargetSpec &target) {
    return getBackend(target).selectHeadLayout(context, format, target);
  };
  ternary::CodeLayoutAttr own = select(targets.front());
  int64_t tileRows = 0;
  for (const TargetSpec &target : targets)
    tileRows = std::max(tileRows, select(target).getTileRows());
  return ternary::CodeLayoutAttr::get(context, format, tileRows, own.getLanes(),
                                      own.getParts(), own.getTokens(),
                                      own.getPrefetch());
}

MatmulShape getShape(ternary::MatmulOp matmul) {
  return {cast<ShapedType>(matmul.getOuts().getType()).getShape().back(),
          cast<ShapedType>(matmul.getQ().getType()).getDimSize(1),
          int64_t(matmul.getGroup().value_or(0))};
}

struct SelectLayout : impl::SelectLayoutBase<SelectLayout> {
  using Base::Base;
  SelectLayout(LayoutPlanner &planner, const SelectLayoutOptions &options)
      : Base(options), planner(&planner) {}

  void runOnOperation() override {
    llvm::Expected<TargetSpec> spec = parseTarget(target);
    if (!spec) {
      getOperation().emitError(llvm::toString(spec.takeError()));
      return signalPassFailure();
    }
    std::optional<ternary::Packing> named = ternary::symbolizePacking(packing);
    if (packing != "auto" && (!named || !ternary::isPackingOfTrits(*named))) {
      getOperation().emitError("'" + packing + "' is no packing of trits");
      return signalPassFailure();
    }
    SmallVector<TargetSpec> sharing = {*spec};
    for (llvm::StringRef level : levels) {
      llvm::Expected<TargetSpec> parsed = parseTarget(level);
      if (!parsed) {
        getOperation().emitError(llvm::toString(parsed.takeError()));
        return signalPassFailure();
      }
      sharing.push_back(*parsed);
    }
    const Backend &backend = getBackend(*spec);
    selectHeads(sharing);
    SmallVector<ternary::MatmulOp> matmuls;
    getOperation().walk(
        [&](ternary::MatmulOp matmul) { matmuls.push_back(matmul); });
    ModelShapes model;
    model.otherBytes = countHeadBytes();
    for (ternary::MatmulOp matmul : matmuls)
      model.matmuls.push_back(getShape(matmul));

    CostModel costModel(assumeCpu(*spec), *spec, /*numThreads=*/1);
    llvm::Expected<LayoutPlan> plan =
        (planner ? *planner : costModel).plan(model, named);
    if (!plan) {
      getOperation().emitError(llvm::toString(plan.takeError()));
      return signalPassFailure();
    }
    if (!plan->reason.empty())
      getOperation().emitRemark() << plan->reason;
    for (auto [matmul, choice] : llvm::zip_equal(matmuls, plan->choices))
      matmul.setLayoutAttr(ternary::LayoutAttr::getTrits(
          &getContext(), choice.packing, choice.schedule));
    // Equal matmuls have equal layouts: one remark is enough.
    for (size_t i = 0; i < matmuls.size(); ++i) {
      MatmulShape shape = model.matmuls[i];
      if (llvm::find(model.matmuls, shape) != model.matmuls.begin() + i)
        continue;
      matmuls[i].emitRemark()
          << llvm::count(model.matmuls, shape) << " of " << shape.rows << "x"
          << shape.cols << ": " << *matmuls[i].getLayout() << ", "
          << plan->details[i] << " (" << backend.getName() << " backend, "
          << spec->text << ")";
    }
  }

private:
  void selectHeads(ArrayRef<TargetSpec> sharing) {
    getOperation().walk([&](Operation *op) {
      if (auto head = dyn_cast<ternary::QuantizedLinearOp>(op)) {
        head.setLayoutAttr(
            getCodeLayout(&getContext(), head.getFormat(), sharing));
        head.emitRemark() << "head: " << *head.getLayout();
      } else if (auto linear = dyn_cast<ternary::LinearOp>(op)) {
        if (auto packing = getFloatPacking(linear.getWeight()))
          linear.setLayoutAttr(getHeadLayout(
              &getContext(), *packing, bool(linear.getGroups()), sharing));
      } else if (auto embedding = dyn_cast<ternary::EmbeddingOp>(op)) {
        // Others are plain rows, unless a head has them.
        auto packing = getFloatPacking(embedding.getTable());
        if (packing && ternary::isPackingOfBlocks(*packing))
          embedding.setLayoutAttr(getHeadLayout(&getContext(), *packing,
                                                /*ofGroups=*/false, sharing));
      }
    });
  }

  /// What a step reads beside ternary weights. Of a screened head it reads the
  /// copy; the few rows that it replaces do not count.
  int64_t countHeadBytes() {
    int64_t bytes = 0;
    getOperation().walk([&](Operation *op) {
      if (auto head = dyn_cast<ternary::QuantizedLinearOp>(op)) {
        auto shape = cast<ShapedType>(head.getWeight().getType()).getShape();
        bytes += head.getLayout()->getSize(shape[0], shape[1]);
      } else if (auto linear = dyn_cast<ternary::LinearOp>(op);
                 linear && !linear.getGroups()) {
        auto type = cast<ShapedType>(linear.getWeight().getType());
        bytes +=
            linear.getLayout()
                ? linear.getLayout()->getPackedBytes(type.getDimSize(0),
                                                     type.getDimSize(1))
                : llvm::divideCeil(
                      type.getNumElements() * type.getElementTypeBitWidth(), 8);
      }
    });
    return bytes;
  }

  LayoutPlanner *planner = nullptr;
};

} // namespace

std::unique_ptr<Pass> createSelectLayout(LayoutPlanner &planner,
                                         const SelectLayoutOptions &options) {
  return std::make_unique<SelectLayout>(planner, options);
}

} // namespace tercet
