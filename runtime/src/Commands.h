// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What each action of the command line does.

#ifndef TERCET_RUNTIME_COMMANDS_H
#define TERCET_RUNTIME_COMMANDS_H

#include "runtime/src/CommandLine.h"
#include "runtime/src/Session.h"
#include "runtime/src/Tokenizer.h"

namespace tercet {

Error runLogits(Session &session, const CommandLine &line, TokenSpan tokens);

/// One step, traced as tercet_trace_range says.
Error runTrace(Session &session, const CommandLine &line, TokenSpan tokens);

Error runBench(const Model &model, const CommandLine &line, double loadSeconds);

Error runPerplexity(Session &session, const Tokenizer &tokenizer,
                    int32_t bosToken, const CommandLine &line);

/// Continues `prompt` and prints the continuation. Without a tokenizer it is
/// printed as token ids.
Error runGenerate(Session &session, const Artifact &artifact,
                  const Tokenizer *tokenizer, const CommandLine &line,
                  TokenSpan prompt);

/// The prompts of a file, one a line, as tokens.
Error readPrompts(const CommandLine &line, const Tokenizer *tokenizer,
                  std::vector<std::vector<int32_t>> &prompts);

/// Continues each prompt, several at a time, and prints the continuations.
Error runPrompts(const Model &model, const CommandLine &line,
                 const Tokenizer *tokenizer,
                 std::span<const std::vector<int32_t>> prompts);

Error runChat(Session &session, const Artifact &artifact,
              const Tokenizer &tokenizer, const CommandLine &line);

Session::Options sessionOptions(const CommandLine &line);

/// Rows of logits that are worth computing at once: whole steps, but not
/// gigabytes of a large vocabulary.
uint32_t logitBatch(const Session &session, const CommandLine &line);

/// The error of a prompt that cannot fit, before any work is done on it.
Error checkPromptFits(const Session &session, size_t numTokens);

} // namespace tercet

#endif // TERCET_RUNTIME_COMMANDS_H
