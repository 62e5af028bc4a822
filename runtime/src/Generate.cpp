// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// -p and --tokens.

#include "runtime/src/Commands.h"
#include "runtime/src/Console.h"
#include "runtime/src/Generator.h"

using namespace tercet;

static Error discard(std::string_view) { return Error::success(); }

static std::string listOf(TokenSpan tokens) {
  std::string text;
  for (int32_t token : tokens)
    text += (text.empty() ? "" : ",") + std::to_string(token);
  return text;
}

Error tercet::runGenerate(Session &session, const Artifact &artifact,
                          const Tokenizer *tokenizer, const CommandLine &line,
                          TokenSpan prompt) {
  Generator generator(session, artifact, tokenizer, line);
  Answer answer;
  if (Error error =
          generator.answer(prompt, line.json ? discard : writeOutput, answer))
    return error;
  std::string end = line.json   ? answerJson(answer)
                    : tokenizer ? "\n"
                                : listOf(answer.tokens) + "\n";
  if (Error error = writeOutput(end))
    return error;
  if (answer.reason == StopReason::ContextFull)
    note("the context of %u tokens is full: the text ends here",
         session.context());
  note("%s", describeRates(answer).c_str());
  return Error::success();
}
