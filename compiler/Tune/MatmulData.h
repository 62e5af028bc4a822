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
#include <vector>

namespace tercet {

class MatmulData {
public:
  static llvm::Expected<MatmulData> create(MatmulShape shape,
                                           int64_t maxTokens);

  /// The bytes of all copies of the weights in a packing. With `isCached` they
  /// stay in the caches while they are in use.
  struct Footprint {
    ternary::Packing packing;
    int64_t bytes;
    bool isCached;
  };

  /// Spreads copies over the memory that all packings share. From then on
  /// kernels of these packings run, and of no others.
  llvm::Error spread(llvm::ArrayRef<Footprint> footprints);

  /// Calls until every copy that the caches shall hold was read.
  int64_t getWarmUpCalls(ternary::Packing packing) const {
    const Copies &copies = spreads.at(packing);
    return copies.areCached ? copies.count : 0;
  }

  /// Runs a kernel of this packing on the next copy of its weights.
  void run(const MatmulKernel &kernel, ternary::Packing packing,
           tercet_pool *pool);

  /// Whether the last result of so many tokens has the reference's bits.
  bool isExact(int64_t numTokens);

private:
  MatmulData(MatmulShape shape, int64_t maxTokens);
  void computeReference();
  llvm::ArrayRef<uint8_t> pack(ternary::Packing packing);

  MatmulShape shape;
  int64_t maxTokens;
  reference::Bytes trits, q;
  reference::Floats scale, scales;
  reference::Ints sum;
  std::optional<reference::Floats> expected; ///< of the tokens that repeat
  /// What kernels read and write by whole vectors, aligned as in an artifact.
  PageMemory alignedQ, y;

  std::map<ternary::Packing, std::vector<uint8_t>> packed;
  struct Copies {
    int64_t begin, stride, count, next = 0;
    bool areCached;
  };
  std::map<ternary::Packing, Copies> spreads;
  /// Fresh memory may take a second for a gigabyte, so it is kept.
  PageMemory arena;
};

} // namespace tercet

#endif // TERCET_COMPILER_TUNE_MATMULDATA_H
