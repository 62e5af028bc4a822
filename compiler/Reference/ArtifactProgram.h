// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A compiled executable as a program that answers questions.

#ifndef TERCET_COMPILER_REFERENCE_ARTIFACTPROGRAM_H
#define TERCET_COMPILER_REFERENCE_ARTIFACTPROGRAM_H

#include "compiler/Reference/ReferenceOps.h"
#include "runtime/include/tercet/artifact.h"

#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"

namespace tercet::reference {

class ArtifactProgram {
public:
  explicit ArtifactProgram(llvm::StringRef path) : path(path) {}

  /// Of --info.
  struct Info {
    int64_t arenaSize, maxStepTokens;
  };
  llvm::Expected<Info> getInfo() const;

  /// [tokens, vocabulary]
  llvm::Expected<Floats> getLogits(llvm::ArrayRef<int32_t> tokens) const;

  /// Of a text file.
  llvm::Expected<double> getPerplexity(llvm::StringRef file) const;

  /// The bytes of the ranges, one after the other. The step of `tokens` must
  /// make `numCalls` calls.
  llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>>
  trace(llvm::ArrayRef<int32_t> tokens,
        llvm::ArrayRef<tercet_trace_range> ranges, uint64_t numCalls) const;

private:
  llvm::Expected<llvm::json::Value>
  executeForJson(llvm::ArrayRef<llvm::StringRef> arguments) const;
  llvm::Error execute(llvm::ArrayRef<llvm::StringRef> arguments,
                      llvm::StringRef output = "") const;

  llvm::StringRef path;
};

} // namespace tercet::reference

#endif // TERCET_COMPILER_REFERENCE_ARTIFACTPROGRAM_H
