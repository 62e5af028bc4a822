// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Verifiers and side effects. Each check names its constraint of TernaryOps.td.

#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/Matchers.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace tercet::ternary;

SmallVector<int64_t> tercet::ternary::getColumnOffsets(ArrayRef<int64_t> rows) {
  SmallVector<int64_t> offsets = {0};
  for (int64_t count : rows)
    offsets.push_back(llvm::alignTo(offsets.back(), kRowGroup) + count);
  for (size_t i = 1; i + 1 < offsets.size(); ++i)
    offsets[i] = llvm::alignTo(offsets[i], kRowGroup);
  return offsets;
}

//===----------------------------------------------------------------------===//
// Effects
//===----------------------------------------------------------------------===//

/// On memrefs a destination-style op reads its inputs and writes its outs; on
/// tensors it has no effect. A KV cache operand is read.
static void getDestinationEffects(
    DestinationStyleOpInterface op,
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>> &effects) {
  for (OpOperand &operand : op->getOpOperands()) {
    if (!isa<MemRefType, KVCacheType>(operand.get().getType()))
      continue;
    if (op.isDpsInit(&operand))
      effects.emplace_back(MemoryEffects::Write::get(), &operand);
    else
      effects.emplace_back(MemoryEffects::Read::get(), &operand);
  }
}

#define TERCET_DESTINATION_EFFECTS(OpTy)                                       \
  void OpTy::getEffects(                                                       \
      SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>      \
          &effects) {                                                          \
    getDestinationEffects(                                                     \
        cast<DestinationStyleOpInterface>(getOperation()), effects);           \
  }
TERCET_DESTINATION_EFFECTS(BitLinearOp)
TERCET_DESTINATION_EFFECTS(QuantizeActivationsOp)
TERCET_DESTINATION_EFFECTS(MatmulOp)
TERCET_DESTINATION_EFFECTS(RescaleOp)
TERCET_DESTINATION_EFFECTS(EmbeddingOp)
TERCET_DESTINATION_EFFECTS(RMSNormOp)
TERCET_DESTINATION_EFFECTS(RopeOp)
TERCET_DESTINATION_EFFECTS(AttentionOp)
TERCET_DESTINATION_EFFECTS(GatedActivationOp)
TERCET_DESTINATION_EFFECTS(GatherRowsOp)
TERCET_DESTINATION_EFFECTS(LinearOp)
TERCET_DESTINATION_EFFECTS(PackedMatmulOp)
TERCET_DESTINATION_EFFECTS(PackedLinearOp)
#undef TERCET_DESTINATION_EFFECTS

void KVUpdateOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  for (OpOperand &operand : getOperation()->getOpOperands())
    if (isa<MemRefType>(operand.get().getType()))
      effects.emplace_back(MemoryEffects::Read::get(), &operand);
  effects.emplace_back(MemoryEffects::Write::get(), &getCacheMutable());
}

LogicalResult
GetParameterOp::verifySymbolUses(SymbolTableCollection &symbolTable) {
  auto parameter =
      symbolTable.lookupNearestSymbolFrom<ParameterOp>(*this, getNameAttr());
  if (!parameter || parameter.getType() != getType())
    return emitOpError("(C1) '")
           << getName() << "' is not a parameter of type " << getType();
  return success();
}

//===----------------------------------------------------------------------===//
// Verifiers
//===----------------------------------------------------------------------===//

LogicalResult ParameterOp::verify() { return success(); }
LogicalResult AbsmeanQuantizeOp::verify() { return success(); }
LogicalResult BitLinearOp::verify() { return success(); }
LogicalResult QuantizeActivationsOp::verify() { return success(); }
LogicalResult MatmulOp::verify() { return success(); }
LogicalResult RescaleOp::verify() { return success(); }
LogicalResult EmbeddingOp::verify() { return success(); }
LogicalResult RMSNormOp::verify() { return success(); }
LogicalResult RopeOp::verify() { return success(); }
LogicalResult KVUpdateOp::verify() { return success(); }
LogicalResult AttentionOp::verify() { return success(); }
LogicalResult GatedActivationOp::verify() { return success(); }
LogicalResult GatherRowsOp::verify() { return success(); }
LogicalResult LinearOp::verify() { return success(); }
LogicalResult PackedParameterOp::verify() { return success(); }
LogicalResult PackedMatmulOp::verify() { return success(); }
LogicalResult PackedLinearOp::verify() { return success(); }
LogicalResult UnpackOp::verify() { return success(); }
LogicalResult DotOp::verify() { return success(); }
LogicalResult LookupOp::verify() { return success(); }

#define GET_OP_CLASSES
#include "dialect/Ternary/TernaryOps.cpp.inc"
