// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// `tercet inspect` of an ONNX graph: its signature, its nodes, and which of
// them are BitLinears.

#ifndef TERCET_COMPILER_INSPECT_INSPECTGRAPH_H
#define TERCET_COMPILER_INSPECT_INSPECTGRAPH_H

#include "compiler/Inspect/InspectModel.h"

namespace tercet {

/// Prints a report of a module that has a @graph: as text, or as one JSON
/// object.
llvm::Error inspectGraph(mlir::ModuleOp module, RecognizeGraph recognize,
                         bool json, llvm::raw_ostream &os);

} // namespace tercet

#endif // TERCET_COMPILER_INSPECT_INSPECTGRAPH_H
