// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_RUNTIME_CPUFEATURES_H
#define TERCET_RUNTIME_CPUFEATURES_H

#include <cstdint>
#include <string>

namespace tercet {

/// OR of tercet_cpu_feature: what the CPU has and the operating system saves.
uint64_t hostCpuFeatures();

/// The CPU's marketing name, or its architecture where it has none.
std::string hostCpuName();

/// "avx2 avx512f ...", the spelling of --target; bits nobody knows (an artifact
/// of a newer compiler) are named by number.
std::string describeCpuFeatures(uint64_t features);

} // namespace tercet

#endif // TERCET_RUNTIME_CPUFEATURES_H
