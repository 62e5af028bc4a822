// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// main() of a compiled model.

#include "runtime/src/Commands.h"
#include "runtime/src/Console.h"

using namespace tercet;

/// The tokens of -p or --tokens; "-" is stdin.
static Error readPrompt(const CommandLine &line, const Tokenizer *tokenizer,
                        std::vector<int32_t> &ids) {
  std::string text = line.input;
  if (line.input == "-") {
    text.clear();
    if (Error error = readFile(line.input, text))
      return error;
  }
  if (line.action == Action::Tokens)
    return parseTokens(text, ids);
  EncodeOptions options;
  options.allowSpecial = line.specialTokens;
  return tokenizer->encode(text, options, ids);
}

static Error openTokenizer(const Artifact &artifact, const CommandLine &line,
                           std::unique_ptr<Tokenizer> &tokenizer) {
  std::string_view blob = artifact.section(TERCET_SECTION_TOKENIZER);
  if (!blob.empty())
    return Tokenizer::create(
        {reinterpret_cast<const uint8_t *>(blob.data()), blob.size()},
        tokenizer);
  if (line.action == Action::Tokens || line.action == Action::Prompts ||
      line.action == Action::Bench)
    return Error::success();
  return Error("this model was compiled without a tokenizer: give token ids "
               "with --tokens");
}

static Error runSession(const Model &model, const CommandLine &line,
                        const Tokenizer *tokenizer, TokenSpan prompt) {
  std::unique_ptr<Session> session;
  if (Error error = Session::create(model, sessionOptions(line), session))
    return error;
  const Artifact &artifact = model.artifact();
  if (!line.tracePath.empty())
    return runTrace(*session, line, prompt);
  if (!line.logitsPath.empty())
    return runLogits(*session, line, prompt);
  if (line.action == Action::Chat)
    return runChat(*session, artifact, *tokenizer, line);
  if (line.action == Action::Perplexity) {
    int32_t bos = artifact.generation().bos_token;
    return runPerplexity(*session, *tokenizer,
                         bos >= 0 ? bos : tokenizer->bosToken(), line);
  }
  return runGenerate(*session, artifact, tokenizer, line, prompt);
}

static Error run(const CommandLine &line) {
  double start = secondsNow();
  Model model;
  if (Error error = Model::open(model))
    return error;
  if (line.action == Action::Info)
    return writeOutput(model.artifact().info());

  // Input first: its errors should not wait for the weights.
  std::unique_ptr<Tokenizer> tokenizer;
  if (Error error = openTokenizer(model.artifact(), line, tokenizer))
    return error;
  std::vector<int32_t> prompt;
  if (line.action == Action::Tokens || line.action == Action::Text)
    if (Error error = readPrompt(line, tokenizer.get(), prompt))
      return error;

  std::vector<std::vector<int32_t>> prompts;
  if (line.action == Action::Prompts)
    if (Error error = readPrompts(line, tokenizer.get(), prompts))
      return error;

  if (Error error = model.load({line.checkWeights, line.copyWeights,
                                static_cast<int>(line.numThreads)}))
    return error;
  catchInterrupts();
  if (line.action == Action::Bench)
    return runBench(model, line, secondsNow() - start);
  if (line.action == Action::Prompts)
    return runPrompts(model, line, tokenizer.get(), prompts);
  return runSession(model, line, tokenizer.get(), prompt);
}

int main(int argc, char **argv) {
  reportBusErrors();
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
