// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/GraphArtifact.h"
#include "runtime/src/CpuFeatures.h"

#include <cstdlib>

using namespace tercet;

Error GraphArtifact::openOwn(GraphArtifact &result) {
  if (Error error = Artifact::openOwn(result.source))
    return error;
  if (Error error =
          result.source.selectLevel(hostCpuFeatures(), getenv("TERCET_TARGET")))
    return error;
  return Signature::open(result.source.section(TERCET_SECTION_SIGNATURE),
                         result.names);
}

Error GraphArtifact::load(int numThreads,
                          std::unique_ptr<Graph> &result) const {
  std::string_view weights = source.weights();
  populateForReading(weights.data(), weights.size());
  auto graph =
      std::make_unique<Graph>(&tercet_evaluate, names, weights.data(),
                              numThreads, source.header().scratch_size);
  if (!graph->isValid())
    return errnoError("allocate memory for the threads");
  result = std::move(graph);
  return Error::success();
}
