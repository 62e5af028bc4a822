// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Tune/MeasureCpu.h"
#include "compiler/Target/CostModel.h"
#include "compiler/Tune/MatmulData.h"
#include "compiler/Tune/MatmulKernel.h"
#include "runtime/src/Memory.h"
#include "runtime/src/ReadRate.h"
#include "runtime/src/ThreadPool.h"
#include "llvm/ADT/StringExtras.h"
#include <chrono>
#include <cstring>
#include <ctime>
#include <hwloc.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

using namespace llvm;
using namespace tercet;

/// Family, model and stepping as the manuals of Intel and AMD count them.
static void readIdentity(CpuDescription &cpu) {
#ifdef __x86_64__
  unsigned eax, ebx, ecx, edx;
  if (!__get_cpuid(0, &eax, &ebx, &ecx, &edx))
    return;
  char vendor[13] = {};
  std::memcpy(vendor, &ebx, 4);
  std::memcpy(vendor + 4, &edx, 4);
  std::memcpy(vendor + 8, &ecx, 4);
  cpu.vendor = vendor;
  __get_cpuid(1, &eax, &ebx, &ecx, &edx);
  cpu.stepping = eax & 15;
  cpu.family = eax >> 8 & 15;
  cpu.model = eax >> 4 & 15;
  if (cpu.family == 6 || cpu.family == 15)
    cpu.model += (eax >> 16 & 15) << 4;
  if (cpu.family == 15)
    cpu.family += eax >> 20 & 255;
#endif
}

/// The caches of the first CPU; false where hwloc knows nothing.
static bool readCaches(CpuDescription &cpu) {
  hwloc_topology_t topology;
  if (hwloc_topology_init(&topology))
    return false;
  bool isKnown = hwloc_topology_load(topology) == 0;
  if (isKnown) {
    cpu.numCpus = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU);
    for (hwloc_obj_t object = hwloc_get_obj_by_type(topology, HWLOC_OBJ_PU, 0);
         object; object = object->parent) {
      if (!hwloc_obj_type_is_dcache(object->type) ||
          object->attr->cache.depth < 2 || object->attr->cache.size == 0)
        continue;
      cpu.levels.push_back({"L" + utostr(object->attr->cache.depth),
                            int64_t(object->attr->cache.size),
                            unsigned(hwloc_bitmap_weight(object->cpuset))});
    }
  }
  hwloc_topology_destroy(topology);
  return isKnown && cpu.numCpus > 0;
}

Expected<CpuDescription> tercet::identifyCpu() {
  Expected<TargetSpec> native = parseTarget("native");
  if (!native)
    return native.takeError();
  CpuDescription assumed = assumeCpu(*native), cpu;
  cpu.target = native->text;
  readIdentity(cpu);
  if (!readCaches(cpu)) {
    cpu.numCpus = availableThreads();
    cpu.levels = assumed.levels;
    return cpu;
  }
  cpu.levels.push_back(assumed.levels.back());
  cpu.levels.back().numCpus = cpu.numCpus;
  for (MemoryLevel &level : cpu.levels)
    for (const MemoryLevel &other : assumed.levels)
      if (level.name == other.name) {
        level.readByOne = other.readByOne;
        level.readByAll = other.readByAll * cpu.numCpus;
      }
  return cpu;
}

bool tercet::canRun(const TargetSpec &target) {
  Expected<TargetSpec> native = parseTarget("native");
  if (!native) {
    consumeError(native.takeError());
    return false;
  }
  return native->triple == target.triple && native->has(target.cpuFeatures);
}

