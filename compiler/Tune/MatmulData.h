// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operands of a ternary matmul for measuring: random ones, the weights as often
// as a model of some size would have others, and what has to come out.

#ifndef TERCET_COMPILER_TUNE_MATMULDATA_H
#define TERCET_COMPILER_TUNE_MATMULDATA_H

#include "compiler/Reference/ReferenceOps.h"
#include "compiler/Tune/MatmulKernel.h"
#include "runtime/src/Memory.h"

#include <map>

namespace tercet {

class MatmulData {
public:
  static llvm::Expected<MatmulData> create(MatmulShape shape,
                                           int64_t maxTokens);

  /// Packs the weights, unless they are packed, in so many copies that all have
  /// `footprint` bytes. With `isCached` they stay in the caches while they are
  /// in use.
  llvm::Error pack(ternary::Packing packing, int64_t footprint, bool isCached);

  /// Calls until every copy that the caches shall hold was read.
  int64_t getWarmUpCalls(ternary::Packing packing) const {
    const PackedWeights &weights = packed.at(packing);
    return weights.isCached ? weights.numCopies : 0;
  }

  /// Runs a kernel of this packing on the next copy of its weights.
  void run(const MatmulKernel &kernel, ternary::Packing packing,
           tercet_pool *pool);

  /// Whether the last result of so many tokens has the reference's bits.
  bool isExact(int64_t numTokens);

private:
  MatmulData(MatmulShape shape, int64_t maxTokens);
  void computeReference();

  MatmulShape shape;
  int64_t maxTokens;
  reference::Bytes trits, q;
  reference::Floats scale, scales;
  reference::Ints sum;
  std::optional<reference::Floats> expected; ///< of the tokens that repeat
  /// What kernels read and write by whole vectors, aligned as in an artifact.
  PageMemory alignedQ, y;

  struct PackedWeights {
    PageMemory memory;
    int64_t stride = 0, numCopies = 0, next = 0;
    bool isCached = false;
  };
  std::map<ternary::Packing, PackedWeights> packed;
};

} // namespace tercet

#endif // TERCET_COMPILER_TUNE_MATMULDATA_H
