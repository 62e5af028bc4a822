// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Generator.h"
#include "runtime/src/Commands.h"
#include "runtime/src/Console.h"
#include "runtime/src/Json.h"
#include "runtime/src/StopMatcher.h"
#include "runtime/src/Utf8.h"

#include <algorithm>

using namespace tercet;

static SamplerOptions samplerOptions(const tercet_generation &defaults,
                                     const CommandLine &line) {
  SamplerOptions options;
  options.temperature = line.temperature.value_or(defaults.temperature);
  options.topP = line.topP.value_or(defaults.top_p);
  options.topK = line.topK.value_or(defaults.top_k);
  options.seed = line.seed.value_or(0);
  return options;
}

Generator::Generator(Session &session, const Artifact &artifact,
                     const Tokenizer *tokenizer, const CommandLine &line)
    : session(session), tokenizer(tokenizer), line(line),
      sampler(samplerOptions(artifact.generation(), line)),
      logits(session.vocabSize()) {
  const tercet_generation &generation = artifact.generation();
  endTokens.assign(generation.eos_tokens,
                   generation.eos_tokens + generation.num_eos);
  if (tokenizer && endTokens.empty() && tokenizer->eosToken() >= 0)
    endTokens.push_back(tokenizer->eosToken());
}

bool Generator::endsText(int32_t token) const {
  return std::find(endTokens.begin(), endTokens.end(), token) !=
         endTokens.end();
}

Error Generator::answer(TokenSpan prompt, Sink sink, Answer &result) {
  if (prompt.empty())
    return Error("the prompt is empty: there is nothing to continue");
  if (Error error = checkPromptFits(session, prompt.size()))
    return error;
  double start = secondsNow();
  if (Error error = readPrompt(prompt, result))
    return error;
  double promptRead = secondsNow();
  result.promptSeconds = promptRead - start;
  if (interrupted()) {
    result.reason = StopReason::Interrupt;
    return Error::success();
  }
  Error error = generate(sink, result);
  result.generateSeconds = secondsNow() - promptRead;
  return error;
}

Error Generator::readPrompt(TokenSpan prompt, Answer &result) {
  // The last token is always stepped again: its logits are needed.
  size_t most = std::min(held.size(), prompt.size() - 1);
  size_t common =
      std::mismatch(held.begin(), held.begin() + most, prompt.begin()).first -
      held.begin();
  held.resize(common);
  session.truncate(0, common);
  prompt = prompt.subspan(common);
  result.promptTokens = prompt.size();

  // Step by step, so that progress shows and Ctrl-C works in a long prompt.
  Progress progress("prompt", prompt.size());
  while (!prompt.empty() && !interrupted()) {
    TokenSpan part =
        prompt.first(std::min<size_t>(session.stepTokens(), prompt.size()));
    prompt = prompt.subspan(part.size());
    if (Error error = session.append(0, part,
                                     prompt.empty() ? Session::Logits::Last
                                                    : Session::Logits::None,
                                     logits.data()))
      return error;
    held.insert(held.end(), part.begin(), part.end());
    progress.update(result.promptTokens - prompt.size());
  }
  return Error::success();
}

Error Generator::generate(Sink sink, Answer &result) {
  Utf8Stream characters;
  StopMatcher stops(line.stops);
  auto show = [&](const std::string &text) {
    result.text += text;
    return text.empty() ? Error::success() : sink(text);
  };

  auto limit = static_cast<uint64_t>(line.maxTokens); // -1: no limit.
  while (result.tokens.size() < limit) {
    // The last token is stepped only when its successor is wanted.
    if (!result.tokens.empty()) {
      if (interrupted()) {
        result.reason = StopReason::Interrupt;
        break;
      }
      if (session.room() == 0) {
        result.reason = StopReason::ContextFull;
        break;
      }
      TokenSpan last = TokenSpan(result.tokens).last(1);
      if (Error error =
              session.append(0, last, Session::Logits::Last, logits.data()))
        return error;
      held.push_back(last[0]);
    }
    int32_t token = sampler.sample(logits);
    if (endsText(token)) {
      result.reason = StopReason::EndOfText;
      break;
    }
    result.tokens.push_back(token);
    if (tokenizer && (line.specialTokens || !tokenizer->isSpecial(token)))
      if (Error error =
              show(stops.push(characters.push(tokenizer->bytes(token)))))
        return error;
    if (stops.stopped()) {
      result.reason = StopReason::StopText;
      return Error::success();
    }
  }
  if (Error error = show(stops.push(characters.finish())))
    return error;
  return show(stops.finish());
}

//===----------------------------------------------------------------------===//
// Reports
//===----------------------------------------------------------------------===//

static const char *reasonName(StopReason reason) {
  switch (reason) {
  case StopReason::EndOfText:
    return "eos";
  case StopReason::StopText:
    return "stop";
  case StopReason::MaxTokens:
    return "length";
  case StopReason::ContextFull:
    return "context";
  case StopReason::Interrupt:
    return "interrupt";
  }
  __builtin_unreachable();
}

static double rate(size_t count, double seconds) {
  return seconds > 0 ? count / seconds : 0;
}

std::string tercet::describeRates(const Answer &answer) {
  return format(
      "prompt %zu tokens, %.1f/s; answer %zu tokens, %.1f/s; ended "
      "by %s",
      answer.promptTokens, rate(answer.promptTokens, answer.promptSeconds),
      answer.tokens.size(), rate(answer.tokens.size(), answer.generateSeconds),
      reasonName(answer.reason));
}

std::string tercet::answerJson(const Answer &answer) {
  std::string tokens;
  for (int32_t token : answer.tokens)
    tokens += (tokens.empty() ? "" : ", ") + std::to_string(token);
  return "{\"text\": " + jsonString(answer.text) + ", \"tokens\": [" + tokens +
         format("], \"prompt_tokens\": %zu, \"prompt_tokens_per_s\": %.2f, "
                "\"tokens_per_s\": %.2f, \"stop_reason\": \"%s\"}\n",
                answer.promptTokens,
                rate(answer.promptTokens, answer.promptSeconds),
                rate(answer.tokens.size(), answer.generateSeconds),
                reasonName(answer.reason));
}
