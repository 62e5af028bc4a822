// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The command line of a compiled model. Every flag is declared once, in the
// table of CommandLine.cpp, from which the parser and --help both come.

#ifndef TERCET_RUNTIME_COMMANDLINE_H
#define TERCET_RUNTIME_COMMANDLINE_H

#include "runtime/src/Error.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tercet {

enum class Action {
  None,
  Help,
  Info,
  Text,
  Chat,
  Tokens,
  Prompts,
  Perplexity,
  Bench
};

struct CommandLine {
  Action action = Action::None;
  std::string input;           // -p, --tokens, --prompts, --perplexity
  std::string logitsPath;      // --logits
  std::string tracePath;       // --trace
  std::string promptCachePath; // --prompt-cache
  std::string reportPath;      // --report
  std::vector<std::string> stops;
  std::string system;
  // Unset: what the model's own generation defaults say.
  std::optional<double> temperature, topP;
  std::optional<int64_t> topK, seed;
  int64_t maxTokens = -1; // -1: until the model stops or context is full
  int64_t context = 0;    // 0: all the model has
  int64_t numThreads = 0; // 0: all there are
  int64_t parallel = 0;   // sequences at once; 0: not given
  int64_t chunk = 0;      // 0: the model's step size
  int64_t benchPrompt = 512, benchGenerate = 128, benchDepth = 0,
          benchRounds = 3;
  std::vector<int32_t> benchBatches = {1};
  bool json = false;
  bool specialTokens = false;
  bool copyWeights = false;
  bool checkWeights = false;
};

Error parseCommandLine(int argc, char **argv, CommandLine &result);

/// What --help prints.
std::string helpText(const std::string &program);

/// "1,2,3"; spaces and newlines separate as well.
Error parseTokens(const std::string &text, std::vector<int32_t> &tokens);

} // namespace tercet

#endif // TERCET_RUNTIME_COMMANDLINE_H
