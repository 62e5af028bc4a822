// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/BenchReport.h"
#include "runtime/src/Json.h"

#include <algorithm>

using namespace tercet;

/// Ratios to the limits of the same round hardly move on a machine that has
/// nothing else to do.
static constexpr double MostSpread = 0.1;

std::string BenchResult::noise() const {
  const BenchRow *worst = nullptr;
  const char *phase = nullptr;
  auto look = [&](const char *name, const std::vector<BenchRow> &rows) {
    for (const BenchRow &row : rows)
      if (row.fractionSpread > (worst ? worst->fractionSpread : MostSpread))
        worst = &row, phase = name;
  };
  look("prefill", prefill);
  look("decode", decode);
  if (!worst)
    return "";
  return format("the machine is too busy to say: %s (--threads %d) varied by "
                "%.0f%% of what it allows between rounds; run again on an idle "
                "one, or with --rounds 9",
                phase, worst->threads, 100 * worst->fractionSpread);
}

//===----------------------------------------------------------------------===//
// Text
//===----------------------------------------------------------------------===//

std::string tercet::formatText(const BenchResult &result) {
  std::string text =
      format("%s, --target=%s, load %.3f s, peak RSS %.0f MB, %lld tokens in "
             "the context at first, %d rounds\n\n"
             "threads  prefill %lld tok/s (of dot peak)   batch  decode %lld "
             "tok/s (of pure read)    per token\n",
             result.cpu.c_str(), result.target.c_str(), result.loadSeconds,
             result.peakRssInMB, (long long)result.depth, result.rounds,
             (long long)result.promptTokens, (long long)result.generatedTokens);
  auto prefill = result.prefill.begin();
  for (const BenchRow &row : result.decode) {
    if (prefill != result.prefill.end() && prefill->threads == row.threads) {
      text +=
          format("%7d %12.1f %7.1f%% of %6.1f GMAC/s", row.threads,
                 prefill->rate, 100 * prefill->fraction, prefill->limit / 1e9);
      ++prefill;
    } else {
      text += std::string(43, ' ');
    }
    text += format(" %6lld %12.1f %7.1f%% of %6.1f GB/s %8.1f MB\n",
                   (long long)row.batch, row.rate, 100 * row.fraction,
                   row.limit / 1e9, row.work / 1e6);
  }
  return text;
}

//===----------------------------------------------------------------------===//
// JSON
//===----------------------------------------------------------------------===//

template <typename Range, typename Function>
static std::string join(const Range &range, Function text) {
  std::string result;
  for (const auto &element : range)
    result += (result.empty() ? "" : ", ") + text(element);
  return result;
}

std::string tercet::formatJson(const BenchResult &result) {
  auto head = [&](const BenchRow &row, int64_t tokens) {
    return format("\"threads\": %d, \"depth\": %lld, \"tokens\": %lld, "
                  "\"tokens_per_s\": %.2f, \"spread\": %.4f, ",
                  row.threads, (long long)result.depth, (long long)tokens,
                  row.rate, row.spread);
  };
  auto prefill = [&](const BenchRow &row) {
    return "{" + head(row, result.promptTokens) +
           format("\"dot_gmac_per_s\": %.2f, \"fraction_of_dot_peak\": %.4f, "
                  "\"fraction_spread\": %.4f}",
                  row.limit / 1e9, row.fraction, row.fractionSpread);
  };
  auto decode = [&](const BenchRow &row) {
    std::string text =
        "{" + head(row, result.generatedTokens) +
        format("\"batch\": %lld, \"bytes_per_token\": %.0f, "
               "\"read_gb_per_s\": %.2f, \"fraction_of_read\": %.4f, "
               "\"fraction_spread\": %.4f, \"fraction_of_prefill\": %.4f",
               (long long)row.batch, row.work, row.limit / 1e9, row.fraction,
               row.fractionSpread, row.ofPrefill);
    if (row.isScreened)
      text += format(", \"exact_groups_per_token\": %.2f, \"full_heads\": %llu",
                     row.exactGroups, (unsigned long long)row.fullHeads);
    return text + "}";
  };
  auto kernel = [](const KernelTime &time) {
    return "{\"op\": " + jsonString(time.op) +
           ", \"layer\": " + jsonString(time.layer) +
           format(", \"decode_us\": %.2f, \"prefill_us\": %.2f}",
                  1e6 * time.decode, 1e6 * time.prefill);
  };
  return "{\"cpu\": " + jsonString(result.cpu) +
         ", \"target\": " + jsonString(result.target) + ", \"prefill\": [" +
         join(result.prefill, prefill) + "], \"decode\": [" +
         join(result.decode, decode) + "], \"kernels\": [" +
         join(result.kernels, kernel) + "], " +
         format("\"rounds\": %d, \"noise\": ", result.rounds) +
         jsonString(result.noise()) +
         format(", \"load_s\": %.4f, \"peak_rss_mb\": %.1f}\n",
                result.loadSeconds, result.peakRssInMB);
}
