// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"
#include "compiler/Passes/WorkEstimate.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mlir/Transforms/RegionUtils.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_OUTLINEPARALLEL
#include "compiler/Passes/Passes.h.inc"

namespace {

/// What a loop over items does for those below a count, and for the others.
struct Kinds {
  scf::IfOp choice;
  Value count;
};

/// The kinds of a loop whose items are of two.
std::optional<Kinds> matchKinds(scf::ForOp items) {
  Block &body = *items.getBody();
  auto choice = body.getOperations().size() < 2
                    ? nullptr
                    : dyn_cast<scf::IfOp>(*std::next(body.rbegin()));
  if (!choice || choice.getNumResults() != 0 || !choice.elseBlock() ||
      !llvm::all_of(llvm::make_range(body.begin(), choice->getIterator()),
                    [](Operation &op) { return isPure(&op); }))
    return {};
  auto isLess = choice.getCondition().getDefiningOp<arith::CmpIOp>();
  if (!isLess || isLess.getPredicate() != arith::CmpIPredicate::ult ||
      isLess.getLhs() != items.getInductionVar() ||
      !items.isDefinedOutsideOfLoop(isLess.getRhs()))
    return {};
  return Kinds{choice, isLess.getRhs()};
}

/// Leaves one of the two branches.
void replaceByBranch(scf::IfOp choice, Block *branch) {
  branch->getTerminator()->erase();
  choice->getBlock()->getOperations().splice(choice->getIterator(),
                                             branch->getOperations());
  choice.erase();
}

/// Items of two kinds, one after the other:
///   scf.for %i = %begin to %end { scf.if %i < %count { A } else { B } }
/// become two loops, so that constants of one kind take no registers in the
/// loops of the other:
///   scf.for %i = %begin to min(%end, %count) { A }
///   scf.for %i = max(%begin, %count) to %end { B }
void separateKinds(scf::ForOp items) {
  std::optional<Kinds> kinds = matchKinds(items);
  if (!kinds)
    return;
  Location loc = items.getLoc();
  OpBuilder b(items);
  Value end =
      arith::MinSIOp::create(b, loc, items.getUpperBound(), kinds->count);
  Value begin =
      arith::MaxSIOp::create(b, loc, items.getLowerBound(), kinds->count);
  b.setInsertionPointAfter(items);
  auto others = cast<scf::ForOp>(b.clone(*items));
  items.setUpperBound(end);
  others.setLowerBound(begin);
  scf::IfOp choice = matchKinds(others)->choice;
  replaceByBranch(choice, choice.elseBlock());
  replaceByBranch(kinds->choice, kinds->choice.thenBlock());
}

/// scf.parallel over items 0..n:
///   scf.parallel (%i) = (%c0) to (%n) step (%c1) { ... }
/// becomes a function of the captured values and a range of items, and a call
/// through the pool:
///   func.func private @step_0(captures.., %begin, %end, %scratch) {
///     scf.for %i = %begin to %end step %c1 { ... }
///   }
///   ternary.parallel_for @step_0(captures) items %n work %work pool %pool
class Outliner {
public:
  Outliner(scf::ParallelOp loop, StringRef name, bool separatesKinds)
      : loop(loop), name(name), separatesKinds(separatesKinds) {}

  /// Returns the bytes of scratch memory that a worker needs.
  FailureOr<int64_t> outline() {
    if (loop.getNumLoops() != 1 || loop.getNumReductions() != 0 ||
        getConstantIntValue(loop.getLowerBound()[0]) != 0 ||
        getConstantIntValue(loop.getStep()[0]) != 1)
      return loop.emitOpError("expected items 0 to n, one by one");
    auto parent = loop->getParentOfType<func::FuncOp>();
    pool = findPool(parent);
    if (!pool)
      return loop.emitOpError("expected a function with the thread pool as an "
                              "argument (plan-memory adds it)");

    loop.walk([&](ternary::WorkerScratchOp op) {
      auto type = cast<MemRefType>(op.getType());
      scratchSize =
          std::max(scratchSize,
                   type.getNumElements() * type.getElementTypeBitWidth() / 8);
    });
    partitionCaptures();
    decomposeDynamic();
    func::FuncOp function = createFunction(parent);
    OpBuilder b(loop);
    Value work = estimateWork(loop);
    if (!work)
      work = arith::ConstantIndexOp::create(b, loop.getLoc(), -1);
    ternary::ParallelForOp::create(b, loop.getLoc(), function.getSymName(),
                                   pool, loop.getUpperBound()[0], work,
                                   captures.getArrayRef());
    loop.erase();
    return scratchSize;
  }

private:
  /// The last pointer argument (PlanMemory, PlanGraph).
  static Value findPool(func::FuncOp function) {
    for (BlockArgument argument : llvm::reverse(function.getArguments()))
      if (isa<LLVM::LLVMPointerType>(argument.getType()))
        return argument;
    return {};
  }

  /// Values that the body uses are recomputed in it when they are views or
  /// constants (a memref then is one pointer), captured when they are function
  /// arguments or numbers.
  void partitionCaptures() {
    SetVector<Value> used;
    getUsedValuesDefinedAbove(loop.getRegion(), used);
    for (Value value : used)
      visit(value);
  }

  void visit(Value value) {
    Operation *def = value.getDefiningOp();
    bool isNumber = value.getType().isIntOrIndexOrFloat();
    bool recompute = def && isPure(def) &&
                     (!isNumber || def->hasTrait<OpTrait::ConstantLike>());
    if (!recompute) {
      captures.insert(value);
      return;
    }
    if (recomputed.contains(def))
      return;
    for (Value operand : def->getOperands())
      visit(operand);
    recomputed.insert(def);
  }

