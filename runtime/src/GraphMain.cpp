// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// main() of a compiled graph.

#include "runtime/src/Console.h"
#include "runtime/src/CpuFeatures.h"
#include "runtime/src/GraphArtifact.h"
#include "runtime/src/GraphCommandLine.h"
#include "runtime/src/Json.h"
#include "runtime/src/Memory.h"
#include "runtime/src/Npy.h"

#include <algorithm>

using namespace tercet;

//===----------------------------------------------------------------------===//
// Names and files
//===----------------------------------------------------------------------===//

using Tensors = std::span<const Signature::Tensor>;

/// "image f32[batch, 784], mask bool[batch]".
static std::string listTensors(const Signature &signature, Tensors tensors) {
  std::string text;
  for (const Signature::Tensor &tensor : tensors)
    text += (text.empty() ? "" : ", ") + std::string(signature.name(tensor)) +
            " " + signature.describe(tensor);
  return text.empty() ? "none" : text;
}

/// Sorts the NAME=FILE arguments of one flag by tensor; a tensor that is not
/// named has no file. `kind` is "input" or "output".
static Error matchFiles(const Signature &signature, Tensors tensors,
                        const std::string &kind,
                        const std::vector<std::string> &arguments,
                        std::vector<std::string> &files) {
  files.assign(tensors.size(), "");
  for (const std::string &argument : arguments) {
    std::string wrong = "--" + kind + " " + argument + ": ";
    size_t i = 0;
    std::string prefix;
    for (; i < tensors.size(); ++i) {
      prefix = std::string(signature.name(tensors[i])) + "=";
      if (argument.starts_with(prefix))
        break;
    }
    if (i == tensors.size())
      return Error(wrong + "expected NAME=FILE with a NAME of this graph's " +
                   kind + "s: " + listTensors(signature, tensors));
    if (!files[i].empty())
      return Error(wrong + "this " + kind + " has a file already");
    files[i] = argument.substr(prefix.size());
    if (files[i].empty())
      return Error(wrong + "expected a file name");
  }
  return Error::success();
}

static Error readInput(const Signature &signature,
                       const Signature::Tensor &tensor, const std::string &file,
                       NpyArray &array) {
  if (Error error = readNpy(file, array))
    return error;
  std::string expected = std::string("input ") + signature.name(tensor) +
                         " is " + signature.describe(tensor);
  const char *descr = findElementType(tensor.element)->npyDescr;
  if (array.descr != descr)
    return Error(file + ": holds elements '" + array.descr + "', but " +
                 expected + ", '" + descr + "' in NumPy");
  if (array.shape.size() != tensor.rank)
    return Error(file + format(": has rank %zu, but ", array.shape.size()) +
                 expected);
  return Error::success();
}

namespace {
/// The arrays of the inputs, and the tensors that point at them.
struct Inputs {
  std::vector<NpyArray> arrays;
  std::vector<tercet_graph_tensor> tensors;
};
} // namespace

