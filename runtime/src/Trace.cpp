// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// --trace FILE: what each kernel of a step computed, for `tercet verify`.

#include "runtime/src/Commands.h"
#include "runtime/src/Console.h"

#include <cstdio>
#include <cstring>

using namespace tercet;

namespace {
struct Trace {
  std::vector<tercet_trace_range> ranges;
  std::string_view arena;
  FILE *file = nullptr;
  uint64_t numCalls = 0;
  size_t nextRange = 0;
};
} // namespace

/// A failed write is sticky: the stream is asked once, at the end.
static void onCall(void *context) {
  auto &trace = *static_cast<Trace *>(context);
  for (; trace.nextRange < trace.ranges.size(); ++trace.nextRange) {
    const tercet_trace_range &range = trace.ranges[trace.nextRange];
    if (range.call != trace.numCalls)
      break;
    fwrite(trace.arena.data() + range.offset, 1, range.size, trace.file);
  }
  ++trace.numCalls;
}

static Error readRanges(const std::string &path, std::string_view arena,
                        std::vector<tercet_trace_range> &ranges) {
  std::string bytes;
  if (Error error = readFile(path, bytes))
    return error;
  if (bytes.size() % sizeof(tercet_trace_range))
    return Error("--trace " + path + ": is no array of ranges");
  ranges.resize(bytes.size() / sizeof(tercet_trace_range));
  memcpy(ranges.data(), bytes.data(), bytes.size());
  for (const tercet_trace_range &range : ranges)
    if (range.offset > arena.size() || range.size > arena.size() - range.offset)
      return Error("--trace " + path + ": a range leaves the arena");
  return Error::success();
}

Error tercet::runTrace(Session &session, const CommandLine &line,
                       TokenSpan tokens) {
  if (tokens.size() > session.stepTokens())
    return Error(format("--trace: %zu tokens are more than one step (%u)",
                        tokens.size(), session.stepTokens()));
  Trace trace;
  trace.arena = session.arenaBytes();
  if (Error error = readRanges(line.tracePath, trace.arena, trace.ranges))
    return error;
  trace.file = fopen(line.tracePath.c_str(), "abe");
  if (!trace.file)
    return errnoError("write " + line.tracePath);

  std::vector<float> logits(tokens.size() * session.vocabSize());
  session.pool().observer = onCall;
  session.pool().observerContext = &trace;
  Error error = session.append(0, tokens, Session::Logits::All, logits.data());
  if (!error && session.screenStatistics())
    session.approximate(tokens.size(), logits.data());
  session.pool().observer = nullptr;

  fwrite(&trace.numCalls, sizeof trace.numCalls, 1, trace.file);
  bool failed = ferror(trace.file);
  failed |= fclose(trace.file) != 0;
  if (!error && failed)
    return errnoError("write " + line.tracePath);
  return error;
}
