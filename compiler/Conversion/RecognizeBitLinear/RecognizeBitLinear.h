// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The BitLinear layers of an ONNX graph, in every form that training frameworks
// and quantisation tools write them, to one node each.

#ifndef TERCET_COMPILER_CONVERSION_RECOGNIZEBITLINEAR_H
#define TERCET_COMPILER_CONVERSION_RECOGNIZEBITLINEAR_H

#include "mlir/IR/BuiltinAttributeInterfaces.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "llvm/Support/Error.h"

namespace tercet {

#define GEN_PASS_DECL
#include "compiler/Conversion/RecognizeBitLinear/RecognizeBitLinear.h.inc"
#define GEN_PASS_REGISTRATION
#include "compiler/Conversion/RecognizeBitLinear/RecognizeBitLinear.h.inc"

/// Runs the @graph of a module, which has no inputs, and returns its outputs.
using GraphEvaluator =
    std::function<llvm::Expected<llvm::SmallVector<mlir::ElementsAttr>>(
        mlir::OwningOpRef<mlir::ModuleOp>)>;

/// Evaluates the nodes whose operands are constants; those that `evaluate`
/// fails on stay, with a remark.
std::unique_ptr<mlir::Pass> createFoldConstants(GraphEvaluator evaluate);

} // namespace tercet

#endif // TERCET_COMPILER_CONVERSION_RECOGNIZEBITLINEAR_H
