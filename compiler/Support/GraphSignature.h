// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What an ONNX graph takes and gives: from the attributes of @graph to the
// section that the runtime reads.

#ifndef TERCET_COMPILER_SUPPORT_GRAPHSIGNATURE_H
#define TERCET_COMPILER_SUPPORT_GRAPHSIGNATURE_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "tercet/artifact.h"
#include <string>
#include <vector>

namespace tercet {

struct GraphTensor {
  std::string name;
  mlir::RankedTensorType type; ///< with the signs of integers
  tercet_element element;
  /// One an axis: the name of an extent that the type leaves open, or "".
  std::vector<std::string> symbols;
};

struct GraphSignature {
  std::vector<GraphTensor> inputs, outputs;

  /// Reads the signature once the types of all results are known, after
  /// lower-onnx. Emits an error where the C ABI has no such tensor.
  static llvm::FailureOr<GraphSignature> get(mlir::func::FuncOp graph);

  /// The bytes of TERCET_SECTION_SIGNATURE.
  std::string encode() const;
};

} // namespace tercet

#endif // TERCET_COMPILER_SUPPORT_GRAPHSIGNATURE_H
