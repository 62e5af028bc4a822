// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/KernelTimes.h"
#include "runtime/src/Console.h"
#include "runtime/src/Statistics.h"

using namespace tercet;

std::vector<KernelTime> tercet::listKernels(const Artifact &artifact) {
  std::vector<KernelTime> kernels;
  std::string_view rest = artifact.section(TERCET_SECTION_KERNELS);
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    size_t tab = std::min(line.find('\t'), line.size());
    std::string_view layer = line.substr(std::min(tab + 1, line.size()));
    kernels.push_back({line.substr(0, tab), layer});
  }
  return kernels;
}

namespace {
/// Reads the time after each kernel of a step. What runs between two of them
/// counts as the second.
struct Clock {
  std::vector<std::vector<double>> samples; // of each kernel
  size_t next = 0;
  double last = 0;

  void start() {
    next = 0;
    last = secondsNow();
  }
  static void onCall(void *context) {
    auto &clock = *static_cast<Clock *>(context);
    double now = secondsNow();
    // The rows of a screened head follow those of the step.
    if (clock.next < clock.samples.size())
      clock.samples[clock.next++].push_back(now - clock.last);
    clock.last = now;
  }
};
} // namespace

static Error measureSteps(Session &session, uint32_t depth, TokenSpan tokens,
                          std::vector<KernelTime> &kernels,
                          double KernelTime::*seconds) {
  // A tenth of a second, but few enough steps that nobody waits for them.
  constexpr int MinSteps = 5, MaxSteps = 100;
  Clock clock;
  clock.samples.resize(kernels.size());
  double start = secondsNow();
  for (int step = 0;
       step < MinSteps || (step < MaxSteps && secondsNow() - start < 0.1);
       ++step) {
    session.truncate(0, depth);
    session.pool().observerContext = &clock;
    session.pool().observer = Clock::onCall;
    clock.start();
    Error error = session.append(0, tokens, Session::Logits::Sample, nullptr);
    session.pool().observer = nullptr;
    if (error)
      return error;
  }
  for (size_t i = 0; i < kernels.size(); ++i)
    if (!clock.samples[i].empty())
      kernels[i].*seconds = median(clock.samples[i]);
  return Error::success();
}

Error tercet::measureKernels(Session &session, uint32_t depth, TokenSpan chunk,
                             std::vector<KernelTime> &kernels) {
  if (Error error = measureSteps(session, depth, chunk.first(1), kernels,
                                 &KernelTime::decode))
    return error;
  return measureSteps(session, depth, chunk, kernels, &KernelTime::prefill);
}
