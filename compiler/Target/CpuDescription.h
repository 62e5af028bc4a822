// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the choice of packings and schedules depends on of a CPU, beyond its
// instructions: who holds weights, and how fast they come from there. Measured
// (compiler/Tune/MeasureCpu.h), or assumed.

#ifndef TERCET_COMPILER_TARGET_CPUDESCRIPTION_H
#define TERCET_COMPILER_TARGET_CPUDESCRIPTION_H

#include "compiler/Target/ParseTarget.h"
#include "dialect/Ternary/Ternary.h"

#include "llvm/Support/JSON.h"

#include <map>

namespace tercet {

/// A cache, or memory.
struct MemoryLevel {
  std::string name; ///< "L2", "L3", "memory"
  int64_t sizeInBytes;
  unsigned numCpus; ///< that share one
  /// Bytes per second that one core reads, and all CPUs together. 0: not
  /// measured.
  double readByOne = 0, readByAll = 0;
};

/// Multiply-accumulates per second of one core, with weights in its caches.
struct MatmulRates {
  double gemv = 0, gemm = 0;
};

struct TargetRates {
  double dotPeak = 0; ///< of dot products on registers
  std::map<ternary::Packing, MatmulRates> packings;
};

struct CpuDescription {
  /// As CPUID has them: names of brands depend on the hypervisor. 0: unknown.
  std::string vendor;
  unsigned family = 0, model = 0, stepping = 0;
  std::string target; ///< what --target=native stands for
  unsigned numCpus = 1;
  /// The nearest first, and memory last; first-level caches hold no weights.
  std::vector<MemoryLevel> levels;
  /// By target.
  std::map<std::string, TargetRates> rates;
  std::string date;       ///< of the measurement; empty: nothing was measured
  bool isAssumed = false; ///< caches, too

  /// Equal for CPUs that have the same instructions and caches.
  std::string getIdentity() const;
  /// Powers of two of bytes per second from memory: machines with the same CPU
  /// differ in their memory, and one machine from day to day.
  int getBandwidthClass() const;
};

/// A CPU that nobody has described, with every instruction of the target.
CpuDescription assumeCpu(const TargetSpec &target);

llvm::json::Value toJSON(const CpuDescription &cpu);
bool fromJSON(const llvm::json::Value &value, CpuDescription &cpu,
              llvm::json::Path path);

} // namespace tercet

#endif // TERCET_COMPILER_TARGET_CPUDESCRIPTION_H
