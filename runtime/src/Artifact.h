// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Opening the blob of tercet/artifact.h: everything the compiled code and the
// rest of the runtime trust is checked here, once.

#ifndef TERCET_RUNTIME_ARTIFACT_H
#define TERCET_RUNTIME_ARTIFACT_H

#include "runtime/src/Error.h"
#include "tercet/artifact.h"

#include <span>
#include <string>
#include <string_view>

namespace tercet {

/// XXH3-64, the hash of the format. The hash of what comes before as `seed`
/// makes one of several pieces.
uint64_t hashBytes(const void *data, uint64_t size, uint64_t seed = 0);

/// A validated blob. Copyable: it only points at the mapped bytes.
class Artifact {
public:
  /// Checks everything but the weights' hash, which reads the whole file.
  /// `available` is how many bytes of the blob are backed by the file: reading
  /// a mapping past the file's end is a SIGBUS, not an error code.
  static Error open(const void *blob, uint64_t available, Artifact &result);

  /// The blob linked into this executable or shared library.
  static Error openOwn(Artifact &result);

  const tercet_blob_header &header() const { return *head; }
  /// Empty when the artifact has no such section.
  std::string_view section(tercet_section_kind kind) const;
  std::string_view weights() const { return section(TERCET_SECTION_WEIGHTS); }
  const tercet_generation &generation() const { return generationDefaults; }
  /// Bytes that TERCET_KV_BLOCK positions take.
  uint64_t kvRowSize() const;

  Error checkWeights() const;
  /// Says which features the code needs and this CPU lacks.
  Error checkCpu(uint64_t cpuFeatures) const;

  /// checkCpu, and among several ISA levels the choice of the newest one that
  /// the CPU has, or of the one whose target is `forced` unless that is null.
  /// Must be asked before any compiled function is entered.
  Error selectLevel(uint64_t cpuFeatures, const char *forced) const;

  /// What the code that runs was compiled for: among several levels the one
  /// selected.
  const char *target() const;

  /// What was compiled, as JSON; among several levels also which one runs.
  std::string info() const;

private:
  std::span<const tercet_level> levels() const;
  /// Their targets, separated by `separator`.
  std::string joinLevels(const char *separator) const;
  const tercet_section *find(tercet_section_kind kind) const;

  const char *start = nullptr;
  const tercet_blob_header *head = nullptr;
  const tercet_section *sections = nullptr;
  tercet_generation generationDefaults{};
};

} // namespace tercet

#endif // TERCET_RUNTIME_ARTIFACT_H
