// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_COMPILER_TARGET_X86_AMX_H
#define TERCET_COMPILER_TARGET_X86_AMX_H

#include "mlir/IR/PatternMatch.h"

namespace tercet {

/// `ternary.dot_block` by AMX-INT8.
void populateAMXLowerings(mlir::RewritePatternSet &patterns);

} // namespace tercet

#endif // TERCET_COMPILER_TARGET_X86_AMX_H
