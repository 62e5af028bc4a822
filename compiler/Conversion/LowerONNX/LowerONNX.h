// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// ONNX nodes to linalg, tensor, arith, math and scf: one pass over the nodes in
// their order. Each operator has a row in the table of its family.

#ifndef TERCET_COMPILER_CONVERSION_LOWERONNX_LOWERONNX_H
#define TERCET_COMPILER_CONVERSION_LOWERONNX_LOWERONNX_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace tercet {

class GraphBuilder;

#define GEN_PASS_DECL
#include "compiler/Conversion/LowerONNX/LowerONNX.h.inc"
#define GEN_PASS_REGISTRATION
#include "compiler/Conversion/LowerONNX/LowerONNX.h.inc"

/// Lowers the builder's node: reads its operands and attributes, sets all its
/// results in order. Reports why it cannot.
using Lowering = llvm::LogicalResult (*)(GraphBuilder &);

struct LoweringRow {
  llvm::StringLiteral name; // as onnx::getOpName has it
  Lowering lower;
};

llvm::ArrayRef<LoweringRow> getElementwiseLowerings();
llvm::ArrayRef<LoweringRow> getMatmulLowerings();
llvm::ArrayRef<LoweringRow> getTernaryLowerings();
llvm::ArrayRef<LoweringRow> getConvolutionLowerings();
llvm::ArrayRef<LoweringRow> getShapeLowerings();
llvm::ArrayRef<LoweringRow> getGatherLowerings();
llvm::ArrayRef<LoweringRow> getSliceLowerings();
llvm::ArrayRef<LoweringRow> getCreationLowerings();
llvm::ArrayRef<LoweringRow> getSelectionLowerings();
llvm::ArrayRef<LoweringRow> getReductionLowerings();
llvm::ArrayRef<LoweringRow> getExtremesLowerings();
llvm::ArrayRef<LoweringRow> getSoftmaxLowerings();
llvm::ArrayRef<LoweringRow> getNormalizationLowerings();
llvm::ArrayRef<LoweringRow> getResizeLowerings();
llvm::ArrayRef<LoweringRow> getSamplingLowerings();
llvm::ArrayRef<LoweringRow> getRecurrentLowerings();
llvm::ArrayRef<LoweringRow> getQuantizationLowerings();
llvm::ArrayRef<LoweringRow> getAttentionLowerings();
llvm::ArrayRef<LoweringRow> getMicrosoftAttentionLowerings();
llvm::ArrayRef<LoweringRow> getControlLowerings();
llvm::ArrayRef<LoweringRow> getLossLowerings();
llvm::ArrayRef<LoweringRow> getSignalLowerings();

/// Null when there is none.
Lowering findLowering(llvm::StringRef name);

} // namespace tercet

#endif // TERCET_COMPILER_CONVERSION_LOWERONNX_LOWERONNX_H
