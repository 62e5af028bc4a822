// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_COMPILER_CONVERSION_LOWERONNX_TD
#define TERCET_COMPILER_CONVERSION_LOWERONNX_TD

include "mlir/Pass/PassBase.td"

def LowerONNX : Pass<"lower-onnx", "::mlir::ModuleOp"> {
  let summary = "Lower the nodes of @graph to linalg, tensor, arith, math and scf";
  let description = [{
    Shapes of values follow from those of the graph's inputs: static where they can
    be, otherwise computed when the graph runs. Constants of more than 64 elements
    become parameters. Arguments and results get `onnx.type`, their type with signs.
  }];
  let dependentDialects = [
    "::mlir::affine::AffineDialect", "::mlir::arith::ArithDialect",
    "::mlir::cf::ControlFlowDialect", "::mlir::linalg::LinalgDialect",
    "::mlir::math::MathDialect", "::mlir::scf::SCFDialect",
    "::mlir::tensor::TensorDialect", "::tercet::ternary::TernaryDialect"
  ];
}

#endif // TERCET_COMPILER_CONVERSION_LOWERONNX_TD
