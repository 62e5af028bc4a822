// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// --bench: tokens per second beside what this machine could do at best. The
// limits, a pure read of the same weights and a dot-product loop on registers,
// are measured in the same rounds as the model: on a shared machine bandwidth
// drifts by half, and only such ratios mean anything.

#include "runtime/src/Commands.h"
#include "runtime/src/Console.h"
#include "runtime/src/CpuFeatures.h"
#include "runtime/src/Json.h"
#include "runtime/src/Sampler.h"

#include <algorithm>
#include <numeric>
#include <sys/resource.h>

using namespace tercet;

//===----------------------------------------------------------------------===//
// Pure read
//===----------------------------------------------------------------------===//

using Vector = uint64_t __attribute__((vector_size(64), aligned(64)));

static constexpr uint64_t ReadUnit = uint64_t(128) << 10;

/// Reads whole units as two streams half a unit apart: enough misses in flight
/// for DRAM, and each stream long enough for the hardware prefetcher.
[[gnu::always_inline]] static inline uint64_t sumUnits(const char *data,
                                                       int64_t numUnits) {
  constexpr uint64_t Half = ReadUnit / 2, Turn = 4 * sizeof(Vector);
  Vector low = {}, high = {};
  for (const char *end = data + numUnits * ReadUnit; data != end;
       data += ReadUnit)
    for (uint64_t i = 0; i < Half; i += Turn)
      for (uint64_t j = i; j < i + Turn; j += sizeof(Vector)) {
        low += *reinterpret_cast<const Vector *>(data + j);
        high += *reinterpret_cast<const Vector *>(data + Half + j);
      }
  low += high;
  uint64_t sum = 0;
  for (int lane = 0; lane < 8; ++lane)
    sum += low[lane];
  return sum;
}

static uint64_t sumBaseline(const char *data, int64_t numUnits) {
  return sumUnits(data, numUnits);
}

#ifdef __x86_64__
// A model in cache is read faster by wide loads; the archive is built for the
// baseline ISA.
[[gnu::target("avx2")]] static uint64_t sumAvx2(const char *data,
                                                int64_t numUnits) {
  return sumUnits(data, numUnits);
}
[[gnu::target("avx512f")]] static uint64_t sumAvx512(const char *data,
                                                     int64_t numUnits) {
  return sumUnits(data, numUnits);
}
#endif

using SumFunction = uint64_t (*)(const char *, int64_t);

static SumFunction widestSum() {
#ifdef __x86_64__
  uint64_t features = hostCpuFeatures();
  if (features & TERCET_CPU_AVX512F)
    return sumAvx512;
  if (features & TERCET_CPU_AVX2)
    return sumAvx2;
#endif
  return sumBaseline;
}

namespace {
struct ReadContext {
  const char *data;
  SumFunction sum;
  std::atomic<uint64_t> total{0}; // Keeps the loads alive.
};
} // namespace

static void readBody(void *context, int64_t begin, int64_t end, void *) {
  auto *read = static_cast<ReadContext *>(context);
  read->total.fetch_add(read->sum(read->data + begin * ReadUnit, end - begin),
                        std::memory_order_relaxed);
}

/// Bytes per second of reading what one decode step reads.
static double measureRead(Session &session, const Model &model) {
  uint64_t bytes = std::min<uint64_t>(model.header().ternary_bytes +
                                          model.header().head_bytes,
                                      model.artifact().weights().size());
  int64_t numUnits = static_cast<int64_t>(bytes / ReadUnit);
  if (numUnits == 0)
    return 0;
  ReadContext read{static_cast<const char *>(model.weights()), widestSum()};
  // Several passes over a model in cache, whose single pass is too short.
  double start = secondsNow(), seconds = 0;
  int64_t passes = 0;
  for (; seconds < 2e-3; ++passes) {
    tercet_parallel_for(&session.pool(), readBody, &read, numUnits);
    seconds = secondsNow() - start;
  }
  return passes * numUnits * ReadUnit / seconds;
}

//===----------------------------------------------------------------------===//
// Dot-product peak
//===----------------------------------------------------------------------===//

namespace {
struct DotContext {
  int64_t iterations;
  std::atomic<int64_t> multiplyAccumulates{0};
};
} // namespace

static void dotBody(void *context, int64_t begin, int64_t end, void *) {
  auto *dot = static_cast<DotContext *>(context);
  for (int64_t i = begin; i < end; ++i)
    dot->multiplyAccumulates += tercet_dot_peak(dot->iterations);
}

/// Multiply-accumulates per second of all threads.
static double measureDotPeak(Session &session) {
  // Pieces of about a millisecond, so that stealing evens out the threads.
  static int64_t iterations = [] {
    int64_t count = 1000;
    for (double seconds = 0; seconds < 1e-3; count *= 2) {
      double start = secondsNow();
      tercet_dot_peak(count);
      seconds = secondsNow() - start;
    }
    return count;
  }();
  DotContext dot{iterations};
  double start = secondsNow();
  tercet_parallel_for(&session.pool(), dotBody, &dot,
                      8 * session.pool().numThreads());
  return dot.multiplyAccumulates / (secondsNow() - start);
}

//===----------------------------------------------------------------------===//
// The model
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

static double median(std::vector<double> values) {
  auto middle = values.begin() + values.size() / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

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
  double kvPerToken =
      double(header.kv_stripes * artifact.kvBlockSize()) / TERCET_KV_BLOCK;
  return (header.ternary_bytes + headBytes(header, session, batch)) / batch +
         kvPerToken * meanLength;
}

//===----------------------------------------------------------------------===//
// Report
//===----------------------------------------------------------------------===//

static double ratio(double part, double whole) {
  return whole > 0 ? part / whole : 0;
}

