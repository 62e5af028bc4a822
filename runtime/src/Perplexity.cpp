// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// --perplexity: the file is tokenised once, without BOS, and cut into
// consecutive windows of context - 1 tokens. Each window is read after a BOS
// of its own and every token in it is predicted, so no token is left out and
// none is counted twice. A model without BOS cannot predict the first token of
// a window: it is read but not scored.

#include "runtime/src/Commands.h"
#include "runtime/src/Console.h"

#include <algorithm>
#include <cmath>

using namespace tercet;

namespace {
/// Negative log-likelihoods of one batch of rows.
struct ScoreContext {
  const float *logits;
  const int32_t *targets;
  double *losses;
  uint32_t vocabSize;
};
} // namespace

/// Log-sum-exp in double: the sum over a large vocabulary in float would cost
/// the digits in which models differ.
static void scoreRows(void *context, int64_t begin, int64_t end, void *) {
  auto *score = static_cast<ScoreContext *>(context);
  for (int64_t row = begin; row < end; ++row) {
    const float *logits = score->logits + row * score->vocabSize;
    double top = *std::max_element(logits, logits + score->vocabSize);
    double sum = 0;
    for (uint32_t i = 0; i < score->vocabSize; ++i)
      sum += std::exp(logits[i] - top);
    score->losses[row] = top + std::log(sum) - logits[score->targets[row]];
  }
}

namespace {
class Scorer {
public:
  Scorer(Session &session, uint32_t batch)
      : session(session), batch(batch),
        logits(uint64_t(batch) * session.vocabSize()), losses(batch) {}

  /// Scores inputs[i] -> targets[i] from an empty context.
  Error scoreWindow(TokenSpan inputs, TokenSpan targets) {
    session.truncate(0, 0);
    while (!inputs.empty()) {
      size_t count = std::min<size_t>(batch, inputs.size());
      if (Error error = session.append(0, inputs.first(count),
                                       Session::Logits::All, logits.data()))
        return error;
      ScoreContext context{logits.data(), targets.data(), losses.data(),
                           session.vocabSize()};
      tercet_parallel_for(&session.pool(), scoreRows, &context, count,
                          /*work=*/-1);
      for (size_t i = 0; i < count; ++i)
        totalLoss += losses[i];
      numScored += count;
      inputs = inputs.subspan(count);
      targets = targets.subspan(count);
    }
    return Error::success();
  }

  double totalLoss = 0;
  uint64_t numScored = 0;

private:
  Session &session;
  uint32_t batch;
  std::vector<float> logits;
  std::vector<double> losses;
};
} // namespace

Error tercet::runPerplexity(Session &session, const Tokenizer &tokenizer,
                            int32_t bosToken, const CommandLine &line) {
  std::string text;
  if (Error error = readFile(line.input, text))
    return error;
  std::vector<int32_t> ids;
  EncodeOptions options;
  options.addSpecial = false;
  options.allowSpecial = line.specialTokens;
  if (Error error = tokenizer.encode(text, options, ids))
    return error;

  // With a BOS, its place in the window is the one before the first token.
  bool hasBos = bosToken >= 0;
  size_t windowSize = session.context() - (hasBos ? 1 : 0);
  if (ids.size() < (hasBos ? 1 : 2))
    return Error("--perplexity " + line.input + ": no token to predict");

  Scorer scorer(session, logitBatch(session, line));
  Progress progress("perplexity", ids.size());
  for (size_t at = 0; at < ids.size(); at += windowSize) {
    TokenSpan window =
        TokenSpan(ids).subspan(at, std::min(windowSize, ids.size() - at));
    std::vector<int32_t> inputs(window.begin(), window.end() - 1);
    if (hasBos)
      inputs.insert(inputs.begin(), bosToken);
    if (Error error = scorer.scoreWindow(inputs, window.last(inputs.size())))
      return error;
    progress.update(at + window.size());
    if (interrupted())
      return Error("interrupted");
  }

  double perToken = scorer.totalLoss / scorer.numScored;
  double bitsPerByte = scorer.totalLoss / std::log(2.0) / text.size();
  auto numScored = static_cast<unsigned long long>(scorer.numScored);
  if (line.json)
    return writeOutput(
        format("{\"tokens\": %llu, \"bytes\": %zu, \"context\": %u, "
               "\"nll_per_token\": %.9g, \"bits_per_byte\": %.9g, "
               "\"perplexity\": %.9g}\n",
               numScored, text.size(), session.context(), perToken, bitsPerByte,
               std::exp(perToken)));
  return writeOutput(format("%llu tokens, %zu bytes, context %u\n"
                            "nll/token  %.6f\nbits/byte  %.6f\n"
                            "perplexity %.6f\n",
                            numScored, text.size(), session.context(), perToken,
                            bitsPerByte, std::exp(perToken)));
}
