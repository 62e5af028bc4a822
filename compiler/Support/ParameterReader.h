// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The bytes behind ternary.parameter ops, decoded.

#ifndef TERCET_COMPILER_SUPPORT_PARAMETERREADER_H
#define TERCET_COMPILER_SUPPORT_PARAMETERREADER_H

#include "dialect/Ternary/Ternary.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/MemoryBuffer.h"

#include <memory>
#include <mutex>

namespace tercet {

/// Maps the files that parameters point at, once each. Every read may be called
/// from several threads at a time.
class ParameterReader {
public:
  /// Rows [begin, end) of a 2-D i2 parameter, row-major, as -1, 0, 1. Fails on
  /// the invalid code 3 of packed weights.
  llvm::Error readTrits(ternary::ParameterOp parameter, int64_t begin,
                        int64_t end, llvm::MutableArrayRef<int8_t> trits);

  /// Elements [begin, end), row-major, widened to f32: literals, float sources
  /// (of latent weights: the latent values), scales of ternary sources, rope
  /// tables.
  llvm::Error readFloats(ternary::ParameterOp parameter, int64_t begin,
                         int64_t end, llvm::MutableArrayRef<float> floats);

  /// Rows [begin, end) of a 2-D source as its encoding has them, in the order
  /// of the matrix.
  llvm::Error readRows(ternary::ParameterOp parameter, int64_t begin,
                       int64_t end, llvm::MutableArrayRef<uint8_t> rows);

  /// The bytes of a source as they are in its file.
  llvm::Expected<llvm::ArrayRef<uint8_t>>
  rawBytes(ternary::ParameterOp parameter);

private:
  std::mutex mutex;
  llvm::StringMap<std::unique_ptr<llvm::MemoryBuffer>> files;
};

/// Scale of latent weights: max(mean |w|, 1e-5), the mean in double, rounded to
/// f32.
llvm::Expected<float> computeAbsmean(ParameterReader &reader,
                                     ternary::ParameterOp parameter);

} // namespace tercet

#endif // TERCET_COMPILER_SUPPORT_PARAMETERREADER_H
