// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/GraphCommandLine.h"
#include "runtime/src/Flags.h"

using namespace tercet;

template <GraphAction NewAction>
static Error setAction(GraphCommandLine &line, Argument) {
  // --help wins, so that it can be added to any command.
  if (line.action != GraphAction::Help)
    line.action = NewAction;
  return Error::success();
}

template <bool GraphCommandLine::*Field>
static Error setSwitch(GraphCommandLine &line, Argument) {
  line.*Field = true;
  return Error::success();
}

template <std::vector<std::string> GraphCommandLine::*Field>
static Error addFile(GraphCommandLine &line, Argument argument) {
  (line.*Field).push_back(argument.value);
  return Error::success();
}

static Error setThreads(GraphCommandLine &line, Argument argument) {
  return parseInteger(argument.flag, argument.value, 1, 1024, line.numThreads);
}

using CL = GraphCommandLine;
static constexpr Flag<CL> Flags[] = {
    {"--input", "NAME=FILE",
     "read an input from a .npy file; every input of the graph\nneeds one, and "
     "FILE may be - (stdin)",
     addFile<&CL::inputs>},
    {"--output", "NAME=FILE",
     "write an output as .npy; without any, types and shapes of\nall outputs "
     "are printed",
     addFile<&CL::outputs>},
    {"--bench", nullptr, "measure how long a run with these inputs takes",
     setAction<GraphAction::Bench>},
    {"--info", nullptr, "what was compiled, as JSON",
     setAction<GraphAction::Info>},
    {"--help", nullptr, "this text", setAction<GraphAction::Help>},
    {"-h", nullptr, nullptr, setAction<GraphAction::Help>},
    {"--threads", "N",
     "threads (default: all this process may use); never "
     "changes\nthe result",
     setThreads},
    {"--json", nullptr, "with --bench: print one JSON object",
     setSwitch<&CL::json>},
    {"--check", nullptr, "verify the weights' checksum first",
     setSwitch<&CL::checkWeights>},
};

Error tercet::parseGraphCommandLine(int argc, char **argv, CL &line) {
  if (Error error = parseFlags<CL>(argc, argv, Flags, line))
    return error;
  if (line.json && line.action == GraphAction::Run)
    return Error("--json: only --bench prints a report");
  if (!line.outputs.empty() && line.action == GraphAction::Bench)
    return Error("--output: not available with --bench");
  return Error::success();
}

std::string tercet::graphHelpText(const std::string &program) {
  std::string text = "An ONNX graph compiled by Tercet: everything it needs is "
                     "in this file.\n\nexamples:\n";
  for (const char *example : {
           "--info",
           "--input image=image.npy --output scores=scores.npy",
           "--input image=image.npy --bench --threads 1 --json",
       })
    text += "  " + program + " " + example + "\n";
  text += "\n" + describeFlags<CL>(Flags);
  return text + "\nElements without a NumPy type: bf16 is uint16, f8 and "
                "unsigned integers below 8 bits\nare uint8, signed ones int8. "
                "Results go to stdout and nothing else does; exit\nstatus 1 "
                "means an error.\n";
}
