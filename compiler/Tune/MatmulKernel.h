// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The kernel of one ternary matmul, compiled as in an artifact and loaded into
// this process.

#ifndef TERCET_COMPILER_TUNE_MATMULKERNEL_H
#define TERCET_COMPILER_TUNE_MATMULKERNEL_H

#include "compiler/Target/LayoutPlanner.h"
#include "compiler/Tune/LoadedCode.h"
#include "runtime/src/Memory.h"
#include "tercet/artifact.h"

namespace tercet {

/// The operands of ternary.packed_matmul, row-major.
struct MatmulOperands {
  const int8_t *q;
  const float *scale;
  const int32_t *sum;
  const uint8_t *weights;
  const float *scales;
  float *y;
};

class MatmulKernel {
public:
  static llvm::Expected<MatmulKernel> compile(const TargetSpec &target,
                                              MatmulShape shape,
                                              int64_t numTokens,
                                              const LayoutChoice &choice);

  void run(const MatmulOperands &operands, tercet_pool *pool) const {
    function(operands.q, operands.scale, operands.sum, operands.weights,
             operands.scales, operands.y, tables.data(), pool);
  }

  /// Multiply-accumulates of some iterations of the target's dot products on
  /// registers alone.
  int64_t runDotPeak(int64_t iterations) const { return dotPeak(iterations); }

  uint64_t getScratchBytes() const { return scratchBytes; }

private:
  using Function = void(const int8_t *, const float *, const int32_t *,
                        const uint8_t *, const float *, float *, void *,
                        tercet_pool *);

  explicit MatmulKernel(LoadedCode code) : code(std::move(code)) {}

  LoadedCode code;
  Function *function = nullptr;
  int64_t (*dotPeak)(int64_t) = nullptr;
  uint64_t scratchBytes = 0;
  PageMemory tables; ///< of a packing that has them
};

/// A layout of trits as text, `#ternary.layout<...>`.
std::string printLayout(const LayoutChoice &choice);

/// The choice that a text stands for; nothing if it is none.
std::optional<LayoutChoice> parseLayout(llvm::StringRef text);

} // namespace tercet

#endif // TERCET_COMPILER_TUNE_MATMULKERNEL_H
