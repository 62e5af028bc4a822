// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// -p and --tokens.

#include "runtime/src/Commands.h"
#include "runtime/src/Console.h"
#include "runtime/src/Generator.h"
#include "runtime/src/OutputFile.h"
#include "runtime/src/PromptCache.h"

#include <algorithm>
#include <cerrno>
#include <unistd.h>

using namespace tercet;

static Error discard(std::string_view) { return Error::success(); }

static std::string listOf(TokenSpan tokens) {
  std::string text;
  for (int32_t token : tokens)
    text += (text.empty() ? "" : ",") + std::to_string(token);
  return text;
}

/// Takes what the file has of the prompt; `complete` if that is all of it.
static Error loadPromptCache(Session &session, const Artifact &artifact,
                             const std::string &path, TokenSpan prompt,
                             bool &complete) {
  if (access(path.c_str(), F_OK) != 0 && errno == ENOENT)
    return Error::success();
  PromptCache cache;
  if (Error error = cache.open(path, artifact))
    return error;
  TokenSpan held = cache.tokens();
  size_t common =
      std::mismatch(held.begin(), held.end(), prompt.begin(), prompt.end())
          .first -
      held.begin();
  complete = common == prompt.size();
  return cache.load(session, 0, common);
}

/// Reads the prompt, all of it or what the file lacks.
static Error readPrompt(Session &session, const Artifact &artifact,
                        const CommandLine &line, TokenSpan prompt,
                        Generator &generator, Answer &answer) {
  const std::string &path = line.promptCachePath;
  if (path.empty() || prompt.size() > session.context())
    return generator.readPrompt(prompt, answer);
  bool complete = false;
  if (Error error = loadPromptCache(session, artifact, path, prompt, complete))
    return error;
  // That it can be written should be known before a long prompt, not after.
  if (!complete)
    if (Error error = OutputFile().open(path))
      return error;
  if (Error error = generator.readPrompt(prompt, answer))
    return error;
  if (complete || session.length() < prompt.size()) // Or was interrupted.
    return Error::success();
  return PromptCache::save(path, artifact, session, 0);
}

Error tercet::runGenerate(Session &session, const Artifact &artifact,
                          const Tokenizer *tokenizer, const CommandLine &line,
                          TokenSpan prompt) {
  AnswerRules rules(artifact, tokenizer, line);
  Generator generator(session, rules);
  Answer answer;
  if (Error error =
          readPrompt(session, artifact, line, prompt, generator, answer))
    return error;
  if (Error error =
          generator.generate(line.json ? discard : writeOutput, answer))
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
