// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Loop-level ternary ops on memrefs to kernels: each op becomes one
// one-dimensional scf.parallel over independent items (tokens, heads, row
// tiles), whose body is scf.for, vector, arith, math and memref. The float
// order is that of docs/numerics.md; a kernel chooses only which chains run
// beside each other.

#ifndef TERCET_COMPILER_CONVERSION_LOWERKERNELS_H
#define TERCET_COMPILER_CONVERSION_LOWERKERNELS_H

#include "mlir/IR/PatternMatch.h"
#include "mlir/Pass/Pass.h"

namespace tercet {

struct TargetSpec;

/// What a kernel's blocking depends on.
struct KernelOptions {
  /// vector<16xf32> accumulators that stay in registers beside the operands of
  /// their fma: 16 with 32 512-bit registers, 4 with 16 256-bit registers or 32
  /// 128-bit ones.
  int64_t accumulators = 16;
  /// What Backend says of ternary.dot and its like.
  int64_t maxDotCode = 255;
  bool shiftsBytes = false, dotsLanes = false, dotsTiles = false,
       masksBesideDots = false;
  /// What it says of lanes as operands of fma, and of bytes of words.
  bool multipliesLanes = false, interleavesBytes = false;
  /// And of ternary.dot and f16 as instructions.
  bool dotsBytes = false, widensF16 = false;
  /// And of the CPU's prefetchers in a KV cache.
  bool prefetchesKeys = false;
};

#define GEN_PASS_DECL
#include "compiler/Conversion/LowerKernels/LowerKernels.h.inc"
#define GEN_PASS_REGISTRATION
#include "compiler/Conversion/LowerKernels/LowerKernels.h.inc"

/// What the backend of `target` says.
LowerKernelsOptions getLowerKernelsOptions(const TargetSpec &target);

void populateAttentionPatterns(mlir::RewritePatternSet &patterns,
                               KernelOptions options = {});
void populateElementwisePatterns(mlir::RewritePatternSet &patterns);
void populateEmbeddingPatterns(mlir::RewritePatternSet &patterns,
                               KernelOptions options = {});
void populateFusedRowsPatterns(mlir::RewritePatternSet &patterns);
void populateGatedActivationPatterns(mlir::RewritePatternSet &patterns);
void populateGatherRowsPatterns(mlir::RewritePatternSet &patterns);
void populateGenericPatterns(mlir::RewritePatternSet &patterns,
                             KernelOptions options);
void populateKVUpdatePatterns(mlir::RewritePatternSet &patterns);
void populateLinearPatterns(mlir::RewritePatternSet &patterns);
void populatePackedLinearPatterns(mlir::RewritePatternSet &patterns,
                                  KernelOptions options = {});
void populatePackedMatmulPatterns(mlir::RewritePatternSet &patterns,
                                  KernelOptions options);
void populatePackedQuantizedLinearPatterns(mlir::RewritePatternSet &patterns,
                                           KernelOptions options);
void populateQuantizeActivationsPatterns(mlir::RewritePatternSet &patterns);
void populateQuantizeWidePatterns(mlir::RewritePatternSet &patterns);
void populateRMSNormPatterns(mlir::RewritePatternSet &patterns);
void populateRopePatterns(mlir::RewritePatternSet &patterns);

} // namespace tercet

#endif // TERCET_COMPILER_CONVERSION_LOWERKERNELS_H
