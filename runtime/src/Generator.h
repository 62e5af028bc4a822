// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_RUNTIME_GENERATOR_H
#define TERCET_RUNTIME_GENERATOR_H

#include "runtime/src/CommandLine.h"
#include "runtime/src/Sampler.h"
#include "runtime/src/Session.h"
#include "runtime/src/Tokenizer.h"

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
  double promptSeconds = 0, generateSeconds = 0;
};

/// Turns prompts into answers on one sequence of a session and remembers which
/// tokens that sequence holds, so that a prompt that starts like what is there
/// (the next turn of a chat) costs only its new part.
class Generator {
public:
  /// `tokenizer` may be null: answers then have no text.
  Generator(Session &session, const Artifact &artifact,
            const Tokenizer *tokenizer, const CommandLine &line);

  /// Receives the answer's text as it becomes certain.
  using Sink = Error (*)(std::string_view text);

  Error answer(TokenSpan prompt, Sink sink, Answer &result);

private:
  Error readPrompt(TokenSpan prompt, Answer &result);
  Error generate(Sink sink, Answer &result);
  bool endsText(int32_t token) const;

  Session &session;
  const Tokenizer *tokenizer;
  const CommandLine &line;
  Sampler sampler;
  std::vector<int32_t> endTokens;
  std::vector<int32_t> held; // The tokens in the KV cache.
  std::vector<float> logits;
};

/// "prompt 12 tokens, 345.6/s; ...": the line on stderr.
std::string describeRates(const Answer &answer);

/// The one object of --json.
std::string answerJson(const Answer &answer);

} // namespace tercet

#endif // TERCET_RUNTIME_GENERATOR_H
