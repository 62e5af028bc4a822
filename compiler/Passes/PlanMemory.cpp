// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Interfaces/ViewLikeInterface.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_PLANMEMORY
#include "compiler/Passes/Passes.h.inc"

namespace {

constexpr int64_t kAlignment = 64;

/// The arguments of @step in C order (tercet_step in tercet/artifact.h). All
/// memrefs are static, so that each is one pointer; what their leading
/// dimension says is a bound.
enum StepArgument {
  Weights,
  Arena,
  Cache,
  Tokens,
  Positions,
  Slots,
  LogitRows,
  Logits,
  NumTokens,
  NumLogitRows,
  Pool,
  NumStepArguments
};

/// The arguments of the imported @step, in order.
enum ImportedArgument {
  ImportedTokens,
  ImportedPositions,
  ImportedSlots,
  ImportedLogitRows,
  ImportedCache,
  NumImportedArguments
};

/// A buffer to be placed: alive from op number `begin` to `end` of the block.
struct Buffer {
  memref::AllocOp alloc;
  int64_t begin, end, size, offset;
};

/// Last op of the block that uses `value`, directly, through a view of it, or
/// in a region.
int64_t getLastUse(Value value, Block &body,
                   const llvm::DenseMap<Operation *, int64_t> &order) {
  int64_t last = 0;
  for (Operation *user : value.getUsers()) {
    last = std::max(last, order.lookup(body.findAncestorOpInBlock(*user)));
    if (isa<ViewLikeOpInterface>(user))
      for (Value view : user->getResults())
        last = std::max(last, getLastUse(view, body, order));
  }
  return last;
}

/// Greedy by size: the biggest buffer first, each at the lowest offset where it
/// overlaps nothing that is alive at the same time. Returns the arena's size.
int64_t assignOffsets(MutableArrayRef<Buffer> buffers) {
  SmallVector<Buffer *> bySize, placed;
  for (Buffer &buffer : buffers)
    bySize.push_back(&buffer);
  llvm::sort(bySize, [](Buffer *a, Buffer *b) {
    return std::tie(b->size, a->begin) < std::tie(a->size, b->begin);
  });
  int64_t arenaSize = 0;
  for (Buffer *buffer : bySize) {
    int64_t offset = 0;
    for (Buffer *other : placed) { // sorted by offset
      bool alive = other->begin <= buffer->end && buffer->begin <= other->end;
      if (alive && offset + buffer->size > other->offset)
        offset = std::max(offset, other->offset + other->size);
    }
    buffer->offset = offset;
    arenaSize = std::max(arenaSize, offset + buffer->size);
    placed.insert(llvm::upper_bound(placed, buffer,
                                    [](Buffer *a, Buffer *b) {
                                      return a->offset < b->offset;
                                    }),
                  buffer);
  }
  return arenaSize;
}

struct PlanMemory : impl::PlanMemoryBase<PlanMemory> {
  using Base::Base;
  void runOnOperation() override;

private:
  LogicalResult checkSignature(func::FuncOp step);
  /// Bytes of a buffer when its dynamic dimension is at its capacity.
  int64_t getCapacityInBytes(MemRefType type);
};

LogicalResult PlanMemory::checkSignature(func::FuncOp step) {
  FunctionType type = step.getFunctionType();
  if (type.getNumInputs() != NumImportedArguments ||
      type.getNumResults() != 1 ||
      !isa<ternary::KVCacheType>(type.getInput(ImportedCache)) ||
      !llvm::all_of(type.getInputs().take_front(ImportedCache),
                    llvm::IsaPred<MemRefType>) ||
      !isa<MemRefType>(type.getResult(0)) || !step.getBody().hasOneBlock())
    return step.emitOpError("expected the signature of a language model's step "
                            "(docs/architecture.md)");
  // Writes to anything else would not reach the caller.
  if (!step.getBody()
           .front()
           .getTerminator()
           ->getOperand(0)
           .getDefiningOp<memref::AllocOp>())
    return step.emitOpError("expected to return a buffer of its own");
  return success();
}

int64_t PlanMemory::getCapacityInBytes(MemRefType type) {
  int64_t size = llvm::divideCeil(type.getElementTypeBitWidth(), 8);
  for (int64_t dim : type.getShape())
    size *= ShapedType::isDynamic(dim) ? maxStepTokens : dim;
  return llvm::alignTo(size, kAlignment);
}

void PlanMemory::runOnOperation() {
  ModuleOp module = getOperation();
  auto step = module.lookupSymbol<func::FuncOp>("step");
  if (!step) {
    module.emitError("expected a function @step");
    return signalPassFailure();
  }
  if (failed(checkSignature(step)))
    return signalPassFailure();
  Block &body = step.getBody().front();
  OpBuilder b(&body, body.begin());
  Location loc = step.getLoc();

  // Place the buffers. The result is the caller's.
  auto logits = step.getBody().front().getTerminator()->getOperand(0);
  llvm::DenseMap<Operation *, int64_t> order;
  for (auto [index, op] : llvm::enumerate(body))
    order[&op] = index;
  SmallVector<Buffer> buffers;
  for (auto alloc : body.getOps<memref::AllocOp>())
    if (alloc.getResult() != logits)
      buffers.push_back({alloc, order[alloc], getLastUse(alloc, body, order),
                         getCapacityInBytes(alloc.getType()), 0});
  int64_t arenaSize = assignOffsets(buffers);
  module->setAttr("ternary.arena_size", b.getI64IntegerAttr(arenaSize));
  auto weightsSize = module->getAttrOfType<IntegerAttr>("ternary.weights_size");

  // The C signature. The old arguments become views of the new ones.
  auto bytes = [&](int64_t size) {
    return MemRefType::get({std::max<int64_t>(size, 1)}, b.getI8Type());
  };
  auto logitsType = cast<MemRefType>(logits.getType());
  auto idsType = MemRefType::get({int64_t(maxStepTokens)}, b.getI32Type());
  SmallVector<Type> types(NumStepArguments);
  types[Weights] = bytes(weightsSize ? weightsSize.getInt() : 0);
  types[Arena] = bytes(arenaSize);
  types[Cache] = step.getArgument(ImportedCache).getType();
  types[Tokens] = types[Positions] = types[Slots] = types[LogitRows] = idsType;
  types[Logits] =
      MemRefType::get({int64_t(maxStepTokens), logitsType.getDimSize(1)},
                      logitsType.getElementType());
  types[NumTokens] = types[NumLogitRows] = b.getIndexType();
  types[Pool] = LLVM::LLVMPointerType::get(&getContext());

  SmallVector<Value> old(body.getArguments());
  for (Type type : types)
    body.addArgument(type, loc);
  ValueRange arguments = body.getArguments().drop_front(NumImportedArguments);

  auto sized = [&](Value full, Value count, MemRefType type) -> Value {
    SmallVector<OpFoldResult> sizes = {count}, strides;
    for (int64_t dim : type.getShape().drop_front())
      sizes.push_back(b.getIndexAttr(dim));
    int64_t stride = 1;
    for (int64_t dim : llvm::reverse(type.getShape())) {
      strides.insert(strides.begin(), b.getIndexAttr(stride));
      stride *= dim;
    }
    return memref::ReinterpretCastOp::create(
        b, loc, type, full, OpFoldResult(b.getIndexAttr(0)), sizes, strides);
  };
  // Sizes first: what asks an argument for its dimension asks for a count.
  auto bind = [&](Value value, Value full, Value count) {
    for (Operation *user : llvm::make_early_inc_range(value.getUsers()))
      if (auto dim = dyn_cast<memref::DimOp>(user))
        if (dim.getConstantIndex() == 0) {
          dim.replaceAllUsesWith(count);
          dim.erase();
        }
    value.replaceAllUsesWith(
        sized(full, count, cast<MemRefType>(value.getType())));
  };
  bind(old[ImportedTokens], arguments[Tokens], arguments[NumTokens]);
  bind(old[ImportedPositions], arguments[Positions], arguments[NumTokens]);
  bind(old[ImportedSlots], arguments[Slots], arguments[NumTokens]);
  bind(old[ImportedLogitRows], arguments[LogitRows], arguments[NumLogitRows]);
  old[ImportedCache].replaceAllUsesWith(arguments[Cache]);
  Operation *logitsAlloc = logits.getDefiningOp();
  logits.replaceAllUsesWith(
      sized(arguments[Logits], arguments[NumLogitRows], logitsType));
  logitsAlloc->erase();

  for (Buffer &buffer : buffers) {
    b.setInsertionPoint(buffer.alloc);
    Value offset = arith::ConstantIndexOp::create(b, loc, buffer.offset);
    Value view = memref::ViewOp::create(
        b, loc,
        MemRefType::get(buffer.alloc.getType().getShape(),
                        buffer.alloc.getType().getElementType()),
        arguments[Arena], offset, buffer.alloc.getDynamicSizes());
    buffer.alloc.replaceAllUsesWith(view);
    buffer.alloc.erase();
  }

  // Weights are views of their section.
  SmallVector<ternary::PackedParameterOp> parameters(
      body.getOps<ternary::PackedParameterOp>());
  for (ternary::PackedParameterOp parameter : parameters) {
    b.setInsertionPoint(parameter);
    parameter.replaceAllUsesWith(
        memref::ViewOp::create(
            b, parameter.getLoc(), cast<MemRefType>(parameter.getType()),
            arguments[Weights], parameter.getOffset(), ValueRange())
            .getResult());
    parameter.erase();
  }

  body.eraseArguments(0, NumImportedArguments);
  body.getTerminator()->setOperands({});
  step.setFunctionType(b.getFunctionType(types, {}));
  step.setArgAttrsAttr(nullptr);
  step.setResAttrsAttr(nullptr);
}

} // namespace
} // namespace tercet
