// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Graphs that are wrong in one place: what a model of another exporter, or a
// damaged one, may look like.

#ifndef TERCET_TESTS_ONNX_MUTATIONS_H
#define TERCET_TESTS_ONNX_MUTATIONS_H

#include "compiler/Pipeline/Pipeline.h"

#include "llvm/Support/Error.h"

namespace tercet::test {

/// Lowers the graph as often as there are changes of an operand or an attribute
/// of one of its nodes. Each has to succeed or to be refused by a message that
/// names a node; an error lists what was not. The same changes every time.
/// `only` is part of the name of the changes to make; they are printed.
llvm::Error runMutations(mlir::ModuleOp graph, const CompileOptions &options,
                         llvm::StringRef only);

} // namespace tercet::test

#endif // TERCET_TESTS_ONNX_MUTATIONS_H
