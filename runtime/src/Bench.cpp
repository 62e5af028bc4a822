// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// --bench: tokens per second beside what this machine could do at best. The
// limits, a pure read of the same weights and a dot-product loop on registers,
// are measured in the same rounds as the model: on a shared machine bandwidth
// drifts by half, and only such ratios mean anything.

#include "runtime/src/BenchReport.h"
#include "runtime/src/Commands.h"
#include "runtime/src/Console.h"
#include "runtime/src/CpuFeatures.h"
#include "runtime/src/DotPeak.h"
#include "runtime/src/Memory.h"
#include "runtime/src/OutputFile.h"
#include "runtime/src/ReadRate.h"
#include "runtime/src/Sampler.h"
#include "runtime/src/Statistics.h"

#include <numeric>

using namespace tercet;

//===----------------------------------------------------------------------===//
// Measuring
//===----------------------------------------------------------------------===//

namespace {
/// One thread count: a sample per round of each quantity, in units per second.
struct Series {
  std::unique_ptr<Session> session;
  std::vector<double> prefill, read, dot;
  std::vector<std::vector<double>> decode; // of each --batch

  void clear() {
    prefill.clear(), read.clear(), dot.clear();
    for (std::vector<double> &samples : decode)
      samples.clear();
  }
};
} // namespace

static std::vector<int32_t> makeTokens(size_t count, uint32_t vocab) {
  std::vector<int32_t> tokens(count);
  for (size_t i = 0; i < count; ++i)
    tokens[i] = static_cast<int32_t>((i * 7919 + 1) % vocab);
  return tokens;
}

/// Fills every slot to --depth.
static Error fillContexts(Session &session, int64_t depth) {
  std::vector<int32_t> tokens = makeTokens(depth, session.vocabSize());
  if (Error error = session.append(0, tokens, Session::Logits::None, nullptr))
    return error;
  for (uint32_t slot = 1; slot < session.numSlots(); ++slot)
    session.copy(0, slot);
  return Error::success();
}

static Error measurePrefill(Series &series, int64_t depth, TokenSpan prompt) {
  series.session->truncate(0, depth);
  double start = secondsNow();
  if (Error error =
          series.session->append(0, prompt, Session::Logits::Sample, nullptr))
    return error;
  Sampler greedy({});
  series.session->sample(greedy);
  series.prefill.push_back(prompt.size() / (secondsNow() - start));
  return Error::success();
}

/// Tokens per second of some sequences together, each greedy.
static Error measureDecode(Session &session, int64_t depth, int64_t batch,
                           int64_t numSteps, std::vector<float> &logits,
                           std::vector<double> &samples) {
  std::vector<int32_t> slots(batch);
  std::iota(slots.begin(), slots.end(), 0);
  for (int32_t slot : slots)
    session.truncate(slot, depth);
  std::vector<int32_t> tokens = makeTokens(batch, session.vocabSize());
  Sampler greedy({});
  double start = secondsNow();
  for (int64_t step = 0; step < numSteps; ++step) {
    if (batch == 1) { // as an answer does: a screened head computes less
      if (Error error =
              session.append(0, tokens, Session::Logits::Sample, nullptr))
        return error;
      tokens[0] = session.sample(greedy);
      continue;
    }
    // The slots 0, 1, 2, ... are also the rows of the logits.
    if (Error error = session.append({tokens, slots, slots}, logits.data()))
      return error;
    for (int64_t i = 0; i < batch; ++i)
      tokens[i] = greedy.sample(std::span<const float>(logits).subspan(
          i * session.vocabSize(), session.vocabSize()));
  }
  samples.push_back(batch * numSteps / (secondsNow() - start));
  return Error::success();
}

/// Groups of rows that a screened head read for a token, on average.
static double groupsPerToken(const Session &session) {
  const ScreenedHead::Statistics *screen = session.screenStatistics();
  return screen ? double(screen->numGroups) / screen->numTokens : 0;
}

