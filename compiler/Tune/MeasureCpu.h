// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_COMPILER_TUNE_MEASURECPU_H
#define TERCET_COMPILER_TUNE_MEASURECPU_H

#include "compiler/Target/CpuDescription.h"

namespace tercet {

/// This CPU by CPUID and hwloc, without measuring: rates from `assumeCpu`.
llvm::Expected<CpuDescription> identifyCpu();

/// Whether this CPU runs code for a target.
bool canRun(const TargetSpec &target);

/// Measures how fast one thread and all of them read from each level.
llvm::Error measureReading(CpuDescription &cpu);

/// Measures the dot products of a target, and each packing's GEMV and GEMM from
/// the caches.
llvm::Error measureRates(CpuDescription &cpu, const TargetSpec &target);

/// Today, as 2026-11-28.
std::string getDate();

} // namespace tercet

#endif // TERCET_COMPILER_TUNE_MEASURECPU_H