/// Of a screened head, what a token took of the exact one.
static std::string describeScreen(const Session &session) {
  const ScreenedHead::Statistics *screen = session.screenStatistics();
  if (!screen)
    return "";
  return format(", \"exact_groups_per_token\": %.2f, \"full_heads\": %llu",
                groupsPerToken(session),
                (unsigned long long)screen->numComplete);
}

static std::string report(const Model &model, const CommandLine &line,
                          const std::vector<Series> &all, double loadSeconds) {
  const tercet_blob_header &header = model.header();
  double meanLength = line.benchDepth + (line.benchGenerate + 1) / 2.0;
  std::string prefill, decode, table;
  for (const Series &series : all) {
    int threads = series.session->pool().numThreads();
    double read = median(series.read), dot = median(series.dot);
    double prefillRate = median(series.prefill);
    double ofDot = ratio(prefillRate * header.ternary_weights, dot);
    prefill +=
        format("%s{\"threads\": %d, \"depth\": %lld, \"tokens\": %lld, "
               "\"tokens_per_s\": %.2f, \"dot_gmac_per_s\": %.2f, "
               "\"fraction_of_dot_peak\": %.4f}",
               prefill.empty() ? "" : ", ", threads, (long long)line.benchDepth,
               (long long)line.benchPrompt, prefillRate, dot / 1e9, ofDot);
    for (size_t i = 0; i < line.benchBatches.size(); ++i) {
      int64_t batch = line.benchBatches[i];
      double rate = median(series.decode[i]);
      double bytes =
          bytesPerToken(model.artifact(), *series.session, batch, meanLength);
      double ofRead = ratio(rate * bytes, read);
      decode +=
          format("%s{\"threads\": %d, \"batch\": %lld, \"depth\": %lld, "
                 "\"tokens\": %lld, \"tokens_per_s\": %.2f, "
                 "\"bytes_per_token\": %.0f, \"read_gb_per_s\": %.2f, "
                 "\"fraction_of_read\": %.4f, \"fraction_of_prefill\": %.4f%s}",
                 decode.empty() ? "" : ", ", threads, (long long)batch,
                 (long long)line.benchDepth, (long long)line.benchGenerate,
                 rate, bytes, read / 1e9, ofRead, ratio(rate, prefillRate),
                 batch == 1 ? describeScreen(*series.session).c_str() : "");
      table += i == 0 ? format("%7d %12.1f %7.1f%% of %6.1f GMAC/s", threads,
                               prefillRate, 100 * ofDot, dot / 1e9)
                      : std::string(43, ' ');
      table +=
          format(" %6lld %12.1f %7.1f%% of %6.1f GB/s %8.1f MB\n",
                 (long long)batch, rate, 100 * ofRead, read / 1e9, bytes / 1e6);
    }
  }
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  double rss = usage.ru_maxrss / 1024.0;
  if (line.json)
    return "{\"cpu\": " + jsonString(hostCpuName()) +
           ", \"target\": " + jsonString(header.target) + ", \"prefill\": [" +
           prefill + "], \"decode\": [" + decode + "], " +
           format("\"load_s\": %.4f, \"peak_rss_mb\": %.1f}\n", loadSeconds,
                  rss);
  return format("%s, --target=%s, load %.3f s, peak RSS %.0f MB, %lld tokens "
                "in the context at first\n\n",
                hostCpuName().c_str(), header.target, loadSeconds, rss,
                (long long)line.benchDepth) +
         format("threads  prefill %lld tok/s (of dot peak)   batch  decode "
                "%lld tok/s (of pure read)    per token\n",
                (long long)line.benchPrompt, (long long)line.benchGenerate) +
         table;
}

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

Error tercet::runBench(const Model &model, const CommandLine &line,
                       double loadSeconds) {
  if (Error error = checkBenchFits(model, line))
    return error;
  uint32_t vocab = model.header().vocab_size;
  std::vector<int32_t> prompt = makeTokens(line.benchPrompt, vocab);
  int64_t mostSequences =
      *std::max_element(line.benchBatches.begin(), line.benchBatches.end());
  std::vector<float> logits(mostSequences * vocab);
  int most =
      line.numThreads ? static_cast<int>(line.numThreads) : availableThreads();
  std::vector<Series> all;
  for (int threads : {1, most}) {
    if (!all.empty() && threads == 1)
      break;
    Session::Options options = sessionOptions(line);
    options.numThreads = threads;
    options.numSlots = static_cast<uint32_t>(mostSequences);
    Series &series = all.emplace_back();
    series.decode.resize(line.benchBatches.size());
    if (Error error = Session::create(model, options, series.session))
      return error;
    if (Error error = fillContexts(*series.session, line.benchDepth))
      return error;
  }

  // A first round, forgotten, touches memory and wakes the clocks. Then three,
  // or as many as a second holds for small models.
  Progress progress("bench", 3 * all.size());
  double start = 0;
  for (int round = -1; round < 3 || (secondsNow() - start < 1 && round < 50);
       ++round) {
    for (Series &series : all) {
      if (Error error = measurePrefill(series, line.benchDepth, prompt))
        return error;
      for (size_t i = 0; i < line.benchBatches.size(); ++i)
        if (Error error = measureDecode(
                *series.session, line.benchDepth, line.benchBatches[i],
                line.benchGenerate, logits, series.decode[i]))
          return error;
      series.read.push_back(measureRead(*series.session, model));
      series.dot.push_back(measureDotPeak(*series.session));
      if (round < 0)
        series.clear();
      if (interrupted())
        return Error("interrupted");
    }
    if (round < 0)
      start = secondsNow();
    progress.update(std::min<uint64_t>(round + 1, 3) * all.size());
  }
  return writeOutput(report(model, line, all, loadSeconds));
}
