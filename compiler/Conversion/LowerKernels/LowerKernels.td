// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_COMPILER_CONVERSION_LOWERKERNELS_TD
#define TERCET_COMPILER_CONVERSION_LOWERKERNELS_TD

include "mlir/Pass/PassBase.td"

def LowerKernels : Pass<"lower-kernels"> {
  let summary = "Lower loop-level ternary ops on memrefs to vector kernels";
  let description = [{
    Each op becomes one `scf.parallel` of one dimension over independent items.
    Bodies may use `ternary.worker_scratch`. Loops that the generator unrolled
    carry an annotation that keeps LLVM from doing it again.

    ```mlir
    ternary.rms_norm ins(%x, %w : memref<?x64xf32>, memref<64xf32>)
                     outs(%y : memref<?x64xf32>) epsilon = 1.0e-05 : f32
    // becomes
    %n = memref.dim %x, %c0 : memref<?x64xf32>
    scf.parallel (%token) = (%c0) to (%n) step (%c1) { ... }
    ```
  }];
  let options = [
    Option<"accumulators", "accumulators", "int64_t", "16",
           "vector<16xf32> accumulators that stay in registers">,
    Option<"maxDotCode", "max-dot-code", "int64_t", "255",
           "ternary.dot is exact for codes up to this only, unless it is wide">,
    Option<"shiftsBytes", "shifts-bytes", "bool", "false",
           "shifts of bytes are instructions">,
    Option<"dotsLanes", "dots-lanes", "bool", "false",
           "ternary.dot with one lane of q for all rows is an instruction">,
    Option<"dotsTiles", "dots-tiles", "bool", "false",
           "products of two rows by two tokens are an instruction">,
    Option<"masksBesideDots", "masks-beside-dots", "bool", "false",
           "a vector is masked while another one is multiplied">,
    Option<"multipliesLanes", "multiplies-lanes", "bool", "false",
           "an fma with one lane of a vector for all lanes is an instruction">,
    Option<"interleavesBytes", "interleaves-bytes", "bool", "false",
           "the even bytes of two vectors by turns are an instruction">,
    Option<"dotsBytes", "dots-bytes", "bool", "false",
           "ternary.dot is an instruction for all codes">,
    Option<"widensF16", "widens-f16", "bool", "false",
           "conversion of f16 to f32 is an instruction">,
    Option<"prefetchesKeys", "prefetches-keys", "bool", "false",
           "attention fetches the keys and values of the next block">
  ];
  let dependentDialects = [
    "::mlir::affine::AffineDialect", "::mlir::arith::ArithDialect", "::mlir::LLVM::LLVMDialect",
    "::mlir::math::MathDialect", "::mlir::memref::MemRefDialect",
    "::mlir::scf::SCFDialect", "::mlir::vector::VectorDialect"
  ];
}

#endif // TERCET_COMPILER_CONVERSION_LOWERKERNELS_TD
