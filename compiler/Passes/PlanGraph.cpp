// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/BufferPlacement.h"
#include "compiler/Passes/Passes.h"
#include "dialect/ONNX/ONNX.h"
#include "dialect/Ternary/Ternary.h"
#include "tercet/graph.h"

#include "mlir/Conversion/LLVMCommon/MemRefBuilder.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/Utils/MemRefUtils.h"
#include "mlir/Interfaces/ViewLikeInterface.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_PLANGRAPH
#include "compiler/Passes/Passes.h.inc"

namespace {

/// tercet_evaluate, as the runtime calls it (tercet/artifact.h).
constexpr StringLiteral kFunctionName = "evaluate";

//===----------------------------------------------------------------------===//
// Lifetimes
//===----------------------------------------------------------------------===//

/// Whether a buffer may be seen outside of its block, or under another name
/// than that of a view.
bool escapes(Value buffer) {
  return llvm::any_of(buffer.getUsers(), [](Operation *user) {
    if (isa<ViewLikeOpInterface>(user))
      return llvm::any_of(user->getResults(), escapes);
    return user->hasTrait<OpTrait::IsTerminator>() ||
           llvm::any_of(user->getResultTypes(), llvm::IsaPred<MemRefType>);
  });
}

llvm::DenseMap<Operation *, int64_t> numberOps(Block &block) {
  llvm::DenseMap<Operation *, int64_t> order;
  for (auto [index, op] : llvm::enumerate(block))
    order[&op] = index;
  return order;
}

int64_t getSizeInBytes(MemRefType type) {
  return llvm::alignTo(type.getNumElements() *
                           llvm::divideCeil(type.getElementTypeBitWidth(), 8),
                       kBufferAlignment);
}

/// Puts what is static and does not escape into one allocation. A buffer in a
/// loop lives as long as the loop.
void shareArena(Block &body) {
  llvm::DenseMap<Operation *, int64_t> order = numberOps(body);
  SmallVector<Buffer> buffers;
  body.walk([&](memref::AllocOp alloc) {
    if (!alloc.getType().hasStaticShape() || escapes(alloc))
      return;
    Operation *begin = body.findAncestorOpInBlock(*alloc);
    int64_t last =
        begin == alloc ? getLastUse(alloc, body, order) : order.lookup(begin);
    buffers.push_back(
        {alloc, order.lookup(begin), last, getSizeInBytes(alloc.getType()), 0});
  });
  if (buffers.empty())
    return;
  int64_t size = assignOffsets(buffers);
  OpBuilder b(&body, body.begin());
  Location loc = buffers.front().alloc.getLoc();
  Value arena =
      memref::AllocOp::create(b, loc, MemRefType::get(size, b.getI8Type()));
  for (Buffer &buffer : buffers) {
    b.setInsertionPoint(buffer.alloc);
    Value offset = arith::ConstantIndexOp::create(b, loc, buffer.offset);
    Value view = memref::ViewOp::create(b, loc, buffer.alloc.getType(), arena,
                                        offset, ValueRange());
    buffer.alloc.replaceAllUsesWith(view);
    buffer.alloc.erase();
  }
  b.setInsertionPoint(body.getTerminator());
  memref::DeallocOp::create(b, loc, arena);
}

/// Frees the other buffers that do not escape after their last use.
void freeDynamic(Block &body) {
  body.walk([&](memref::AllocOp alloc) {
    if (alloc.getType().hasStaticShape() || escapes(alloc))
      return;
    Block &block = *alloc->getBlock();
    llvm::DenseMap<Operation *, int64_t> order = numberOps(block);
    int64_t last = std::max(getLastUse(alloc, block, order), order[alloc]);
    OpBuilder b(&block, std::next(block.begin(), last + 1));
    memref::DeallocOp::create(b, alloc.getLoc(), alloc);
  });
}

//===----------------------------------------------------------------------===//
// The signature
//===----------------------------------------------------------------------===//

/// tercet_graph_tensor
LLVM::LLVMStructType getTensorType(MLIRContext *context) {
  return LLVM::LLVMStructType::getLiteral(
      context, {LLVM::LLVMPointerType::get(context),
                LLVM::LLVMArrayType::get(IntegerType::get(context, 64),
                                         TERCET_MAX_RANK)});
}

/// The address of the data of tensor number `index`, or of extent `dim` of it.
Value getField(OpBuilder &b, Location loc, Value tensors, size_t index,
               std::optional<int64_t> dim = std::nullopt) {
  SmallVector<LLVM::GEPArg> path = {int32_t(index), dim ? 1 : 0};
  if (dim)
    path.push_back(int32_t(*dim));
  return LLVM::GEPOp::create(b, loc, LLVM::LLVMPointerType::get(b.getContext()),
                             getTensorType(b.getContext()), tensors, path);
}

struct PlanGraph : impl::PlanGraphBase<PlanGraph> {
  void runOnOperation() override;

private:
  void plan(func::FuncOp function);
  Value receiveInput(OpBuilder &b, Location loc, MemRefType type, Value inputs,
                     size_t index);
};

Value PlanGraph::receiveInput(OpBuilder &b, Location loc, MemRefType type,
                              Value inputs, size_t index) {
  Value data =
      LLVM::LoadOp::create(b, loc, LLVM::LLVMPointerType::get(&getContext()),
                           getField(b, loc, inputs, index));
  // A descriptor, which is what to-llvm makes of the memref.
  LLVMTypeConverter converter(&getContext());
  auto descriptor =
      MemRefDescriptor::poison(b, loc, converter.convertType(type));
  descriptor.setAllocatedPtr(b, loc, data);
  descriptor.setAlignedPtr(b, loc, data);
  descriptor.setConstantOffset(b, loc, 0);
  Value stride = LLVM::ConstantOp::create(b, loc, b.getI64Type(), 1);
  for (int64_t dim = type.getRank() - 1; dim >= 0; --dim) {
    descriptor.setStride(b, loc, dim, stride);
    Value size =
        type.isDynamicDim(dim)
            ? LLVM::LoadOp::create(b, loc, b.getI64Type(),
                                   getField(b, loc, inputs, index, dim))
                  .getResult()
            : LLVM::ConstantOp::create(b, loc, b.getI64Type(),
                                       type.getDimSize(dim))
                  .getResult();
    descriptor.setSize(b, loc, dim, size);
    stride = LLVM::MulOp::create(b, loc, stride, size);
  }
  return UnrealizedConversionCastOp::create(b, loc, type, Value(descriptor))
      .getResult(0);
}

void sendOutput(OpBuilder &b, Location loc, Value result, Value outputs,
                size_t index) {
  auto toI64 = [&](Value value) -> Value {
    return arith::IndexCastOp::create(b, loc, b.getI64Type(), value);
  };
  Value address =
      memref::ExtractAlignedPointerAsIndexOp::create(b, loc, result);
  Value data = LLVM::IntToPtrOp::create(
      b, loc, LLVM::LLVMPointerType::get(b.getContext()), toI64(address));
  LLVM::StoreOp::create(b, loc, data, getField(b, loc, outputs, index));
  auto type = cast<MemRefType>(result.getType());
  for (int64_t dim = 0; dim < type.getRank(); ++dim)
    LLVM::StoreOp::create(b, loc,
                          toI64(memref::DimOp::create(b, loc, result, dim)),
                          getField(b, loc, outputs, index, dim));
}

/// Results that the caller can own: each an allocation of its own, whole.
SmallVector<Value> ownResults(OpBuilder &b, Operation *terminator) {
  SmallVector<Value> results;
  llvm::SmallDenseSet<Value> owned;
  for (Value result : terminator->getOperands()) {
    Value root = result;
    while (auto view = root.getDefiningOp<ViewLikeOpInterface>()) {
      if (!isa<memref::CastOp, memref::CollapseShapeOp, memref::ExpandShapeOp>(
              view))
        break;
      root = view.getViewSource();
    }
    if (root.getDefiningOp<memref::AllocOp>() && owned.insert(root).second) {
      results.push_back(result);
      continue;
    }
    auto type = cast<MemRefType>(result.getType());
    Location loc = terminator->getLoc();
    SmallVector<Value> sizes;
    for (int64_t dim = 0; dim < type.getRank(); ++dim)
      if (type.isDynamicDim(dim))
        sizes.push_back(memref::DimOp::create(b, loc, result, dim));
    Value copy = memref::AllocOp::create(
        b, loc, MemRefType::get(type.getShape(), type.getElementType()), sizes);
    // A part of a tensor is not dense, though the function's type says so.
    auto cast = result.getDefiningOp<memref::CastOp>();
    linalg::CopyOp::create(b, loc, cast ? cast.getSource() : result, copy);
    results.push_back(copy);
  }
  return results;
}

void PlanGraph::plan(func::FuncOp function) {
  Block &body = function.getBody().front();
  Location loc = function.getLoc();
  OpBuilder b(body.getTerminator());
  SmallVector<Value> results = ownResults(b, body.getTerminator());
  body.getTerminator()->setOperands(results); // they escape
  shareArena(body);
  freeDynamic(body);
  body.getTerminator()->setOperands({});

  SmallVector<BlockArgument> old(body.getArguments());
  auto size =
      getOperation()->getAttrOfType<IntegerAttr>("ternary.weights_size");
  auto pointer = LLVM::LLVMPointerType::get(&getContext());
  SmallVector<Type> types = {
      MemRefType::get(std::max<int64_t>(size ? size.getInt() : 0, 1),
                      b.getI8Type()),
      pointer, pointer, pointer};
  SmallVector<Value> arguments; // weights, inputs, outputs, pool
  for (Type type : types)
    arguments.push_back(body.addArgument(type, loc));
  b.setInsertionPointToStart(&body);
  for (auto [index, argument] : llvm::enumerate(old))
    argument.replaceAllUsesWith(receiveInput(
        b, loc, cast<MemRefType>(argument.getType()), arguments[1], index));
  b.setInsertionPoint(body.getTerminator());
  for (auto [index, result] : llvm::enumerate(results))
    sendOutput(b, loc, result, arguments[2], index);

  body.walk([&](ternary::PackedParameterOp parameter) {
    b.setInsertionPoint(parameter);
    parameter.replaceAllUsesWith(
        memref::ViewOp::create(
            b, parameter.getLoc(), cast<MemRefType>(parameter.getType()),
            arguments[0], parameter.getOffset(), ValueRange())
            .getResult());
    parameter.erase();
  });

  body.eraseArguments(0, old.size());
  function.setFunctionType(b.getFunctionType(types, {}));
  function.setArgAttrsAttr(nullptr);
  function.setResAttrsAttr(nullptr);
  function.setSymName(kFunctionName);
}

/// Upstream lowers an expand_shape only where each group has at most one extent
/// that is known at run time; of a buffer without gaps the strides follow from
/// all extents.
void castExpandShape(memref::ExpandShapeOp expand) {
  MemRefType type = expand.getResultType();
  if (!type.getLayout().isIdentity())
    return;
  OpBuilder b(expand);
  Location loc = expand.getLoc();
  SmallVector<OpFoldResult> sizes = expand.getMixedOutputShape();
  SmallVector<OpFoldResult> strides =
      memref::computeStridesIRBlock(loc, b, sizes);
  for (auto [stride, known] :
       llvm::zip_equal(strides, type.getStridesAndOffset().first))
    if (!ShapedType::isDynamic(known))
      stride = b.getIndexAttr(known);
  Value cast = memref::ReinterpretCastOp::create(
      b, loc, type, expand.getSrc(), b.getIndexAttr(0), sizes, strides);
  expand.replaceAllUsesWith(cast);
  expand.erase();
}

void PlanGraph::runOnOperation() {
  auto graph = getOperation().lookupSymbol<func::FuncOp>(onnx::kGraphName);
  if (!graph)
    return;
  graph.walk([](memref::CopyOp copy) {
    OpBuilder b(copy);
    linalg::CopyOp::create(b, copy.getLoc(), copy.getSource(),
                           copy.getTarget());
    copy.erase();
  });
  elideCopies(graph);
  graph.walk(castExpandShape);
  plan(graph);
}

} // namespace
} // namespace tercet
