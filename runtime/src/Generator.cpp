// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Generator.h"
#include "runtime/src/Commands.h"
#include "runtime/src/Console.h"
#include "runtime/src/Json.h"

#include <algorithm>

using namespace tercet;

static SamplerOptions makeSamplerOptions(const tercet_generation &defaults,
                                         const CommandLine &line) {
  SamplerOptions options;
  options.temperature = line.temperature.value_or(defaults.temperature);
  options.topP = line.topP.value_or(defaults.top_p);
  options.topK = line.topK.value_or(defaults.top_k);
  options.seed = line.seed.value_or(0);
  return options;
}

//===----------------------------------------------------------------------===//
// One answer
//===----------------------------------------------------------------------===//

AnswerRules::AnswerRules(const Artifact &artifact, const Tokenizer *tokenizer,
                         const CommandLine &line)
    : tokenizer(tokenizer), line(line),
      samplerOptions(makeSamplerOptions(artifact.generation(), line)) {
  const tercet_generation &generation = artifact.generation();
  endTokens.assign(generation.eos_tokens,
                   generation.eos_tokens + generation.num_eos);
  if (tokenizer && endTokens.empty() && tokenizer->eosToken() >= 0)
    endTokens.push_back(tokenizer->eosToken());
}

bool AnswerRules::endsText(int32_t token) const {
  return std::find(endTokens.begin(), endTokens.end(), token) !=
         endTokens.end();
}

Error AnswerBuilder::add(int32_t token) {
  if (rules.endsText(token)) {
    end(StopReason::EndOfText);
    return Error::success();
  }
  answer.tokens.push_back(token);
  const Tokenizer *tokenizer = rules.tokenizer;
  if (tokenizer && (rules.line.specialTokens || !tokenizer->isSpecial(token)))
    if (Error error =
            show(stops.push(characters.push(tokenizer->bytes(token)))))
      return error;
  if (stops.stopped())
    end(StopReason::StopText);
  return Error::success();
}

Error AnswerBuilder::finish() {
  if (stops.stopped())
    return Error::success();
  if (Error error = show(stops.push(characters.finish())))
    return error;
  return show(stops.finish());
}

Error AnswerBuilder::show(const std::string &text) {
  answer.text += text;
  return text.empty() ? Error::success() : sink(text);
}

//===----------------------------------------------------------------------===//
// One sequence
//===----------------------------------------------------------------------===//

Error Generator::answer(TokenSpan prompt, Sink sink, Answer &result) {
  if (Error error = readPrompt(prompt, result))
    return error;
  return generate(sink, result);
}

Error Generator::readPrompt(TokenSpan prompt, Answer &result) {
  if (prompt.empty())
    return Error("the prompt is empty: there is nothing to continue");
  if (Error error = checkPromptFits(session, prompt.size()))
    return error;
  double start = secondsNow();
  Error error = stepPrompt(prompt, result);
  result.promptSeconds = secondsNow() - start;
  return error;
}

Error Generator::stepPrompt(TokenSpan prompt, Answer &result) {
  // The last token is always stepped again: its logits are needed.
  TokenSpan held = session.tokens();
  size_t most = std::min(held.size(), prompt.size() - 1);
  size_t common =
      std::mismatch(held.begin(), held.begin() + most, prompt.begin()).first -
      held.begin();
  session.truncate(0, common);
  prompt = prompt.subspan(common);
  result.cachedTokens = common;
  result.promptTokens = prompt.size();

  // Step by step, so that progress shows and Ctrl-C works in a long prompt.
  Progress progress("prompt", prompt.size());
  while (!prompt.empty()) {
    if (interrupted()) {
      result.reason = StopReason::Interrupt;
      break;
    }
    TokenSpan part =
        prompt.first(std::min<size_t>(session.stepTokens(), prompt.size()));
    prompt = prompt.subspan(part.size());
    if (Error error = session.append(0, part,
                                     prompt.empty() ? Session::Logits::Sample
                                                    : Session::Logits::None,
                                     nullptr))
      return error;
    progress.update(result.promptTokens - prompt.size());
  }
  return Error::success();
}

Error Generator::generate(Sink sink, Answer &result) {
  if (interrupted()) {
    result.reason = StopReason::Interrupt;
    return Error::success();
  }
  double start = secondsNow();
  AnswerBuilder builder(rules, sink, result);
  while (!builder.ended()) {
    // The last token is stepped only when its successor is wanted.
    if (!result.tokens.empty()) {
      if (interrupted()) {
        builder.end(StopReason::Interrupt);
        break;
      }
      if (session.room() == 0) {
        builder.end(StopReason::ContextFull);
        break;
      }
      TokenSpan last = TokenSpan(result.tokens).last(1);
      if (Error error =
              session.append(0, last, Session::Logits::Sample, nullptr))
        return error;
    }
    if (Error error = builder.add(session.sample(sampler)))
      return error;
  }
  Error error = builder.finish();
  result.generateSeconds = secondsNow() - start;
  return error;
}

//===----------------------------------------------------------------------===//
// Reports
//===----------------------------------------------------------------------===//

const char *tercet::reasonName(StopReason reason) {
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

std::string tercet::jsonList(TokenSpan tokens) {
  std::string list;
  for (int32_t token : tokens)
    list += (list.empty() ? "" : ", ") + std::to_string(token);
  return "[" + list + "]";
}

std::string tercet::answerJson(const Answer &answer) {
  return "{\"text\": " + jsonString(answer.text) +
         ", \"tokens\": " + jsonList(answer.tokens) +
         format(", \"prompt_tokens\": %zu, \"cached_tokens\": %zu, "
                "\"prompt_tokens_per_s\": %.2f, "
                "\"tokens_per_s\": %.2f, \"stop_reason\": \"%s\"}\n",
                answer.promptTokens, answer.cachedTokens,
                rate(answer.promptTokens, answer.promptSeconds),
                rate(answer.tokens.size(), answer.generateSeconds),
                reasonName(answer.reason));
}
