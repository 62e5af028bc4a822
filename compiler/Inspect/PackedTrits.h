// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Facts about packed trits (codes w + 1, four a byte), without unpacking them.

#ifndef TERCET_COMPILER_INSPECT_PACKEDTRITS_H
#define TERCET_COMPILER_INSPECT_PACKEDTRITS_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/bit.h"
#include <cstring>

namespace tercet {

/// Whether some code is 3, which stands for no trit.
inline bool anyCode3(llvm::ArrayRef<uint8_t> bytes) {
  uint8_t both = 0;
  for (uint8_t byte : bytes)
    both |= byte & byte >> 1;
  return both & 0x55;
}

/// Counts codes 1. The bytes hold no code 3.
inline uint64_t countZeroTrits(llvm::ArrayRef<uint8_t> bytes) {
  uint64_t zeros = 0;
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    uint64_t word;
    memcpy(&word, bytes.data() + i, 8);
    zeros += llvm::popcount(word & 0x5555555555555555);
  }
  for (; i < bytes.size(); ++i)
    zeros += llvm::popcount(uint8_t(bytes[i] & 0x55));
  return zeros;
}

/// Absmean leaves 25 % (uniform weights) or more at zero; under 5 % means that
/// a converter kept the signs. Small matrices prove nothing.
inline bool isSignOnly(uint64_t zeros, uint64_t count) {
  return count >= 1024 && zeros < count / 20;
}

} // namespace tercet

#endif // TERCET_COMPILER_INSPECT_PACKEDTRITS_H
