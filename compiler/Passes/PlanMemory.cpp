// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/BufferPlacement.h"
#include "compiler/Passes/Passes.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_PLANMEMORY
#include "compiler/Passes/Passes.h.inc"

namespace {

/// A function that the runtime calls, in terms of its imported signature. In C
/// (tercet/artifact.h) it takes, in this order:
///   weights, arena, the KV cache if it has one, the other arguments, the
///   result if that is no argument, a size for each distinct leading dimension,
///   pool
/// All memrefs are static, so that each is one pointer; what their leading
/// dimension says is a bound.
struct Entry {
  StringRef name;
  /// The number of the size that each argument's leading dimension is, without
  /// the cache, then the result's.
  SmallVector<unsigned> sizes;
};

const Entry kEntries[] = {
    // tokens, positions, slots and logit_rows; logits or hidden states
    {"step", {0, 0, 0, 1, 1}},
    // hidden states; approximations
    {"screen", {0, 0}},
    // hidden states, groups, logits; those logits
    {"head_rows", {0, 1, 0, 0}},
};

struct PlanMemory : impl::PlanMemoryBase<PlanMemory> {
  using Base::Base;
  void runOnOperation() override;

private:
  /// Gives a function its C signature; returns the bytes of arena that it
  /// needs.
  int64_t plan(func::FuncOp function, const Entry &entry);
  /// Bytes of a buffer when its dynamic dimension is at its capacity.
  int64_t getCapacityInBytes(MemRefType type);
};

/// The type of an argument with `capacity` as its leading dimension.
MemRefType getFullType(Value argument, int64_t capacity) {
  auto type = cast<MemRefType>(argument.getType());
  SmallVector<int64_t> shape(type.getShape());
  shape[0] = capacity;
  return MemRefType::get(shape, type.getElementType());
}

LogicalResult checkSignature(func::FuncOp function, const Entry &entry) {
  FunctionType type = function.getFunctionType();
  unsigned numCaches =
      llvm::count_if(type.getInputs(), llvm::IsaPred<ternary::KVCacheType>);
  unsigned numMemRefs =
      llvm::count_if(type.getInputs(), llvm::IsaPred<MemRefType>);
  if (numCaches != (entry.name == "step") ||
      numMemRefs + 1 != entry.sizes.size() ||
      numCaches + numMemRefs != type.getNumInputs() ||
      type.getNumResults() != 1 || !isa<MemRefType>(type.getResult(0)) ||
      !function.getBody().hasOneBlock())
    return function.emitOpError("expected the signature of a language model's ")
           << entry.name << " (docs/architecture.md)";
  // Writes to anything else would not reach the caller.
  Value result = function.getBody().front().getTerminator()->getOperand(0);
  bool isArgument = isa<BlockArgument>(result) && entry.name == "head_rows";
  if (!isArgument && !result.getDefiningOp<memref::AllocOp>())
    return function.emitOpError("expected to return a buffer of its own");
  return success();
}

int64_t PlanMemory::getCapacityInBytes(MemRefType type) {
  int64_t size = llvm::divideCeil(type.getElementTypeBitWidth(), 8);
  for (int64_t dim : type.getShape())
    size *= ShapedType::isDynamic(dim) ? maxStepTokens : dim;
  return llvm::alignTo(size, kBufferAlignment);
}

/// The buffers of a function but for its result, with their places in
/// `buffers`.
int64_t placeBuffers(Block &body, Value result,
                     llvm::function_ref<int64_t(MemRefType)> getSize,
                     SmallVectorImpl<Buffer> &buffers) {
  llvm::DenseMap<Operation *, int64_t> order;
  for (auto [index, op] : llvm::enumerate(body))
    order[&op] = index;
  for (auto alloc : body.getOps<memref::AllocOp>())
    if (alloc.getResult() != result)
      buffers.push_back({alloc, order[alloc], getLastUse(alloc, body, order),
                         getSize(alloc.getType()), 0});
  return assignOffsets(buffers);
}

/// A view of the first `count` rows of `full`.
Value takeRows(OpBuilder &b, Location loc, Value full, Value count,
               MemRefType type) {
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
}

int64_t PlanMemory::plan(func::FuncOp function, const Entry &entry) {
  Block &body = function.getBody().front();
  OpBuilder b(&body, body.begin());
  Location loc = function.getLoc();
  Value result = body.getTerminator()->getOperand(0);
  bool ownsResult = !isa<BlockArgument>(result);
  SmallVector<Buffer> buffers;
  int64_t arenaSize = placeBuffers(
      body, result, [&](MemRefType type) { return getCapacityInBytes(type); },
      buffers);

  // The C signature. The old arguments become views of the new ones.
  SmallVector<BlockArgument> old(body.getArguments());
  SmallVector<Type> types;
  auto addArgument = [&](Type type) -> Value {
    types.push_back(type);
    return body.addArgument(type, loc);
  };
  auto bytes = [&](int64_t size) {
    return MemRefType::get({std::max<int64_t>(size, 1)}, b.getI8Type());
  };
  auto weightsSize =
      getOperation()->getAttrOfType<IntegerAttr>("ternary.weights_size");
  Value weights = addArgument(bytes(weightsSize ? weightsSize.getInt() : 0));
  Value arena = addArgument(bytes(arenaSize));
  for (BlockArgument argument : old)
    if (isa<ternary::KVCacheType>(argument.getType()))
      argument.replaceAllUsesWith(addArgument(argument.getType()));
  SmallVector<std::pair<Value, Value>> bound; // the old and the new
  for (BlockArgument argument : old)
    if (isa<MemRefType>(argument.getType())) {
      bool isGroups = entry.name == "head_rows" && bound.size() == 1;
      int64_t capacity =
          isGroups ? llvm::divideCeil(
                         cast<MemRefType>(result.getType()).getShape().back(),
                         ternary::kRowGroup)
                   : int64_t(maxStepTokens);
      bound.push_back({argument, addArgument(getFullType(argument, capacity))});
    }
  if (ownsResult)
    bound.push_back({result, addArgument(getFullType(result, maxStepTokens))});
  SmallVector<Value> sizes;
  for (unsigned i = 0; i <= *llvm::max_element(entry.sizes); ++i)
    sizes.push_back(addArgument(b.getIndexType()));
  addArgument(LLVM::LLVMPointerType::get(&getContext()));

  for (auto [pair, number] : llvm::zip(bound, entry.sizes)) {
    auto [value, full] = pair;
    // Sizes first: what asks an argument for its dimension asks for a size.
    for (Operation *user : llvm::make_early_inc_range(value.getUsers()))
      if (auto dim = dyn_cast<memref::DimOp>(user))
        if (dim.getConstantIndex() == 0) {
          dim.replaceAllUsesWith(sizes[number]);
          dim.erase();
        }
    Value rows = takeRows(b, loc, full, sizes[number],
                          cast<MemRefType>(value.getType()));
    value.replaceAllUsesWith(rows);
  }
  if (ownsResult)
    result.getDefiningOp()->erase();

  for (Buffer &buffer : buffers) {
    b.setInsertionPoint(buffer.alloc);
    Value offset = arith::ConstantIndexOp::create(b, loc, buffer.offset);
    Value view = memref::ViewOp::create(
        b, loc,
        MemRefType::get(buffer.alloc.getType().getShape(),
                        buffer.alloc.getType().getElementType()),
        arena, offset, buffer.alloc.getDynamicSizes());
    buffer.alloc.replaceAllUsesWith(view);
    buffer.alloc.erase();
  }

  // Weights are views of their section.
  SmallVector<ternary::PackedParameterOp> parameters(
      body.getOps<ternary::PackedParameterOp>());
  for (ternary::PackedParameterOp parameter : parameters) {
    b.setInsertionPoint(parameter);
    parameter.replaceAllUsesWith(
        memref::ViewOp::create(b, parameter.getLoc(),
                               cast<MemRefType>(parameter.getType()), weights,
                               parameter.getOffset(), ValueRange())
            .getResult());
    parameter.erase();
  }

  body.eraseArguments(0, old.size());
  body.getTerminator()->setOperands({});
  function.setFunctionType(b.getFunctionType(types, {}));
  function.setArgAttrsAttr(nullptr);
  function.setResAttrsAttr(nullptr);
  return arenaSize;
}

void PlanMemory::runOnOperation() {
  ModuleOp module = getOperation();
  if (module.lookupSymbol<func::FuncOp>("graph"))
    return; // PlanGraph
  if (!module.lookupSymbol<func::FuncOp>("step")) {
    module.emitError("expected a function @step");
    return signalPassFailure();
  }
  int64_t arenaSize = 0;
  for (const Entry &entry : kEntries)
    if (auto function = module.lookupSymbol<func::FuncOp>(entry.name)) {
      if (failed(checkSignature(function, entry)))
        return signalPassFailure();
      arenaSize = std::max(arenaSize, plan(function, entry));
    }
  module->setAttr("ternary.arena_size",
                  Builder(&getContext()).getI64IntegerAttr(arenaSize));
}

} // namespace
} // namespace tercet
