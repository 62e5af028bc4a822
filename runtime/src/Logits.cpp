// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Commands.h"
#include "runtime/src/Console.h"
#include "runtime/src/Npy.h"

#include <algorithm>

using namespace tercet;

uint32_t tercet::logitBatch(const Session &session, const CommandLine &line) {
  constexpr uint64_t Budget = uint64_t(64) << 20;
  uint64_t rows = Budget / (session.vocabSize() * sizeof(float));
  uint32_t step = session.stepTokens();
  // A forced chunk size is a request about the steps themselves.
  return line.chunk ? step : std::clamp<uint64_t>(rows, 1, step);
}

Session::Options tercet::sessionOptions(const CommandLine &line) {
  Session::Options options;
  options.numThreads = static_cast<int>(line.numThreads);
  options.context = static_cast<uint32_t>(line.context);
  options.stepTokens = static_cast<uint32_t>(line.chunk);
  return options;
}

Error tercet::checkPromptFits(const Session &session, size_t numTokens) {
  if (numTokens <= session.context())
    return Error::success();
  return Error(format("the prompt has %zu tokens, more than the context of %u "
                      "holds: shorten it",
                      numTokens, session.context()));
}

Error tercet::runLogits(Session &session, const CommandLine &line,
                        TokenSpan tokens) {
  if (Error error = checkPromptFits(session, tokens.size()))
    return error;
  NpyWriter writer;
  int64_t shape[] = {static_cast<int64_t>(tokens.size()), session.vocabSize()};
  if (Error error = writer.open(line.logitsPath, "<f4", shape))
    return error;
  uint32_t batch = logitBatch(session, line);
  std::vector<float> logits(std::min<uint64_t>(batch, tokens.size()) *
                            session.vocabSize());
  Progress progress("logits", tokens.size());
  while (!tokens.empty()) {
    TokenSpan part = tokens.first(std::min<size_t>(batch, tokens.size()));
    if (Error error =
            session.append(0, part, Session::Logits::All, logits.data()))
      return error;
    if (Error error = writer.write(
            logits.data(), part.size() * session.vocabSize() * sizeof(float)))
      return error;
    tokens = tokens.subspan(part.size());
    progress.update(session.length());
    if (interrupted())
      return Error("interrupted");
  }
  return writer.finish();
}
