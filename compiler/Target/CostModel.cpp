// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Target/CostModel.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"
#include <cmath>

using namespace llvm;
using tercet::ternary::Packing;
using tercet::ternary::Schedule;

namespace tercet {

static constexpr Packing kTritPackings[] = {Packing::I2, Packing::T5,
                                            Packing::T3, Packing::L3};

/// What is left of a cache beside activations and other programs.
static constexpr double kUsablePart = 0.75;

/// Bytes per second that a core loads of tables between lines from memory. With
/// it l3 reads 18 GB/s of 33 in 4 tiles and 26 in 12 on Zen 4 (measured: 20, 24
/// to 28), 13 and 17 of 20 on Sapphire Rapids (16, 20).
static constexpr double kTableRate = 30e9;

/// Seconds in which a core builds the table of three columns: 5 % of a GEMM of
/// 2560 rows. That of a single token is built by one core.
static constexpr double kTableTime = 1.6e-9;

/// Predictions closer than that are equal.
static constexpr double kTie = 1.05;

double getBitsPerTrit(Packing packing) {
  switch (packing) {
  case Packing::I2:
    return 2;
  case Packing::T5:
    return 8.0 / 5;
  case Packing::T3:
    return 5.0 / 3;
  case Packing::L3:
    return 16.0 / 9;
  default:
    llvm_unreachable("not a packing of trits");
  }
}

static double getBytes(MatmulShape shape, Packing packing) {
  double scales = shape.group ? 4.0 / shape.group : 0;
  return double(shape.rows) * shape.cols *
         (getBitsPerTrit(packing) / 8 + scales);
}

static int64_t countPlanes(Packing packing) {
  switch (packing) {
  case Packing::I2:
    return 4;
  case Packing::T5:
    return 5;
  case Packing::T3:
    return 3;
  default:
    return 2;
  }
}

/// How much slower a schedule should be than one that suits the registers: with
/// sums that find none, or too few sums for the latency of dot products. A GEMM
/// loads or unpacks an operand of each plane and of each token for their dots.
static double getPenalty(Packing packing, const Schedule &schedule,
                         BatchClass batch, VectorRegisters registers) {
  int64_t parts = schedule.parts ? schedule.parts : 16 / schedule.lanes;
  bool isGemv = batch == BatchClass::Decode;
  // l3 has unrolled tiles in both, a GEMM at most 4 at a time, with a sum for
  // each plane's half of a lane.
  int64_t sums =
      packing == Packing::L3
          ? std::min<int64_t>(schedule.unroll, isGemv ? INT64_MAX : 4)
          : countPlanes(packing) * (isGemv ? parts * schedule.unroll : 1);
  if (!isGemv)
    sums *= schedule.tokens;
  constexpr int64_t kOthers = 4, kSumsInFlight = 8;
  constexpr double kOperand = 0.25;
  // Some cores execute two halves of a register as fast as the whole.
  double penalty = std::sqrt(double(registers.lanes) / schedule.lanes);
  if (sums + kOthers > registers.count)
    penalty *= 1 + double(sums + kOthers - registers.count) / registers.count;
  if (sums < kSumsInFlight)
    penalty *= std::sqrt(double(kSumsInFlight) / sums);
  if (!isGemv)
    penalty *= 1 + kOperand / schedule.tokens;
  return penalty;
}

CostModel::CostModel(CpuDescription cpu, TargetSpec target, unsigned numThreads)
    : cpu(std::move(cpu)), target(std::move(target)), numThreads(numThreads) {}

unsigned CostModel::countCaches(const MemoryLevel &level) const {
  return std::max(1u, numThreads / level.numCpus);
}

const MemoryLevel &CostModel::getHome(int64_t sizeInBytes) const {
  for (const MemoryLevel &level : ArrayRef(cpu.levels).drop_back())
    if (sizeInBytes <= kUsablePart * level.sizeInBytes * countCaches(level))
      return level;
  return cpu.levels.back();
}

int64_t CostModel::getFootprint(const ModelShapes &model,
                                Packing packing) const {
  double bytes = model.otherBytes;
  for (MatmulShape shape : model.matmuls)
    bytes += getBytes(shape, packing);
  return int64_t(bytes);
}

MatmulRates CostModel::getRates(Packing packing) const {
  auto measured = cpu.rates.find(target.text);
  if (measured != cpu.rates.end())
    if (auto rates = measured->second.packings.find(packing);
        rates != measured->second.packings.end())
      return rates->second;
  return getBackend(target)
      .getRates(packing, target, cpu)
      .value_or(MatmulRates{1, 1});
}

double CostModel::getReadRate(const MemoryLevel &level) const {
  if (numThreads >= cpu.numCpus)
    return level.readByAll;
  return std::min(level.readByOne * numThreads, level.readByAll);
}

/// What a GEMV of l3 loads of its tables for each byte of weights: three lines
/// for one of each tile that is unrolled.
static double getTableLoads(const LayoutChoice &choice) {
  return choice.packing == Packing::L3 ? 3.0 / choice.schedule.unroll : 0;
}

/// Places that a GEMV reads in turns.
static int64_t countStreams(const LayoutChoice &choice) {
  return choice.packing == Packing::L3 ? choice.schedule.unroll
                                       : choice.schedule.streams;
}

/// How much longer the thread with most items takes than the mean.
static double getImbalance(MatmulShape shape, const LayoutChoice &choice,
                           unsigned numThreads) {
  int64_t tiles = choice.packing == Packing::L3 ? choice.schedule.unroll : 1;
  int64_t items = divideCeil(shape.rows, countPlanes(choice.packing) *
                                             ternary::kRowGroup * tiles);
  return double(divideCeil(items, numThreads) * numThreads) / items;
}

double CostModel::predict(MatmulShape shape, const LayoutChoice &choice,
                          BatchClass batch, const ModelShapes &model) const {
  const Backend &backend = getBackend(target);
  auto penalty = [&](const Schedule &schedule) {
    return getPenalty(choice.packing, schedule, batch,
                      backend.getRegisters(target));
  };
  MatmulRates rates = getRates(choice.packing);
  double products = double(shape.rows) * shape.cols;
  // Rates are those of the default schedule, which people have chosen well.
  Schedule standard = backend.getSchedule(choice.packing, shape, target);
  double factor = std::max(1.0, penalty(choice.schedule) / penalty(standard));
  double building =
      choice.packing == Packing::L3 ? kTableTime * shape.cols / 3 : 0;
  if (batch == BatchClass::Prefill)
    return (factor * products / rates.gemm + building) * kPrefillTokens /
           numThreads;
  const MemoryLevel &home = getHome(getFootprint(model, choice.packing));
  double bytes = getBytes(shape, choice.packing);
  double reading = bytes / getReadRate(home);
  double computing = factor * products / (rates.gemv * numThreads);
  double overlap = 1;
  if (&home == &cpu.levels.back()) {
    reading += bytes * getTableLoads(choice) / (kTableRate * numThreads);
    // More streams than the default has would cost registers.
    overlap =
        backend.getOverlap(std::min(countStreams(choice),
                                    countStreams({choice.packing, standard})),
                           target, cpu);
  }
  return building + getImbalance(shape, choice, numThreads) *
                        (std::max(reading, computing) +
                         (1 - overlap) * std::min(reading, computing));
}

std::vector<Packing> CostModel::getPackings(MatmulShape shape) const {
  std::vector<Packing> packings;
  for (Packing packing : kTritPackings)
    if (getBackend(target).getRates(packing, target, cpu) &&
        (packing != Packing::L3 || !shape.group))
      packings.push_back(packing);
  return packings;
}

/// Nothing is fetched from a core's own cache (Ice Lake: 0 to 8 % faster).
Schedule CostModel::getDefault(MatmulShape shape, Packing packing,
                               const ModelShapes &model) const {
  Schedule schedule = getBackend(target).getSchedule(packing, shape, target);
  const MemoryLevel &home = getHome(getFootprint(model, packing));
  if (&home != &cpu.levels.back() && home.numCpus == 1)
    schedule.prefetch = 0;
  return schedule;
}

std::vector<LayoutChoice>
CostModel::rank(MatmulShape shape, BatchClass batch, const ModelShapes &model,
                std::optional<LayoutChoice> base) const {
  const Backend &backend = getBackend(target);
  std::vector<LayoutChoice> choices;
  std::vector<std::pair<double, size_t>> ranked; // equal ones keep their order
  std::vector<Packing> packings =
      base ? std::vector{base->packing} : getPackings(shape);
  for (Packing packing : packings) {
    Schedule first = base ? base->schedule : getDefault(shape, packing, model);
    for (const Schedule &schedule :
         backend.getCandidates(packing, batch, first, target)) {
      ranked.emplace_back(predict(shape, {packing, schedule}, batch, model),
                          choices.size());
      choices.push_back({packing, schedule});
    }
  }
  llvm::sort(ranked);
  std::vector<LayoutChoice> sorted;
  for (auto [seconds, index] : ranked)
    sorted.push_back(choices[index]);
  return sorted;
}

LayoutChoice CostModel::chooseSchedule(MatmulShape shape, Packing packing,
                                       const ModelShapes &model) const {
  LayoutChoice choice = {packing, getDefault(shape, packing, model)};
  for (BatchClass batch : {BatchClass::Decode, BatchClass::Prefill})
    choice = rank(shape, batch, model, choice).front();
  return choice;
}

/// By the time of a decode, and of a prefill where those are equal.
LayoutChoice CostModel::choose(MatmulShape shape,
                               const ModelShapes &model) const {
  std::vector<LayoutChoice> choices;
  double best = INFINITY;
  for (Packing packing : getPackings(shape)) {
    choices.push_back(chooseSchedule(shape, packing, model));
    best = std::min(best,
                    predict(shape, choices.back(), BatchClass::Decode, model));
  }
  llvm::erase_if(choices, [&](const LayoutChoice &choice) {
    return predict(shape, choice, BatchClass::Decode, model) > best * kTie;
  });
  return *llvm::min_element(
      choices, [&](const LayoutChoice &a, const LayoutChoice &b) {
        return predict(shape, a, BatchClass::Prefill, model) <
               predict(shape, b, BatchClass::Prefill, model);
      });
}

bool CostModel::isBoundByReading(const ModelShapes &model,
                                 Packing packing) const {
  double readRate = getReadRate(getHome(getFootprint(model, packing)));
  return getRates(packing).gemv * numThreads * getBitsPerTrit(packing) / 8 >
         readRate;
}

/// `521 MB`, `0.5 MB`.
static std::string formatSize(double bytes) {
  std::string text;
  raw_string_ostream(text) << format(bytes < 10e6 ? "%.2g MB" : "%.0f MB",
                                     bytes / 1e6);
  return text;
}

/// `2 MB L2`, `2 L2 caches of 2 MB`.
std::string CostModel::describeCaches(const MemoryLevel &level) const {
  std::string size = formatSize(level.sizeInBytes);
  unsigned numCaches = countCaches(level);
  return numCaches == 1
             ? size + " " + level.name
             : formatv("{0} {1} caches of {2}", numCaches, level.name, size)
                   .str();
}

std::string CostModel::explain(const ModelShapes &model,
                               Packing packing) const {
  int64_t size = getFootprint(model, packing);
  const MemoryLevel &home = getHome(size);
  bool isMemory = &home == &cpu.levels.back();
  std::string text = "weights: " + formatSize(size);
  text += isMemory ? formatv(" stream from memory at {0:f0} GB/s with {1} "
                             "thread{2}",
                             getReadRate(home) / 1e9, numThreads,
                             numThreads == 1 ? "" : "s")
                         .str()
                   : " fit the " + describeCaches(home);
  raw_string_ostream(text) << ": " << stringifyPacking(packing)
                           << format(" (%.3g bits)", getBitsPerTrit(packing));
  if (!isBoundByReading(model, packing))
    return text + ", decode is bound by instructions";
  if (packing == Packing::I2)
    return text + ", decode is bound by reading, and smaller packings take "
                  "more instructions than that leaves time for";
  return text + formatv(" reads {0:f0}% less than i2",
                        100 - 50 * getBitsPerTrit(packing))
                    .str();
}

/// Where predictions come from.
std::string CostModel::describeCpu() const {
  if (cpu.isAssumed)
    return "predicted for any " + target.text +
           " CPU: caches and rates are assumed";
  if (cpu.date.empty())
    return "predicted, nobody tuned this CPU";
  return "predicted from rates of this CPU measured on " + cpu.date;
}

std::string formatSeconds(double seconds) {
  if (seconds < 10e-6)
    return formatv("{0:f1} us", seconds * 1e6);
  if (seconds < 1e-3)
    return formatv("{0:f0} us", seconds * 1e6);
  return formatv("{0:f1} ms", seconds * 1e3);
}

std::string CostModel::explain(MatmulShape shape, const LayoutChoice &choice,
                               const ModelShapes &model) const {
  std::string text = formatv(
      "one token {0}, bound by {1}; {2} tokens {3}, by instructions",
      formatSeconds(predict(shape, choice, BatchClass::Decode, model)),
      isBoundByReading(model, choice.packing) ? "reading" : "instructions",
      kPrefillTokens,
      formatSeconds(predict(shape, choice, BatchClass::Prefill, model)));
  const char *separator = "; one token with ";
  for (Packing packing : getPackings(shape)) {
    if (packing == choice.packing)
      continue;
    LayoutChoice other = chooseSchedule(shape, packing, model);
    text += formatv(
        "{0}{1} {2}", separator, stringifyPacking(packing),
        formatSeconds(predict(shape, other, BatchClass::Decode, model)));
    separator = ", ";
  }
  return text;
}

llvm::Expected<LayoutPlan> CostModel::plan(const ModelShapes &model,
                                           std::optional<Packing> packing) {
  LayoutPlan plan;
  for (MatmulShape shape : model.matmuls) {
    plan.choices.push_back(packing ? chooseSchedule(shape, *packing, model)
                                   : choose(shape, model));
    plan.details.push_back(explain(shape, plan.choices.back(), model) +
                           " (predicted)");
  }
  if (!plan.choices.empty())
    plan.reason = packing ? "--packing=" + stringifyPacking(*packing).str()
                          : explain(model, plan.choices.front().packing) +
                                "; " + describeCpu();
  return plan;
}

} // namespace tercet
