// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_FRONTENDS_ONNX_SORTNODES_H
#define TERCET_FRONTENDS_ONNX_SORTNODES_H

#include "frontends/ONNX/Functions.h"

#include "llvm/ADT/SmallVector.h"

namespace tercet::onnx {

/// The numbers of the nodes in topological order, as far as possible the
/// file's: next is always the first one whose inputs are there. Nodes that
/// depend on their own results are left out.
llvm::SmallVector<unsigned> sortNodes(const Nodes &nodes);

} // namespace tercet::onnx

#endif // TERCET_FRONTENDS_ONNX_SORTNODES_H
