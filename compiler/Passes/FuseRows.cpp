// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mlir/Interfaces/ViewLikeInterface.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_FUSEROWS
#include "compiler/Passes/Passes.h.inc"

namespace {

/// Whether its result may be where its first operand is.
bool worksInPlace(Operation *op) { return isa<ternary::RMSNormOp>(op); }

bool reads(Operation *op, Value buffer) {
  auto destination = dyn_cast<DestinationStyleOpInterface>(op);
  if (!destination || !isa<ternary::TernaryDialect>(op->getDialect()))
    return llvm::is_contained(op->getOperands(), buffer);
  return llvm::any_of(
      destination.getDpsInputOperands(),
      [&](OpOperand *operand) { return operand->get() == buffer; });
}

auto getResults(Operation *op) {
  return cast<DestinationStyleOpInterface>(op).getDpsInits();
}

/// Ops of a block, each of which reads what the one before it wrote, with
/// nothing that has effects between them.
class Chain {
public:
  /// Whether `op` is the next one of it.
  bool add(Operation *op) {
    if (!op->hasTrait<ternary::WorksOnRows>() ||
        (!ops.empty() &&
         !llvm::is_contained(getResults(ops.back()), op->getOperand(0))))
      return false;
    ops.push_back(op);
    return true;
  }

  /// Fuses what there is, if it is more than one op, and begins anew.
  void finish() {
    if (ops.size() > 1)
      fuse();
    *this = Chain();
  }

private:
  void fuse();
  void placeResult(Operation *writer, Value result);
  bool isLeftToRead(Operation *writer, Value result);

  SmallVector<Operation *> ops;
  SetVector<Value> ins, outs;
  llvm::DenseMap<Value, unsigned> rowOf; ///< of results that are no buffers
  SmallVector<Type> rows;
};

/// Whether anything beyond the chain reads what `writer` writes. Buffers may be
/// shared by ops one after the other: what overwrites one ends it.
bool Chain::isLeftToRead(Operation *writer, Value buffer) {
  Operation *next = nullptr;
  for (Operation *user : buffer.getUsers()) {
    if (isa<memref::DimOp>(user))
      continue;
    if (isa<ViewLikeOpInterface>(user) ||
        user->getBlock() != writer->getBlock())
      return true;
    if (user == writer)
      continue;
    if (llvm::is_contained(ops, user)) {
      if (user->isBeforeInBlock(writer) ||
          llvm::is_contained(getResults(user), buffer))
        return true;
    } else if (ops.back()->isBeforeInBlock(user)) {
      if (!next || user->isBeforeInBlock(next))
        next = user;
    }
  }
  return next && reads(next, buffer);
}

void Chain::placeResult(Operation *writer, Value result) {
  auto numReaders =
      llvm::count_if(ops, [&](Operation *op) { return reads(op, result); });
  if (numReaders == 0 || !result.getDefiningOp<memref::AllocOp>() ||
      isLeftToRead(writer, result)) {
    outs.insert(result);
    return;
  }
  Value first = writer->getOperand(0);
  auto row = rowOf.find(first);
  if (row != rowOf.end() && worksInPlace(writer) &&
      llvm::count_if(ops, [&](Operation *op) { return reads(op, first); }) ==
          1) {
    rowOf[result] = row->second;
    return;
  }
  auto type = cast<MemRefType>(result.getType());
  rowOf[result] = rows.size();
  rows.push_back(MemRefType::get(
      {ShapedType::kDynamic, type.getDimSize(1)}, type.getElementType(),
      StridedLayoutAttr::get(type.getContext(), /*offset=*/0, {0, 1})));
}

void Chain::fuse() {
  for (Operation *op : ops) {
    auto destination = cast<DestinationStyleOpInterface>(op);
    for (OpOperand *input : destination.getDpsInputOperands())
      if (!rowOf.contains(input->get()) && !outs.contains(input->get()))
        ins.insert(input->get());
    for (Value result : destination.getDpsInits())
      placeResult(op, result);
  }

  OpBuilder b(ops.back());
  Location loc = b.getFusedLoc(
      llvm::map_to_vector(ops, [](Operation *op) { return op->getLoc(); }));
  auto fused = ternary::FusedRowsOp::create(b, loc, ins.getArrayRef(),
                                            outs.getArrayRef());
  Block &block = fused.getBody().emplaceBlock();
  IRMapping mapping;
  for (Value operand : fused->getOperands())
    mapping.map(operand, block.addArgument(operand.getType(), loc));
  for (Type row : rows)
    block.addArgument(row, loc);
  for (auto [result, row] : rowOf)
    mapping.map(result, block.getArgument(fused->getNumOperands() + row));
  b.setInsertionPointToStart(&block);
  for (Operation *op : ops)
    b.clone(*op, mapping);
  for (Operation *op : llvm::reverse(ops))
    op->erase();
  for (auto [result, row] : rowOf)
    if (result.use_empty())
      result.getDefiningOp()->erase();
}

struct FuseRows : impl::FuseRowsBase<FuseRows> {
  void runOnOperation() override {
    for (Block &block : getOperation().getBody()) {
      Chain chain;
      for (Operation &op : llvm::make_early_inc_range(block)) {
        if (isPure(&op) || isa<memref::AllocOp>(op) || chain.add(&op))
          continue;
        chain.finish();
        chain.add(&op);
      }
      chain.finish();
    }
  }
};

} // namespace
} // namespace tercet
