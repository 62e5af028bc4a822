// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// --prompts: many prompts, several sequences at a time. A step takes the next
// token of every answer and as much of waiting prompts as still fits; when an
// answer ends, the next prompt takes its place.

#include "runtime/src/Commands.h"
#include "runtime/src/Console.h"
#include "runtime/src/Generator.h"
#include "runtime/src/Json.h"

#include <algorithm>
#include <cassert>

using namespace tercet;

//===----------------------------------------------------------------------===//
// Input
//===----------------------------------------------------------------------===//

/// {"prompt": TEXT} or {"tokens": [IDS]}; false for anything else.
static bool parseObject(std::string_view line, std::optional<std::string> &text,
                        std::vector<int32_t> &tokens) {
  JsonReader json(line);
  std::string key;
  if (!json.take('{') || !json.string(key) || !json.take(':'))
    return false;
  if (key == "prompt") {
    if (!json.string(text.emplace()))
      return false;
  } else if (key == "tokens") {
    int64_t id = 0;
    if (!json.take('['))
      return false;
    do {
      if (!json.integer(id) || id < 0 || id > INT32_MAX)
        return false;
      tokens.push_back(static_cast<int32_t>(id));
    } while (json.take(','));
    if (!json.take(']'))
      return false;
  } else {
    return false;
  }
  return json.take('}') && json.atEnd();
}

static Error parsePrompt(std::string_view line, const Tokenizer *tokenizer,
                         const EncodeOptions &options,
                         std::vector<int32_t> &tokens) {
  std::optional<std::string> text;
  if (!line.starts_with('{'))
    text = line;
  else if (!parseObject(line, text, tokens))
    return Error("a line that starts with { must be {\"prompt\": TEXT} or "
                 "{\"tokens\": [IDS]}");
  if (!text)
    return Error::success();
  if (!tokenizer)
    return Error("this model was compiled without a tokenizer: write "
                 "{\"tokens\": [IDS]}");
  return tokenizer->encode(*text, options, tokens);
}

Error tercet::readPrompts(const CommandLine &line, const Tokenizer *tokenizer,
                          std::vector<std::vector<int32_t>> &prompts) {
  std::string text;
  if (Error error = readFile(line.input, text))
    return error;
  EncodeOptions options;
  options.allowSpecial = line.specialTokens;
  for (std::string_view rest = text; !rest.empty();) {
    std::string_view current = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(current.size() + 1, rest.size()));
    if (current.ends_with('\r'))
      current.remove_suffix(1);
    Error error =
        parsePrompt(current, tokenizer, options, prompts.emplace_back());
    if (!error && prompts.back().empty())
      error = Error("the prompt is empty: there is nothing to continue");
    if (error)
      return Error(
          format("%s, line %zu: ", line.input.c_str(), prompts.size()) +
          error.message());
  }
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Answering
//===----------------------------------------------------------------------===//

static constexpr int64_t DefaultParallel = 16;

static Error discard(std::string_view) { return Error::success(); }

namespace {
using Prompts = std::span<const std::vector<int32_t>>;

/// A prompt and its answer, from joining the batch to leaving it.
struct Sequence {
  Sequence(const AnswerRules &rules, size_t index, TokenSpan prompt)
      : index(index), prompt(prompt), sampler(rules.makeSampler()),
        builder(rules, discard, answer) {}

  size_t index;
  TokenSpan prompt; // What has not been stepped yet.
  Answer answer;
  Sampler sampler;
  AnswerBuilder builder;
};

class Scheduler {
public:
  Scheduler(Session &session, const AnswerRules &rules, Prompts prompts)
      : session(session), rules(rules), prompts(prompts),
        sequences(session.numSlots()), outputs(prompts.size()),
        logits(size_t(session.numSlots()) * session.vocabSize()) {}

  Error run();
  size_t numTokens() const { return answerTokens; }

private:
  void join();
  Error step();
  void appendToken(int32_t slot, int32_t token, bool wantsLogits);
  Error takeLogits(int32_t slot, std::span<const float> row);
  Error leave(int32_t slot);
  Error interrupt();

  Session &session;
  const AnswerRules &rules;
  Prompts prompts;
  std::vector<std::unique_ptr<Sequence>> sequences; // of each slot, or null
  size_t nextPrompt = 0, answered = 0, answerTokens = 0, written = 0;
  std::vector<std::string> outputs; // Those that wait for an earlier one.
  // The step being prepared, and its logits.
  std::vector<int32_t> tokens, slots, rows;
  std::vector<float> logits;
};
} // namespace

/// Prompts take the free slots.
void Scheduler::join() {
  for (auto &sequence : sequences)
    if (!sequence && nextPrompt < prompts.size()) {
      sequence =
          std::make_unique<Sequence>(rules, nextPrompt, prompts[nextPrompt]);
      ++nextPrompt;
    }
}

