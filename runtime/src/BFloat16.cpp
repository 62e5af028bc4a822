// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A function that LLVM calls where a CPU has no instruction for it; compiler-rt
// and newer libgccs than Debian 12's have it.

#include <bit>
#include <cstdint>

#ifdef __wasm__ // It has no such type: LLVM passes the bits.
using BFloat16 = uint16_t;
#else
using BFloat16 = __bf16;
#endif

/// To the nearest, ties to even; a NaN stays one.
extern "C" BFloat16 __truncsfbf2(float value) {
  auto bits = std::bit_cast<uint32_t>(value);
  bool isNaN = (bits & 0x7fffffff) > 0x7f800000;
  bits = isNaN ? bits | 0x400000 : bits + 0x7fff + (bits >> 16 & 1);
  return std::bit_cast<BFloat16>(static_cast<uint16_t>(bits >> 16));
}
