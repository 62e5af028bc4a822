// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Support/Kernels.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace tercet;

bool tercet::isKernel(Operation *op) {
  return isa<ternary::KVUpdateOp, linalg::LinalgOp>(op) ||
         (isa<ternary::TernaryDialect>(op->getDialect()) &&
          isa<DestinationStyleOpInterface>(op));
}

std::string tercet::getLayerName(Operation *op) {
  std::string names;
  op->getLoc()->walk([&](Location location) {
    if (auto name = dyn_cast<NameLoc>(location))
      names += (names.empty() ? "" : " + ") + name.getName().str();
    return WalkResult::advance();
  });
  return names.empty() ? "?" : names;
}

/// " 3840x2560 t5": the matrix of a matmul as it is stored.
static std::string describeMatrix(Value input, Value outs, StringRef format) {
  auto columns = [](Value value) {
    return cast<ShapedType>(value.getType()).getShape().back();
  };
  return (" " + Twine(columns(outs)) + "x" + Twine(columns(input)) + " " +
          format)
      .str();
}

std::string tercet::listKernels(ModuleOp planned) {
  std::string text;
  auto step = planned.lookupSymbol<func::FuncOp>("step");
  if (!step)
    return text;
  for (Operation &op : step.getBody().front()) {
    if (!isKernel(&op))
      continue;
    if (auto fused = dyn_cast<ternary::FusedRowsOp>(op))
      text += llvm::join(
          llvm::map_range(fused.getBody().getOps(),
                          [](Operation &inner) {
                            return inner.getName().stripDialect().str();
                          }),
          " + ");
    else
      text += op.getName().stripDialect();
    llvm::TypeSwitch<Operation *>(&op)
        .Case([&](ternary::PackedMatmulOp matmul) {
          text += describeMatrix(
              matmul.getQ(), matmul.getOuts(),
              ternary::stringifyPacking(matmul.getLayout().getPacking()));
        })
        .Case([&](ternary::PackedLinearOp linear) {
          text += describeMatrix(
              linear.getX(), linear.getOuts(),
              ternary::stringifyPacking(linear.getLayout().getPacking()));
        })
        .Case([&](ternary::PackedQuantizedLinearOp linear) {
          text += describeMatrix(
              linear.getHigh(), linear.getOuts(),
              ternary::stringifyCodeFormat(linear.getLayout().getFormat()));
        });
    text += "\t" + getLayerName(&op) + "\n";
  }
  return text;
}