void Scheduler::appendToken(int32_t slot, int32_t token, bool wantsLogits) {
  if (wantsLogits)
    rows.push_back(static_cast<int32_t>(tokens.size()));
  tokens.push_back(token);
  slots.push_back(slot);
}

Error Scheduler::step() {
  tokens.clear(), slots.clear(), rows.clear();
  for (size_t slot = 0; slot < sequences.size(); ++slot)
    if (sequences[slot] && sequences[slot]->prompt.empty())
      appendToken(slot, sequences[slot]->answer.tokens.back(), true);
  for (size_t slot = 0; slot < sequences.size(); ++slot)
    if (sequences[slot])
      for (TokenSpan &rest = sequences[slot]->prompt;
           !rest.empty() && tokens.size() < session.stepTokens();
           rest = rest.subspan(1))
        appendToken(slot, rest[0], rest.size() == 1);
  if (Error error = session.append({tokens, slots, rows}, logits.data()))
    return error;
  for (size_t r = 0; r < rows.size(); ++r)
    if (Error error =
            takeLogits(slots[rows[r]], {logits.data() + r * session.vocabSize(),
                                        session.vocabSize()}))
      return error;
  return Error::success();
}

Error Scheduler::takeLogits(int32_t slot, std::span<const float> row) {
  Sequence &sequence = *sequences[slot];
  AnswerBuilder &builder = sequence.builder;
  if (!builder.ended())
    if (Error error = builder.add(sequence.sampler.sample(row)))
      return error;
  if (!builder.ended() && session.room(slot) == 0)
    builder.end(StopReason::ContextFull);
  return builder.ended() ? leave(slot) : Error::success();
}

/// Frees a slot and writes the answers whose turn it is.
Error Scheduler::leave(int32_t slot) {
  Sequence &sequence = *sequences[slot];
  if (Error error = sequence.builder.finish())
    return error;
  const Answer &answer = sequence.answer;
  outputs[sequence.index] =
      format("{\"index\": %zu, \"text\": ", sequence.index) +
      jsonString(answer.text) + ", \"tokens\": " + jsonList(answer.tokens) +
      format(", \"prompt_tokens\": %zu, \"stop_reason\": \"%s\"}\n",
             prompts[sequence.index].size(), reasonName(answer.reason));
  ++answered;
  answerTokens += answer.tokens.size();
  sequences[slot].reset();
  session.truncate(slot, 0);
  for (; written < outputs.size() && !outputs[written].empty(); ++written)
    if (Error error = writeOutput(std::exchange(outputs[written], {})))
      return error;
  return Error::success();
}

/// Writes what there is of the answers that have begun.
Error Scheduler::interrupt() {
  size_t complete = answered;
  for (size_t slot = 0; slot < sequences.size(); ++slot)
    if (sequences[slot]) {
      sequences[slot]->builder.end(StopReason::Interrupt);
      if (Error error = leave(slot))
        return error;
    }
  return Error(format("interrupted: %zu of %zu prompts have their answer",
                      complete, prompts.size()));
}

Error Scheduler::run() {
  Progress progress("prompts", prompts.size());
  while (answered < prompts.size()) {
    if (interrupted())
      return interrupt();
    join();
    if (Error error = step())
      return error;
    progress.update(answered);
  }
  return Error::success();
}

Error tercet::runPrompts(const Model &model, const CommandLine &line,
                         const Tokenizer *tokenizer,
                         std::span<const std::vector<int32_t>> prompts) {
  Session::Options options = sessionOptions(line);
  options.numSlots = static_cast<uint32_t>(std::clamp<int64_t>(
      prompts.size(), 1, line.parallel ? line.parallel : DefaultParallel));
  std::unique_ptr<Session> session;
  if (Error error = Session::create(model, options, session))
    return error;
  size_t numPromptTokens = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    numPromptTokens += prompts[i].size();
    if (Error error = checkPromptFits(*session, prompts[i].size()))
      return Error(format("%s, line %zu: ", line.input.c_str(), i + 1) +
                   error.message());
  }
  AnswerRules rules(model.artifact(), tokenizer, line);
  Scheduler scheduler(*session, rules, prompts);
  double start = secondsNow();
  if (Error error = scheduler.run())
    return error;
  double seconds = secondsNow() - start;
  note("%zu prompts, %zu at once; %zu tokens of prompts and %zu of answers in "
       "%.2f s: %.1f/s",
       prompts.size(), size_t(session->numSlots()), numPromptTokens,
       scheduler.numTokens(), seconds,
       (numPromptTokens + scheduler.numTokens()) / seconds);
  return Error::success();
}
