// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// main() of a compiled model.

#include "runtime/src/Commands.h"
#include "runtime/src/Console.h"

#include <csignal>
#include <cstring>
#include <unistd.h>

using namespace tercet;

/// The weights are a mapped file: a disk error, or somebody cutting the file
/// short while it runs, arrives as a signal.
static void onBusError(int) {
  static const char Message[] =
      "error: the model's file could not be read (damaged, shortened while "
      "running, or a disk error): copy or compile it again\n";
  (void)!write(STDERR_FILENO, Message, sizeof Message - 1);
  _exit(1);
}

static Error printInfo(const Artifact &artifact) {
  std::string info(artifact.section(TERCET_SECTION_INFO));
  if (!info.ends_with('\n'))
    info += '\n';
  return writeOutput(info);
}

/// Ids from the command line or stdin.
static Error readTokens(const std::string &input, std::vector<int32_t> &ids) {
  std::string text = input;
  if (input == "-") {
    text.clear();
    if (Error error = readFile(input, text))
      return error;
  }
  return parseTokens(text, ids);
}

static Error run(const CommandLine &line) {
  Model model;
  if (Error error = Model::open(model))
    return error;
  if (line.action == Action::Info)
    return printInfo(model.artifact());

  // Read the input first: its errors should not wait for the weights.
  std::vector<int32_t> tokens;
  if (line.action == Action::Tokens)
    if (Error error = readTokens(line.input, tokens))
      return error;

  int numThreads = static_cast<int>(line.numThreads);
  if (Error error =
          model.load({line.checkWeights, line.copyWeights, numThreads}))
    return error;
  Session::Options options;
  options.numThreads = numThreads;
  options.context = static_cast<uint32_t>(line.context);
  options.stepTokens = static_cast<uint32_t>(line.chunk);
  std::unique_ptr<Session> session;
  if (Error error = Session::create(model, options, session))
    return error;
  catchInterrupts();
  return runLogits(*session, line, tokens);
}

int main(int argc, char **argv) {
  signal(SIGBUS, onBusError);
  CommandLine line;
  Error error = parseCommandLine(argc, argv, line);
  if (!error)
    error = line.action == Action::Help ? writeOutput(helpText(argv[0]))
                                        : run(line);
  if (!error)
    return 0;
  note("error: %s", error.message().c_str());
  return 1;
}
