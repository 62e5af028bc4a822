// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "dialect/Ternary/TernaryBufferization.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Bufferization/IR/BufferizableOpInterface.h"
#include "mlir/Dialect/Bufferization/IR/DstBufferizableOpInterfaceImpl.h"
#include "mlir/Dialect/Utils/StructuredOpsUtils.h"

using namespace mlir;
using namespace mlir::bufferization;
using namespace tercet::ternary;

namespace {

/// The op's operands with buffers in place of tensors.
FailureOr<SmallVector<Value>> getBuffers(Operation *op, RewriterBase &rewriter,
                                         const BufferizationOptions &options,
                                         BufferizationState &state) {
  SmallVector<Value> operands;
  for (Value operand : op->getOperands()) {
    if (!isa<TensorType>(operand.getType())) {
      operands.push_back(operand);
      continue;
    }
    FailureOr<Value> buffer = getBuffer(rewriter, operand, options, state);
    if (failed(buffer))
      return failure();
    operands.push_back(*buffer);
  }
  return operands;
}

/// Whether an op leaves a part of `outs` as it was.
bool writesPartially(Operation *op) {
  auto linear = dyn_cast<LinearOp>(op);
  auto packed = dyn_cast<PackedLinearOp>(op);
  return (linear && linear.getGroups()) || (packed && packed.getGroups());
}

/// Other destination-style ops write all of `outs` and never read it.
template <typename OpTy>
struct DestinationModel
    : DstBufferizableOpInterfaceExternalModel<DestinationModel<OpTy>, OpTy> {
  bool bufferizesToMemoryRead(Operation *op, OpOperand &operand,
                              const AnalysisState &state) const {
    return writesPartially(op) ||
           !cast<DestinationStyleOpInterface>(op).isDpsInit(&operand);
  }

  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options,
                          BufferizationState &state) const {
    auto operands = getBuffers(op, rewriter, options, state);
    if (failed(operands))
      return failure();
    rewriter.setInsertionPoint(op);
    Operation *onBuffers = clone(rewriter, op, TypeRange(), *operands);
    SmallVector<Value> results = llvm::to_vector(
        cast<DestinationStyleOpInterface>(onBuffers).getDpsInits());
    replaceOpWithBufferizedValues(rewriter, op, results);
    return success();
  }
};

/// Writes memory for its tables too, which has no result.
struct PackedMatmulModel : DestinationModel<PackedMatmulOp> {
  bool bufferizesToMemoryRead(Operation *op, OpOperand &operand,
                              const AnalysisState &state) const {
    return !isTables(op, operand) &&
           DestinationModel::bufferizesToMemoryRead(op, operand, state);
  }
  bool bufferizesToMemoryWrite(Operation *op, OpOperand &operand,
                               const AnalysisState &state) const {
    return isTables(op, operand) ||
           DestinationModel::bufferizesToMemoryWrite(op, operand, state);
  }

private:
  static bool isTables(Operation *op, OpOperand &operand) {
    return operand.get() == cast<PackedMatmulOp>(op).getTables();
  }
};

/// Reads its tensors, writes the cache, has no results.
struct KVUpdateModel
    : BufferizableOpInterface::ExternalModel<KVUpdateModel, KVUpdateOp> {
  bool bufferizesToMemoryRead(Operation *, OpOperand &,
                              const AnalysisState &) const {
    return true;
  }
  bool bufferizesToMemoryWrite(Operation *, OpOperand &,
                               const AnalysisState &) const {
    return false;
  }
  AliasingValueList getAliasingValues(Operation *, OpOperand &,
                                      const AnalysisState &) const {
    return {};
  }
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options,
                          BufferizationState &state) const {
    auto operands = getBuffers(op, rewriter, options, state);
    if (failed(operands))
      return failure();
    rewriter.setInsertionPoint(op);
    clone(rewriter, op, TypeRange(), *operands);
    rewriter.eraseOp(op);
    return success();
  }
};

/// A read-only place in the weights section.
struct PackedParameterModel
    : BufferizableOpInterface::ExternalModel<PackedParameterModel,
                                             PackedParameterOp> {
  bool isWritable(Operation *, Value, const AnalysisState &) const {
    return false;
  }
  FailureOr<BufferLikeType> getBufferType(Operation *op, Value value,
                                          const BufferizationOptions &,
                                          const BufferizationState &,
                                          SmallVector<Value> &) const {
    auto type = cast<RankedTensorType>(value.getType());
    return cast<BufferLikeType>(
        MemRefType::get(type.getShape(), type.getElementType()));
  }
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &,
                          BufferizationState &) const {
    auto type = cast<RankedTensorType>(op->getResult(0).getType());
    replaceOpWithNewBufferizedOp<PackedParameterOp>(
        rewriter, op, MemRefType::get(type.getShape(), type.getElementType()),
        cast<PackedParameterOp>(op).getOffset());
    return success();
  }
};

template <typename... OpTys>
void attachDestinationModels(MLIRContext *context) {
  (OpTys::template attachInterface<DestinationModel<OpTys>>(*context), ...);
}

} // namespace

void tercet::ternary::registerBufferizableOpInterfaces(
    DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, TernaryDialect *) {
    attachDestinationModels<QuantizeActivationsOp, EmbeddingOp, RMSNormOp,
                            RopeOp, AttentionOp, GatedActivationOp,
                            GatherRowsOp, LinearOp, PackedLinearOp,
                            QuantizeWideOp, PackedQuantizedLinearOp>(context);
    PackedMatmulOp::attachInterface<PackedMatmulModel>(*context);
    KVUpdateOp::attachInterface<KVUpdateModel>(*context);
    PackedParameterOp::attachInterface<PackedParameterModel>(*context);
  });
}
