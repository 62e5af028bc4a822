// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The --target option: `native`, `BASE[+feature...]` or a CPU name.

#ifndef TERCET_COMPILER_TARGET_PARSETARGET_H
#define TERCET_COMPILER_TARGET_PARSETARGET_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <cstdint>
#include <string>
#include <vector>

namespace tercet {

/// What code is generated for.
struct TargetSpec {
  /// Canonical spelling, e.g. "x86-64-v4+avx512vnni". Parses to this spec.
  std::string text;
  /// LLVM triple, e.g. "x86_64-unknown-linux-gnu".
  std::string triple;
  /// LLVM's CPU name; sets the scheduling model and the base features.
  std::string cpu;
  /// LLVM features on top of `cpu`: "+avx512vnni".
  std::vector<std::string> llvmFeatures;
  /// OR of tercet_cpu_feature: what the code may use, checked at start.
  uint64_t cpuFeatures = 0;

  /// The features joined by commas, as TargetMachine takes them.
  std::string featureString() const;
  bool has(uint64_t features) const {
    return (cpuFeatures & features) == features;
  }
};

llvm::Expected<TargetSpec> parseTarget(llvm::StringRef text);

/// A named level of an architecture, for `tercet targets`.
struct TargetLevel {
  llvm::StringRef text;
  llvm::StringRef description;
};

/// The levels that are built and tested, oldest first.
llvm::ArrayRef<TargetLevel> knownTargetLevels();

/// Bits of tercet_cpu_feature as LLVM spells them, lowest first.
std::vector<llvm::StringRef> cpuFeatureNames(uint64_t cpuFeatures);

} // namespace tercet

#endif // TERCET_COMPILER_TARGET_PARSETARGET_H