static Error readInputs(const Signature &signature,
                        const GraphCommandLine &line, Inputs &result) {
  Tensors tensors = signature.inputs();
  std::vector<std::string> files;
  if (Error error = matchFiles(signature, tensors, "input", line.inputs, files))
    return error;
  for (size_t i = 0; i < tensors.size(); ++i)
    if (files[i].empty())
      return Error(std::string("input ") + signature.name(tensors[i]) +
                   " is missing: give --input NAME=FILE for each of " +
                   listTensors(signature, tensors));
  for (size_t i = 0; i < tensors.size(); ++i) {
    NpyArray array;
    if (Error error = readInput(signature, tensors[i], files[i], array))
      return error;
    tercet_graph_tensor tensor = {array.data.data(), {}};
    std::copy(array.shape.begin(), array.shape.end(), tensor.shape);
    result.tensors.push_back(tensor);
    result.arrays.push_back(std::move(array));
  }
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Actions
//===----------------------------------------------------------------------===//

static Error writeTensor(const Signature::Tensor &type,
                         const tercet_graph_tensor &tensor,
                         const std::string &file) {
  int64_t size;
  if (!sizeInBytes(type, tensor.shape, size))
    return Error(file + ": too large");
  NpyWriter writer;
  const char *descr = findElementType(type.element)->npyDescr;
  if (Error error = writer.open(file, descr, {tensor.shape, type.rank}))
    return error;
  if (Error error = writer.write(tensor.data, size))
    return error;
  return writer.finish();
}

static Error runOnce(Graph &graph, const Inputs &inputs,
                     const std::vector<std::string> &files) {
  Tensors types = graph.signature().outputs();
  std::vector<tercet_graph_tensor> outputs(types.size());
  if (Error error = graph.run(inputs.tensors, outputs))
    return error;
  bool isWritten = false;
  std::string summary;
  for (size_t i = 0; i < types.size(); ++i) {
    summary += std::string(graph.signature().name(types[i])) + " " +
               describeShape(types[i], outputs[i].shape) + "\n";
    if (files[i].empty())
      continue;
    isWritten = true;
    if (Error error = writeTensor(types[i], outputs[i], files[i]))
      return error;
  }
  return isWritten ? Error::success() : writeOutput(summary);
}

static Error runBench(const GraphArtifact &artifact, Graph &graph,
                      const Inputs &inputs, bool json) {
  std::vector<tercet_graph_tensor> outputs(graph.signature().outputs().size());
  std::vector<double> seconds;
  // A first run, forgotten, touches memory and wakes the clocks. Then at least
  // five, and as many as a second holds.
  double start = 0;
  for (int run = -1; run < 5 || (secondsNow() - start < 1 && run < 10000);
       ++run) {
    double began = secondsNow();
    if (Error error = graph.run(inputs.tensors, outputs))
      return error;
    double ended = secondsNow();
    if (run < 0)
      start = ended;
    else
      seconds.push_back(ended - began);
  }
  std::sort(seconds.begin(), seconds.end());
  double median = seconds[seconds.size() / 2], least = seconds.front();
  double rss = peakMemoryInBytes() / 1048576.0;
  const char *target = artifact.artifact().target();
  if (!json)
    return writeOutput(format("%s, --target=%s, %d threads, peak RSS %.0f MB\n"
                              "median %.6f s, least %.6f s of %zu runs\n",
                              hostCpuName().c_str(), target, graph.numThreads(),
                              rss, median, least, seconds.size()));
  return writeOutput(
      "{\"cpu\": " + jsonString(hostCpuName()) +
      ", \"target\": " + jsonString(target) +
      format(", \"threads\": %d, \"runs\": %zu, \"median_s\": %.9f, "
             "\"least_s\": %.9f, \"peak_rss_mb\": %.1f}\n",
             graph.numThreads(), seconds.size(), median, least, rss));
}

static Error run(const GraphCommandLine &line) {
  GraphArtifact artifact;
  if (Error error = GraphArtifact::openOwn(artifact))
    return error;
  if (line.action == GraphAction::Info)
    return writeOutput(artifact.artifact().info());

  // Names and files first: their errors should not wait for the weights.
  std::vector<std::string> outputFiles;
  if (Error error =
          matchFiles(artifact.signature(), artifact.signature().outputs(),
                     "output", line.outputs, outputFiles))
    return error;
  Inputs inputs;
  if (Error error = readInputs(artifact.signature(), line, inputs))
    return error;
  if (line.checkWeights)
    if (Error error = artifact.artifact().checkWeights())
      return error;
  std::unique_ptr<Graph> graph;
  if (Error error = artifact.load(static_cast<int>(line.numThreads), graph))
    return error;
  if (Error error = graph->check(inputs.tensors))
    return error;
  if (line.action == GraphAction::Bench)
    return runBench(artifact, *graph, inputs, line.json);
  return runOnce(*graph, inputs, outputFiles);
}

int main(int argc, char **argv) {
  reportBusErrors();
  GraphCommandLine line;
  Error error = parseGraphCommandLine(argc, argv, line);
  if (!error)
    error = line.action == GraphAction::Help
                ? writeOutput(graphHelpText(argv[0]))
                : run(line);
  if (!error)
    return 0;
  note("error: %s", error.message().c_str());
  return 1;
}