  /// A memref that crosses a function is one pointer. The sizes, strides and
  /// offset of one that has any at run time cross beside it:
  ///   %base, %offset, %sizes, %strides = memref.extract_strided_metadata %m
  /// and memref.reinterpret_cast in the function.
  void decomposeDynamic() {
    OpBuilder b(loop);
    SetVector<Value> flat;
    for (Value capture : captures) {
      auto type = dyn_cast<MemRefType>(capture.getType());
      SmallVector<int64_t> strides;
      int64_t offset;
      if (!type || (type.hasStaticShape() &&
                    succeeded(type.getStridesAndOffset(strides, offset)) &&
                    offset == 0 && type.getLayout().isIdentity())) {
        flat.insert(capture);
        continue;
      }
      auto metadata =
          memref::ExtractStridedMetadataOp::create(b, loop.getLoc(), capture);
      for (Value part : metadata->getResults())
        flat.insert(part);
      decomposed.push_back({capture, metadata});
    }
    captures = std::move(flat);
  }

  func::FuncOp createFunction(func::FuncOp parent) {
    OpBuilder b(parent);
    Location loc = loop.getLoc();
    SmallVector<Type> types;
    for (Value capture : captures)
      types.push_back(capture.getType());
    auto scratchType =
        MemRefType::get({std::max<int64_t>(scratchSize, 1)}, b.getI8Type());
    types.append({b.getIndexType(), b.getIndexType(), scratchType});
    auto function =
        func::FuncOp::create(b, loc, name, b.getFunctionType(types, {}));
    function.setPrivate();

    Block *entry = function.addEntryBlock();
    b.setInsertionPointToStart(entry);
    IRMapping mapping;
    for (auto [capture, argument] : llvm::zip(captures, entry->getArguments()))
      mapping.map(capture, argument);
    for (auto [value, metadata] : decomposed) {
      auto type = cast<MemRefType>(value.getType());
      auto take = [&](ValueRange parts) {
        return llvm::map_to_vector(parts, [&](Value part) -> OpFoldResult {
          return mapping.lookup(part);
        });
      };
      // Static parts are not looked at; the type has them.
      auto fix = [](SmallVector<OpFoldResult> parts, ArrayRef<int64_t> known,
                    Builder &b) {
        for (auto [part, value] : llvm::zip(parts, known))
          if (!ShapedType::isDynamic(value))
            part = b.getIndexAttr(value);
        return parts;
      };
      SmallVector<int64_t> strides;
      int64_t offset;
      (void)type.getStridesAndOffset(strides, offset);
      mapping.map(value,
                  memref::ReinterpretCastOp::create(
                      b, loc, type, mapping.lookup(metadata.getBaseBuffer()),
                      fix(take(metadata.getOffset()), offset, b)[0],
                      fix(take(metadata.getSizes()), type.getShape(), b),
                      fix(take(metadata.getStrides()), strides, b))
                      .getResult());
    }
    for (Operation *op : recomputed)
      b.clone(*op, mapping);
    auto [begin, end, scratch] =
        std::tuple(entry->getArgument(captures.size()),
                   entry->getArgument(captures.size() + 1),
                   entry->getArgument(captures.size() + 2));
    Value one = arith::ConstantIndexOp::create(b, loc, 1);
    auto items = scf::ForOp::create(b, loc, begin, end, one);
    func::ReturnOp::create(b, loc);

    b.setInsertionPointToStart(items.getBody());
    mapping.map(loop.getInductionVars()[0], items.getInductionVar());
    for (Operation &op : loop.getBody()->without_terminator())
      b.clone(op, mapping);
    function.walk([&, scratch = scratch](ternary::WorkerScratchOp op) {
      OpBuilder b(op);
      Value zero = arith::ConstantIndexOp::create(b, loc, 0);
      op.replaceAllUsesWith(memref::ViewOp::create(b, loc, op.getType(),
                                                   scratch, zero, ValueRange())
                                .getResult());
      op.erase();
    });
    if (separatesKinds)
      separateKinds(items);
    return function;
  }

  scf::ParallelOp loop;
  StringRef name;
  bool separatesKinds;
  Value pool;
  int64_t scratchSize = 0; ///< bytes
  SetVector<Value> captures;
  SmallVector<std::pair<Value, memref::ExtractStridedMetadataOp>> decomposed;
  SetVector<Operation *> recomputed; // in topological order
};

struct OutlineParallel : impl::OutlineParallelBase<OutlineParallel> {
  using OutlineParallelBase::OutlineParallelBase;
  void runOnOperation() override {
    int64_t scratchSize = 0;
    SmallVector<func::FuncOp> functions(getOperation().getOps<func::FuncOp>());
    for (func::FuncOp function : functions) {
      SmallVector<scf::ParallelOp> loops;
      function.walk<WalkOrder::PreOrder>([&](scf::ParallelOp loop) {
        loops.push_back(loop);
        return WalkResult::skip(); // what is nested runs inside its item
      });
      for (auto [number, loop] : llvm::enumerate(loops)) {
        std::string name =
            (function.getSymName() + "_" + std::to_string(number)).str();
        FailureOr<int64_t> size =
            Outliner(loop, name, separatesKinds).outline();
        if (failed(size))
          return signalPassFailure();
        scratchSize = std::max(scratchSize, *size);
      }
    }
    getOperation()->setAttr(
        "ternary.scratch_size",
        Builder(&getContext()).getI64IntegerAttr(scratchSize));
  }
};

} // namespace
} // namespace tercet
