// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/CommandLine.h"
#include "runtime/src/Flags.h"

#include <cmath>
#include <cstdlib>

using namespace tercet;

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

static Error parseReal(const char *flag, const char *text, double least,
                       double most, double &result) {
  char *end = nullptr;
  result = strtod(text, &end);
  // A NaN fails both comparisons.
  if (end != text && *end == 0 && result >= least && result <= most)
    return Error::success();
  return Error(format("%s %s: expected a number from %g to %g", flag, text,
                      least, most));
}

/// Numbers separated by commas or space.
static Error parseList(const char *flag, const std::string &text, int64_t least,
                       int64_t most, std::vector<int32_t> &numbers) {
  static constexpr const char *Separators = ", \t\r\n";
  size_t at = text.find_first_not_of(Separators);
  while (at != std::string::npos) {
    size_t end = text.find_first_of(Separators, at);
    std::string word = text.substr(at, end - at);
    int64_t number;
    if (Error error = parseInteger(flag, word.c_str(), least, most, number))
      return error;
    numbers.push_back(static_cast<int32_t>(number));
    at = text.find_first_not_of(Separators, end);
  }
  return Error::success();
}

Error tercet::parseTokens(const std::string &text,
                          std::vector<int32_t> &tokens) {
  if (Error error = parseList("--tokens", text, 0, INT32_MAX, tokens))
    return error;
  if (tokens.empty())
    return Error("--tokens: no token id given (example: --tokens 1,2,3)");
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Flags
//===----------------------------------------------------------------------===//

template <Action NewAction>
static Error setAction(CommandLine &line, Argument argument) {
  // --help wins, so that it can be added to any command.
  if (line.action == Action::Help)
    return Error::success();
  if (NewAction != Action::Help && line.action != Action::None)
    return Error(std::string(argument.flag) +
                 ": give only one of -p, --chat, --tokens, --prompts, "
                 "--perplexity, --bench, --info");
  line.action = NewAction;
  if (argument.value)
    line.input = argument.value;
  return Error::success();
}

template <bool CommandLine::*Field, bool Value = true>
static Error setSwitch(CommandLine &line, Argument) {
  line.*Field = Value;
  return Error::success();
}

template <int64_t CommandLine::*Field, int64_t Least, int64_t Most>
static Error setInteger(CommandLine &line, Argument argument) {
  return parseInteger(argument.flag, argument.value, Least, Most, line.*Field);
}

template <std::optional<int64_t> CommandLine::*Field, int64_t Most>
static Error setOptionalInteger(CommandLine &line, Argument argument) {
  return parseInteger(argument.flag, argument.value, 0, Most,
                      (line.*Field).emplace());
}

template <std::optional<double> CommandLine::*Field, int Most>
static Error setReal(CommandLine &line, Argument argument) {
  return parseReal(argument.flag, argument.value, 0, Most,
                   (line.*Field).emplace());
}

template <std::string CommandLine::*Field>
static Error setString(CommandLine &line, Argument argument) {
  line.*Field = argument.value;
  return Error::success();
}

static Error setBatches(CommandLine &line, Argument argument) {
  line.benchBatches.clear();
  if (Error error =
          parseList(argument.flag, argument.value, 1, 1024, line.benchBatches))
    return error;
  if (line.benchBatches.empty())
    return Error("--batch: no number given (example: --batch 1,8,64)");
  return Error::success();
}

static Error addStop(CommandLine &line, Argument argument) {
  if (!*argument.value)
    return Error("--stop: expected a text that is not empty");
  line.stops.push_back(argument.value);
  return Error::success();
}

using CL = CommandLine;
static constexpr Flag<CommandLine> Flags[] = {
    {"-p", "TEXT", "continue TEXT (- reads it from stdin)",
     setAction<Action::Text>},
    {"--chat", nullptr, "talk: one line of stdin is one turn",
     setAction<Action::Chat>},
    {"--tokens", "IDS", "continue these token ids: 1,2,3 (- reads stdin)",
     setAction<Action::Tokens>},
    {"--prompts", "FILE",
     "answer every line of FILE (- reads stdin): text, or {\"prompt\": TEXT},\n"
     "or {\"tokens\": [IDS]}; one JSON object a line, in order",
     setAction<Action::Prompts>},
    {"--parallel", "N",
     "with --prompts: sequences at once (default 16); never changes the "
     "answers",
     setInteger<&CL::parallel, 1, 1024>},
    {"--prompt-cache", "FILE",
     "with -p or --tokens: start from the prompt in FILE, as far as it is\nthe "
     "same, and save this one there",
     setString<&CL::promptCachePath>},
    {"--logits", "FILE",
     "with -p or --tokens: write the logits of every token "
     "as .npy\n(float32, [tokens, vocabulary]) instead of generating",
     setString<&CL::logitsPath>},
    {"--perplexity", "FILE", "how well the model predicts a text file",
     setAction<Action::Perplexity>},
    {"--bench", nullptr,
     "measure tokens per second against this machine's "
     "limits",
     setAction<Action::Bench>},
    {"--info", nullptr, "what was compiled, as JSON", setAction<Action::Info>},
    {"--help", nullptr, "this text", setAction<Action::Help>},
    {"-h", nullptr, nullptr, setAction<Action::Help>},

    {"-n", "N", "generate at most N tokens",
     setInteger<&CL::maxTokens, 0, INT32_MAX>},
    {"--temp", "T", "sampling temperature; 0 always takes the likeliest token",
     setReal<&CL::temperature, 100>},
    {"--top-p", "P", "sample from the likeliest tokens of total probability P",
     setReal<&CL::topP, 1>},
    {"--top-k", "K", "sample from the K likeliest tokens; 0: from all",
     setOptionalInteger<&CL::topK, INT32_MAX>},
    {"--seed", "S", "seed of the sampler (default 0): same seed, same text",
     setOptionalInteger<&CL::seed, INT64_MAX>},
    {"--stop", "TEXT", "end before TEXT would be printed; may be repeated",
     addStop},
    {"--system", "TEXT", "with --chat: the system message",
     setString<&CL::system>},
    {"--special", nullptr,
     "read special tokens in the text as such, not as "
     "text",
     setSwitch<&CL::specialTokens>},
    {"--json", nullptr, "print one JSON object", setSwitch<&CL::json>},

    {"--context", "N", "use at most N tokens of the model's context",
     setInteger<&CL::context, 2, INT32_MAX>},
    {"--threads", "N",
     "threads (default: all this process may use); never "
     "changes\nthe result",
     setInteger<&CL::numThreads, 1, 1024>},
    {"--copy", nullptr, "read the weights into huge pages first",
     setSwitch<&CL::copyWeights>},
    {"--no-copy", nullptr, "use the mapped file (default)",
     setSwitch<&CL::copyWeights, false>},
    {"--check", nullptr, "verify the weights' checksum first",
     setSwitch<&CL::checkWeights>},
    {"--prompt", "N", "with --bench: tokens of the prompt (default 512)",
     setInteger<&CL::benchPrompt, 1, INT32_MAX>},
    {"--gen", "N", "with --bench: tokens generated (default 128)",
     setInteger<&CL::benchGenerate, 1, INT32_MAX>},
    {"--batch", "LIST",
     "with --bench: numbers of sequences that are generated together "
     "(default 1)",
     setBatches},
    {"--depth", "N", "with --bench: tokens in the context before (default 0)",
     setInteger<&CL::benchDepth, 0, INT32_MAX>},
    {"--rounds", "N",
     "with --bench: measurements of each, of which medians are shown (at "
     "least;\ndefault 3)",
     setInteger<&CL::benchRounds, 1, 1000>},
    {"--report", "FILE",
     "with --bench: write a page of HTML with rates, roofline and the time of "
     "each\nkernel",
     setString<&CL::reportPath>},
    {"--chunk", "N", nullptr, setInteger<&CL::chunk, 1, INT32_MAX>},
    {"--trace", "FILE", nullptr, setString<&CL::tracePath>},
};

/// Combinations that would silently ignore a flag.
static Error checkCombination(const CommandLine &line) {
  bool fromTokens =
      line.action == Action::Text || line.action == Action::Tokens;
  if (line.action == Action::None)
    return Error("nothing to do: give -p TEXT or --chat (--help shows more)");
  if (!line.logitsPath.empty() && !fromTokens)
    return Error("--logits: needs -p or --tokens to say which tokens");
  if (!line.tracePath.empty() && line.action != Action::Tokens)
    return Error("--trace: needs --tokens to say which tokens");
  if (!line.promptCachePath.empty() &&
      (!fromTokens || !line.logitsPath.empty() || !line.tracePath.empty()))
    return Error("--prompt-cache: needs -p or --tokens, and an answer");
  if (!line.reportPath.empty() && line.action != Action::Bench)
    return Error("--report: needs --bench to say what about");
  if (line.parallel && line.action != Action::Prompts)
    return Error("--parallel: needs --prompts to say which ones");
  if (!line.system.empty() && line.action != Action::Chat)
    return Error("--system: only --chat has a system message");
  if (line.json && line.action == Action::Chat)
    return Error("--json: not available with --chat");
  return Error::success();
}

Error tercet::parseCommandLine(int argc, char **argv, CommandLine &line) {
  if (Error error = parseFlags<CommandLine>(argc, argv, Flags, line))
    return error;
  return line.action == Action::Help ? Error::success()
                                     : checkCombination(line);
}

std::string tercet::helpText(const std::string &program) {
  std::string text =
      "A language model compiled by Tercet: everything it needs is in this "
      "file.\n\nexamples:\n";
  for (const char *example : {
           "-p 'The capital of France is' -n 16",
           "--chat --system 'Answer briefly.'",
           "-p - --temp 0.7 --top-p 0.9 --seed 1 < prompt.txt",
           "-p - --prompt-cache prompt.kv < prompt.txt",
           "--prompts questions.txt --parallel 32 -n 100",
           "--tokens 1,2,3 --logits out.npy",
           "--perplexity book.txt --context 2048",
           "--bench --prompt 512 --gen 128 --report speed.html",
           "--bench --batch 1,8,64 --gen 16 --context 512",
       })
    text += "  " + program + " " + example + "\n";
  text += "\n" + describeFlags<CommandLine>(Flags);
  return text + "\nText goes to stdout and nothing else does; exit status 1 "
                "means an error.\n";
}
