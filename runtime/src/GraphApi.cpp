// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// tercet/graph.h over Graph and the artifact that this code is linked into.
// Arguments are checked here, because the caller is not us.

#include "runtime/src/GraphArtifact.h"

#include <algorithm>

using namespace tercet;

struct tercet_graph {
  GraphArtifact artifact;
  std::unique_ptr<Graph> graph;
};

static thread_local std::string lastError;

static int fail(tercet_graph_status status, std::string message) {
  lastError = std::move(message);
  return status;
}

static int failNull() {
  return fail(TERCET_GRAPH_ERROR_ARGUMENT, "a required pointer is null");
}

const char *tercet_graph_last_error(void) { return lastError.c_str(); }

int tercet_graph_open(const tercet_graph_options *options,
                      tercet_graph **result) {
  if (!result)
    return failNull();
  auto opened = std::make_unique<tercet_graph>();
  if (Error error = GraphArtifact::openOwn(opened->artifact))
    return fail(TERCET_GRAPH_ERROR_ARTIFACT, error.message());
  int threads =
      options ? static_cast<int>(std::min(options->num_threads, 1024u)) : 0;
  if (Error error = opened->artifact.load(threads, opened->graph))
    return fail(TERCET_GRAPH_ERROR_MEMORY, error.message());
  *result = opened.release();
  return TERCET_GRAPH_OK;
}

void tercet_graph_close(tercet_graph *graph) { delete graph; }

int tercet_graph_get_info(const tercet_graph *graph, tercet_graph_info *info) {
  if (!graph || !info)
    return failNull();
  const Artifact &artifact = graph->artifact.artifact();
  const Signature &signature = graph->graph->signature();
  std::string_view json = artifact.section(TERCET_SECTION_INFO);
  *info = {.num_inputs = static_cast<uint32_t>(signature.inputs().size()),
           .num_outputs = static_cast<uint32_t>(signature.outputs().size()),
           .weights_size = artifact.weights().size(),
           .target = artifact.target(),
           .json = json.data(),
           .json_size = json.size()};
  return TERCET_GRAPH_OK;
}

static int describe(const Signature &signature,
                    std::span<const Signature::Tensor> tensors, uint32_t index,
                    tercet_graph_description *description) {
  if (index >= tensors.size())
    return fail(TERCET_GRAPH_ERROR_ARGUMENT,
                format("index %u of %zu", index, tensors.size()));
  const Signature::Tensor &tensor = tensors[index];
  const ElementType &type = *findElementType(tensor.element);
  *description = {.name = signature.name(tensor),
                  .element_name = type.name,
                  .element = type.element,
                  .element_size = type.size,
                  .rank = tensor.rank};
  for (uint32_t axis = 0; axis < TERCET_MAX_RANK; ++axis) {
    int64_t extent = axis < tensor.rank ? tensor.dims[axis] : 0;
    description->dims[axis] = std::max<int64_t>(extent, -1);
    description->symbols[axis] = extent < 0 ? signature.symbol(extent) : "";
  }
  return TERCET_GRAPH_OK;
}

int tercet_graph_get_input(const tercet_graph *graph, uint32_t index,
                           tercet_graph_description *description) {
  if (!graph || !description)
    return failNull();
  const Signature &signature = graph->graph->signature();
  return describe(signature, signature.inputs(), index, description);
}

int tercet_graph_get_output(const tercet_graph *graph, uint32_t index,
                            tercet_graph_description *description) {
  if (!graph || !description)
    return failNull();
  const Signature &signature = graph->graph->signature();
  return describe(signature, signature.outputs(), index, description);
}

int tercet_graph_run(tercet_graph *graph, const tercet_graph_tensor *inputs,
                     tercet_graph_tensor *outputs) {
  if (!graph)
    return failNull();
  const Signature &signature = graph->graph->signature();
  std::span given(inputs, signature.inputs().size());
  if ((!inputs && !given.empty()) || !outputs)
    return failNull();
  for (size_t i = 0; i < given.size(); ++i) {
    int64_t size;
    if (!given[i].data &&
        (!sizeInBytes(signature.inputs()[i], given[i].shape, size) || size))
      return failNull();
  }
  if (Error error = graph->graph->check(given))
    return fail(TERCET_GRAPH_ERROR_ARGUMENT, error.message());
  if (Error error = graph->graph->run(
          given, std::span(outputs, signature.outputs().size())))
    return fail(TERCET_GRAPH_ERROR_RUN, error.message());
  return TERCET_GRAPH_OK;
}
