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
  /// Canonical spelling, e.g. "x86-64-v4+avx512vnni"; parses to the same code
  /// generation features.
  std::string text;
  /// LLVM triple, e.g. "x86_64-unknown-linux-gnu".
  std::string triple;
  /// LLVM's name of the base level, e.g. "x86-64-v4". A CPU given by name
  /// never adds features that cpuFeatures does not check at start.
  std::string cpu;
  /// LLVM's CPU name for scheduling decisions; equals `cpu` unless one was
  /// named or detected.
  std::string tuneCpu;
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

/// Parses the value of --target. Errors name the part that is wrong and the
/// nearest known spelling.
llvm::Expected<TargetSpec> parseTarget(llvm::StringRef text);

/// A base level of an architecture, for `tercet targets`.
struct TargetLevel {
  llvm::StringRef name;
  llvm::StringRef description;
  /// Features that '+' adds beyond this level and those that follow it.
  std::vector<llvm::StringRef> features;
};

/// Every base level, grouped by architecture, oldest first.
std::vector<TargetLevel> targetLevels();

/// Makes the LLVM backends that we generate code with known to LLVM.
/// Idempotent; parseTarget calls it.
void registerLLVMTargets();

/// Whether code for `target` is for this machine's architecture.
bool isHostArchitecture(const TargetSpec &target);

/// Bits of tercet_cpu_feature as --target spells them, lowest first.
std::vector<llvm::StringRef> cpuFeatureNames(uint64_t cpuFeatures);

} // namespace tercet

#endif // TERCET_COMPILER_TARGET_PARSETARGET_H