static double median(SmallVector<double> values) {
  auto *middle = values.begin() + values.size() / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Samples of at least two milliseconds.
static double measureMedianRead(tercet_pool &pool, const void *data,
                                uint64_t size) {
  SmallVector<double> rates;
  for (int sample = 0; sample < 7; ++sample)
    rates.push_back(measureReadRate(pool, data, size));
  return median(rates);
}

Error tercet::measureReading(CpuDescription &cpu) {
  constexpr uint64_t kLeastMemory = 256 << 20;
  int numThreads = availableThreads();
  uint64_t largest = kLeastMemory;
  for (const MemoryLevel &level : ArrayRef(cpu.levels).drop_back())
    largest = std::max<uint64_t>(largest, 3 * level.sizeInBytes / 2);
  PageMemory memory(largest);
  tercet_pool one(1, 0), all(numThreads, 0);
  if (!memory.data() || !one.isValid() || !all.isValid())
    return createStringError("no memory to measure how fast it is");
  std::memset(memory.data(), 1, largest);
  for (MemoryLevel &level : cpu.levels) {
    bool isMemory = &level == &cpu.levels.back();
    uint64_t half = isMemory ? largest : level.sizeInBytes / 2;
    unsigned numCaches =
        isMemory ? 1 : std::max(1u, numThreads / level.numCpus);
    level.readByOne = measureMedianRead(one, memory.data(), half);
    level.readByAll = measureMedianRead(
        all, memory.data(), std::min<uint64_t>(half * numCaches, largest));
  }
  cpu.date = getDate();
  return Error::success();
}

static double secondsOf(function_ref<void()> run) {
  auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

/// Units of work per second of calls that last about a millisecond.
static double sampleRate(function_ref<double()> run) {
  double work = 0, seconds = 0;
  while (seconds < 1e-3)
    seconds += secondsOf([&] { work += run(); });
  return work / seconds;
}

/// About what the smallest second-level caches hold, of whole tiles in every
/// packing, and of enough rows that the tables of l3 serve many.
static constexpr MatmulShape kSmallMatmul = {1920, 1024};

namespace {
/// A GEMV or GEMM of some packing, and where its rate goes.
struct RateSample {
  MatmulKernel kernel;
  ternary::Packing packing;
  int64_t numTokens;
  double *rate;
  SmallVector<double> samples = {};
};
} // namespace

/// What else runs only makes samples lower.
static double upperQuartile(SmallVectorImpl<double> &samples) {
  auto *middle = samples.begin() + samples.size() * 3 / 4;
  std::nth_element(samples.begin(), middle, samples.end());
  return *middle;
}

/// All kernels run in turns: where a machine is slow for a while, rates that
/// were measured one after the other would say that a packing is.
Error tercet::measureRates(CpuDescription &cpu, const TargetSpec &target) {
  CostModel model(cpu, target, /*numThreads=*/1);
  auto data = MatmulData::create(kSmallMatmul, kPrefillTokens);
  if (!data)
    return data.takeError();
  TargetRates rates;
  SmallVector<MatmulData::Footprint> footprints;
  std::vector<RateSample> kernels;
  uint64_t scratchBytes = 0;
  for (ternary::Packing packing : model.getPackings(kSmallMatmul)) {
    LayoutChoice choice = {
        packing, getBackend(target).getSchedule(packing, kSmallMatmul, target)};
    footprints.push_back({packing, /*bytes=*/0, /*isCached=*/true});
    MatmulRates &ofPacking = rates.packings[packing];
    for (auto [numTokens, rate] :
         {std::pair(int64_t(1), &ofPacking.gemv),
          std::pair(kPrefillTokens, &ofPacking.gemm)}) {
      auto kernel =
          MatmulKernel::compile(target, kSmallMatmul, numTokens, choice);
      if (!kernel)
        return kernel.takeError();
      scratchBytes = std::max(scratchBytes, kernel->getScratchBytes());
      kernels.push_back({std::move(*kernel), packing, numTokens, rate});
    }
  }
  if (Error error = data->spread(footprints))
    return error;
  tercet_pool pool(1, scratchBytes);
  if (!pool.isValid())
    return createStringError("no memory for a kernel");
  constexpr int kRounds = 17;
  for (int round = 0; round < kRounds; ++round)
    for (RateSample &of : kernels) {
      rates.dotPeak =
          std::max(rates.dotPeak,
                   sampleRate([&] { return of.kernel.runDotPeak(10000); }));
      auto run = [&] {
        data->run(of.kernel, of.packing, &pool);
        return double(kSmallMatmul.rows) * kSmallMatmul.cols * of.numTokens;
      };
      run(); // Its weights come back to the caches.
      of.samples.push_back(sampleRate(run));
    }
  for (RateSample &of : kernels)
    *of.rate = upperQuartile(of.samples);
  cpu.rates[target.text] = std::move(rates);
  return Error::success();
}

std::string tercet::getDate() {
  std::time_t now = std::time(nullptr);
  std::tm date;
  char text[sizeof("2026-11-28")];
  std::strftime(text, sizeof(text), "%F", gmtime_r(&now, &date));
  return text;
}
