// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/LowerKernels.h"

#include "compiler/Target/Backend.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Transforms/WalkPatternRewriteDriver.h"

namespace tercet {
#define GEN_PASS_DEF_LOWERKERNELS
#include "compiler/Conversion/LowerKernels/LowerKernels.h.inc"
} // namespace tercet

tercet::LowerKernelsOptions
tercet::getLowerKernelsOptions(const TargetSpec &target) {
  const Backend &backend = getBackend(target);
  LowerKernelsOptions options;
  options.accumulators = backend.getFloatAccumulators(target);
  options.maxDotCode = backend.getMaxDotCode(target);
  options.shiftsBytes = backend.shiftsBytes(target);
  options.dotsLanes = backend.dotsLanes(target);
  options.dotsTiles = backend.dotsTiles(target);
  options.masksBesideDots = backend.masksBesideDots(target);
  options.multipliesLanes = backend.multipliesLanes(target);
  options.interleavesBytes = backend.interleavesBytes(target);
  options.dotsBytes = backend.dotsBytes(target);
  options.widensF16 = backend.widensF16(target);
  options.prefetchesKeys = backend.prefetchesKeys(target);
  return options;
}

namespace {

struct LowerKernels : tercet::impl::LowerKernelsBase<LowerKernels> {
  using LowerKernelsBase::LowerKernelsBase;

  void runOnOperation() override {
    tercet::KernelOptions options;
    options.accumulators = accumulators;
    options.maxDotCode = maxDotCode;
    options.shiftsBytes = shiftsBytes;
    options.dotsLanes = dotsLanes;
    options.dotsTiles = dotsTiles;
    options.masksBesideDots = masksBesideDots;
    options.multipliesLanes = multipliesLanes;
    options.interleavesBytes = interleavesBytes;
    options.dotsBytes = dotsBytes;
    options.widensF16 = widensF16;
    options.prefetchesKeys = prefetchesKeys;
    mlir::RewritePatternSet patterns(&getContext());
    tercet::populateAttentionPatterns(patterns, options);
    tercet::populateElementwisePatterns(patterns);
    tercet::populateEmbeddingPatterns(patterns, options);
    tercet::populateFusedRowsPatterns(patterns);
    tercet::populateGatedActivationPatterns(patterns);
    tercet::populateGatherRowsPatterns(patterns);
    tercet::populateGenericPatterns(patterns, options);
    tercet::populateKVUpdatePatterns(patterns);
    tercet::populateLinearPatterns(patterns);
    tercet::populatePackedLinearPatterns(patterns, options);
    tercet::populatePackedMatmulPatterns(patterns, options);
    tercet::populatePackedQuantizedLinearPatterns(patterns, options);
    tercet::populateQuantizeActivationsPatterns(patterns);
    tercet::populateQuantizeWidePatterns(patterns);
    tercet::populateRMSNormPatterns(patterns);
    tercet::populateRopePatterns(patterns);
    mlir::walkAndApplyPatterns(getOperation(), std::move(patterns));
  }
};

} // namespace
