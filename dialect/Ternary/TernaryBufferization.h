// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_DIALECT_TERNARY_TERNARYBUFFERIZATION_H
#define TERCET_DIALECT_TERNARY_TERNARYBUFFERIZATION_H

namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace tercet::ternary {

/// Lets one-shot bufferisation handle the dialect's ops.
void registerBufferizableOpInterfaces(mlir::DialectRegistry &registry);

} // namespace tercet::ternary

#endif // TERCET_DIALECT_TERNARY_TERNARYBUFFERIZATION_H
