// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_RUNTIME_GENERATOR_H
#define TERCET_RUNTIME_GENERATOR_H

#include "runtime/src/CommandLine.h"
#include "runtime/src/Sampler.h"
#include "runtime/src/Session.h"
#include "runtime/src/StopMatcher.h"
#include "runtime/src/Tokenizer.h"
#include "runtime/src/Utf8.h"

namespace tercet {

enum class StopReason {
  EndOfText,
  StopText,
  MaxTokens,
  ContextFull,
  Interrupt
};

struct Answer {
  std::vector<int32_t> tokens; // Without the one that ends the text.
  std::string text;
  StopReason reason = StopReason::MaxTokens;
  size_t promptTokens = 0; // Those that were not in the KV cache already.
  size_t cachedTokens = 0; // The other ones.
  double promptSeconds = 0, generateSeconds = 0;
};

/// Receives an answer's text as it becomes certain.
using Sink = Error (*)(std::string_view text);

/// What ends an answer and how its tokens become text; all of the command line
/// and the model's own defaults.
class AnswerRules {
public:
  /// `tokenizer` may be null: answers then have no text.
  AnswerRules(const Artifact &artifact, const Tokenizer *tokenizer,
              const CommandLine &line);

  bool endsText(int32_t token) const;
  size_t maxTokens() const { return static_cast<uint64_t>(line.maxTokens); }
  Sampler makeSampler() const { return Sampler(samplerOptions); }

  const Tokenizer *tokenizer;
  const CommandLine &line;

private:
  SamplerOptions samplerOptions;
  std::vector<int32_t> endTokens;
};

/// Puts one answer together, token by token.
class AnswerBuilder {
public:
  AnswerBuilder(const AnswerRules &rules, Sink sink, Answer &answer)
      : rules(rules), sink(sink), answer(answer), stops(rules.line.stops) {}

  /// Adds a token, unless it ends the answer.
  Error add(int32_t token);
  /// Whether the answer wants no further token.
  bool ended() const {
    return hasEnded || answer.tokens.size() >= rules.maxTokens();
  }
  /// Ends the answer for a reason that its tokens do not know.
  void end(StopReason reason) {
    answer.reason = reason;
    hasEnded = true;
  }
  /// Shows what was held back.
  Error finish();

private:
  Error show(const std::string &text);

  const AnswerRules &rules;
  Sink sink;
  Answer &answer;
  Utf8Stream characters;
  StopMatcher stops;
  bool hasEnded = false;
};

/// Turns prompts into answers on the first sequence of a session. A prompt that
/// starts like what is there (the next turn of a chat) costs only its new part.
class Generator {
public:
  Generator(Session &session, const AnswerRules &rules)
      : session(session), rules(rules), sampler(rules.makeSampler()) {}

  /// Both of what follows.
  Error answer(TokenSpan prompt, Sink sink, Answer &result);

  Error readPrompt(TokenSpan prompt, Answer &result);
  /// Continues the prompt, unless reading it was interrupted.
  Error generate(Sink sink, Answer &result);

private:
  Error stepPrompt(TokenSpan prompt, Answer &result);

  Session &session;
  const AnswerRules &rules;
  Sampler sampler;
};

/// "prompt 12 tokens, 345.6/s; ...": the line on stderr.
std::string describeRates(const Answer &answer);

/// The one object of --json.
std::string answerJson(const Answer &answer);

/// "eos", "stop", ...
const char *reasonName(StopReason reason);

/// "[1, 2, 3]"
std::string jsonList(TokenSpan tokens);

} // namespace tercet

#endif // TERCET_RUNTIME_GENERATOR_H
