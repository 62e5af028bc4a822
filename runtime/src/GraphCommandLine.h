// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The command line of a compiled graph.

#ifndef TERCET_RUNTIME_GRAPHCOMMANDLINE_H
#define TERCET_RUNTIME_GRAPHCOMMANDLINE_H

#include "runtime/src/Error.h"

#include <cstdint>
#include <string>
#include <vector>

namespace tercet {

enum class GraphAction { Run, Bench, Info, Help };

struct GraphCommandLine {
  GraphAction action = GraphAction::Run;
  /// NAME=FILE, not yet divided: names of ONNX may hold any character.
  std::vector<std::string> inputs, outputs;
  int64_t numThreads = 0; // 0: all there are
  bool json = false;
  bool checkWeights = false;
};

Error parseGraphCommandLine(int argc, char **argv, GraphCommandLine &result);

/// What --help prints.
std::string graphHelpText(const std::string &program);

} // namespace tercet

#endif // TERCET_RUNTIME_GRAPHCOMMANDLINE_H