/// What a step of some sequences reads of the head: of a screened one either
/// the copy and some groups of rows, or for several sequences all groups.
static double headBytes(const tercet_blob_header &header,
                        const Session &session, int64_t batch) {
  if (batch == 1 || !session.screenStatistics())
    return header.head_bytes +
           groupsPerToken(session) * header.head_group_bytes;
  return (header.vocab_size + TERCET_HEAD_GROUP - 1) / TERCET_HEAD_GROUP *
         double(header.head_group_bytes);
}

/// A sequence's part of weights and head, and its KV cache at the mean length
/// of the measurement.
static double bytesPerToken(const Artifact &artifact, const Session &session,
                            int64_t batch, double meanLength) {
  const tercet_blob_header &header = artifact.header();
  double kvPerToken = double(artifact.kvRowSize()) / TERCET_KV_BLOCK;
  return (header.ternary_bytes + headBytes(header, session, batch)) / batch +
         kvPerToken * meanLength;
}

/// Bytes per second of reading what one decode step reads.
static double measureRead(Series &series, const Model &model) {
  uint64_t bytes = std::min<uint64_t>(model.header().ternary_bytes +
                                          model.header().head_bytes,
                                      model.artifact().weights().size());
  return measureReadRate(series.session->pool(), model.weights(), bytes);
}

static Error measureRound(Series &series, const Model &model,
                          const CommandLine &line, TokenSpan prompt,
                          std::vector<float> &logits) {
  if (Error error = measurePrefill(series, line.benchDepth, prompt))
    return error;
  for (size_t i = 0; i < line.benchBatches.size(); ++i)
    if (Error error = measureDecode(*series.session, line.benchDepth,
                                    line.benchBatches[i], line.benchGenerate,
                                    logits, series.decode[i]))
      return error;
  series.read.push_back(measureRead(series, model));
  series.dot.push_back(measureDotPeak(series.session->pool()));
  return interrupted() ? Error("interrupted") : Error::success();
}

//===----------------------------------------------------------------------===//
// Results
//===----------------------------------------------------------------------===//

static BenchRow makeRow(const Series &series, const std::vector<double> &rates,
                        double work, const std::vector<double> &limits) {
  BenchRow row;
  row.threads = series.session->pool().numThreads();
  row.rate = median(rates);
  row.spread = spread(rates);
  row.limit = median(limits);
  row.work = work;
  if (row.limit == 0) // a model too small to say
    return row;
  std::vector<double> fractions;
  for (size_t i = 0; i < rates.size(); ++i)
    fractions.push_back(rates[i] * work / limits[i]);
  row.fraction = median(fractions);
  row.fractionSpread = spread(fractions);
  return row;
}

static void addRows(const Series &series, const Model &model,
                    const CommandLine &line, BenchResult &result) {
  const Session &session = *series.session;
  double meanLength = line.benchDepth + (line.benchGenerate + 1) / 2.0;
  result.prefill.push_back(
      makeRow(series, series.prefill, result.ternaryWeights, series.dot));
  for (size_t i = 0; i < line.benchBatches.size(); ++i) {
    int64_t batch = line.benchBatches[i];
    BenchRow row =
        makeRow(series, series.decode[i],
                bytesPerToken(model.artifact(), session, batch, meanLength),
                series.read);
    row.batch = batch;
    row.ofPrefill = row.rate / result.prefill.back().rate;
    if (const auto *screen = session.screenStatistics(); screen && batch == 1) {
      row.isScreened = true;
      row.exactGroups = groupsPerToken(session);
      row.fullHeads = screen->numComplete;
    }
    result.decode.push_back(row);
  }
}

