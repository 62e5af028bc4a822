// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Executes what our kernels use of AVX-VNNI on CPUs that lack it: vpdpbusd, and
// vpdpwssd, which LLVM makes of a generic dot product. For tests: an
// instruction takes a signal.

#ifndef TERCET_TESTS_SUPPORT_AVXVNNI_AVXVNNIEMULATOR_H
#define TERCET_TESTS_SUPPORT_AVXVNNI_AVXVNNIEMULATOR_H

#include <cstdint>

namespace tercet::avxvnni {

/// From now on SIGILL executes, in every thread,
///   - both with VEX prefix, 128 and 256 bits, of registers and memory;
///   - the bytes 06 A2, no instruction in 64-bit mode, as a cpuid that reports
///     AVX-VNNI: a test writes them over the 0F A2 of a program.
/// Anything else ends the program as before. False where this CPU has no AVX2.
bool installEmulator();

/// Whether this CPU executes AVX-VNNI, so that nothing is emulated: a
/// hypervisor may hide an instruction, but cannot take it away. Call it after
/// `installEmulator`.
bool executesAVXVNNI();

/// How many dot products were emulated: what shows that a test took this way.
uint64_t countEmulated();

} // namespace tercet::avxvnni

#endif // TERCET_TESTS_SUPPORT_AVXVNNI_AVXVNNIEMULATOR_H
