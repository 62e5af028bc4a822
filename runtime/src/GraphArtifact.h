// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_RUNTIME_GRAPHARTIFACT_H
#define TERCET_RUNTIME_GRAPHARTIFACT_H

#include "runtime/src/Artifact.h"
#include "runtime/src/Graph.h"

#include <memory>

namespace tercet {

/// The graph linked into this executable or shared library, checked against
/// damage and this CPU.
class GraphArtifact {
public:
  /// Checks only; cheap enough for --info.
  static Error openOwn(GraphArtifact &result);

  const Artifact &artifact() const { return source; }
  const Signature &signature() const { return names; }

  /// Makes the weights resident; 0 threads: availableThreads().
  Error load(int numThreads, std::unique_ptr<Graph> &result) const;

private:
  Artifact source;
  Signature names;
};

} // namespace tercet

#endif // TERCET_RUNTIME_GRAPHARTIFACT_H