static Error writeReport(const CommandLine &line, const BenchResult &result) {
  if (!line.reportPath.empty()) {
    OutputFile file;
    std::string page = formatHtml(result);
    if (Error error = file.open(line.reportPath))
      return error;
    if (Error error = file.write(page.data(), page.size()))
      return error;
    if (Error error = file.finish())
      return error;
  }
  if (std::string noise = result.noise(); !noise.empty())
    note("warning: %s", noise.c_str());
  return writeOutput(line.json ? formatJson(result) : formatText(result));
}

//===----------------------------------------------------------------------===//
// --bench
//===----------------------------------------------------------------------===//

static Error checkBenchFits(const Model &model, const CommandLine &line) {
  uint32_t context = line.context ? line.context : model.header().context;
  int64_t most =
      line.benchDepth + std::max(line.benchPrompt, line.benchGenerate);
  if (most <= context)
    return Error::success();
  return Error(format("--bench: %lld tokens do not fit the context of %u: give "
                      "a smaller --depth, --prompt or --gen",
                      (long long)most, context));
}

/// A session for one thread, and one for all.
static Error openSeries(const Model &model, const CommandLine &line,
                        uint32_t numSlots, std::vector<Series> &all) {
  int most =
      line.numThreads ? static_cast<int>(line.numThreads) : availableThreads();
  for (int threads : {1, most}) {
    if (!all.empty() && threads == 1)
      break;
    Session::Options options = sessionOptions(line);
    options.numThreads = threads;
    options.numSlots = numSlots;
    Series &series = all.emplace_back();
    series.decode.resize(line.benchBatches.size());
    if (Error error = Session::create(model, options, series.session))
      return error;
    if (Error error = fillContexts(*series.session, line.benchDepth))
      return error;
  }
  return Error::success();
}

Error tercet::runBench(const Model &model, const CommandLine &line,
                       double loadSeconds) {
  if (Error error = checkBenchFits(model, line))
    return error;
  uint32_t vocab = model.header().vocab_size;
  std::vector<int32_t> prompt = makeTokens(line.benchPrompt, vocab);
  uint32_t mostSequences = static_cast<uint32_t>(
      *std::max_element(line.benchBatches.begin(), line.benchBatches.end()));
  std::vector<float> logits(size_t(mostSequences) * vocab);
  std::vector<Series> all;
  if (Error error = openSeries(model, line, mostSequences, all))
    return error;

  // A first round, forgotten, touches memory and wakes the clocks. Then as many
  // as were asked for, or as a second holds for small models.
  int rounds = static_cast<int>(line.benchRounds);
  Progress progress("bench", rounds * all.size());
  double start = 0;
  int round = -1;
  for (; round < rounds || (secondsNow() - start < 1 && round < 50); ++round) {
    for (Series &series : all) {
      if (Error error = measureRound(series, model, line, prompt, logits))
        return error;
      if (round < 0)
        series.clear();
    }
    if (round < 0)
      start = secondsNow();
    progress.update(std::min(round + 1, rounds) * all.size());
  }

  BenchResult result;
  result.cpu = hostCpuName();
  result.target = model.artifact().target();
  result.depth = line.benchDepth;
  result.promptTokens = line.benchPrompt;
  result.generatedTokens = line.benchGenerate;
  result.rounds = round;
  result.loadSeconds = loadSeconds;
  result.ternaryWeights = model.header().ternary_weights;
  result.stepBytes = model.header().ternary_bytes + model.header().head_bytes;
  for (const Series &series : all)
    addRows(series, model, line, result);

  Session &session = *all.back().session;
  result.kernels = listKernels(model.artifact());
  TokenSpan chunk = TokenSpan(prompt).first(
      std::min<size_t>(prompt.size(), session.stepTokens()));
  result.stepTokens = chunk.size();
  if (!result.kernels.empty())
    if (Error error =
            measureKernels(session, line.benchDepth, chunk, result.kernels))
      return error;
  result.peakRssInMB = peakMemoryInBytes() / 1048576.0;
  return writeReport(line, result);
}
