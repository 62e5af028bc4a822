// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Tune/Tuner.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/ThreadPool.h"
#include <algorithm>
#include <cmath>

using namespace llvm;
using namespace tercet;
using tercet::ternary::Packing;

static double getQuantile(std::vector<double> &values, double part) {
  auto at = values.begin() + size_t(part * (values.size() - 1) + 0.5);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

Timing tercet::summarize(std::vector<double> seconds) {
  double median = getQuantile(seconds, 0.5);
  double low = getQuantile(seconds, 0.25), high = getQuantile(seconds, 0.75);
  return {median, (high - low) / median};
}

RatioInterval tercet::compareRounds(ArrayRef<double> seconds,
                                    ArrayRef<double> other) {
  std::vector<double> ratios;
  for (auto [mine, its] : zip_equal(seconds, other))
    ratios.push_back(mine / its);
  llvm::sort(ratios);
  double middle = (ratios.size() - 1) / 2.0;
  double half = 0.98 * std::sqrt(ratios.size());
  auto at = [&](double index) {
    return ratios[std::clamp<int64_t>(std::llround(index), 0,
                                      ratios.size() - 1)];
  };
  return {at(middle - half), at(middle), at(middle + half)};
}

//===----------------------------------------------------------------------===//
// Race
//===----------------------------------------------------------------------===//

Expected<bool> Race::add(Contestant contestant) {
  if (!pool || contestant.kernel.getScratchBytes() > scratchBytes) {
    scratchBytes = std::max(scratchBytes, contestant.kernel.getScratchBytes());
    pool = std::make_unique<tercet_pool>(numThreads, scratchBytes);
    if (!pool->isValid())
      return createStringError("no memory for the threads' scratch");
  }
  data.run(contestant.kernel, contestant.choice.packing, pool.get());
  if (!data.isExact(numTokens))
    return false;
  contestants.push_back(std::move(contestant));
  return true;
}

/// Seconds of one call, from as many as half a millisecond holds.
double Race::sample(Contestant &contestant) {
  constexpr double kSampleSeconds = 5e-4;
  auto time = [&](int64_t numCalls) {
    auto start = Clock::now();
    for (int64_t call = 0; call < numCalls; ++call)
      data.run(contestant.kernel, contestant.choice.packing, pool.get());
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  time(data.getWarmUpCalls(contestant.choice.packing));
  if (callsPerSample == 0)
    callsPerSample = std::clamp<int64_t>(kSampleSeconds / time(1), 1, 10000);
  return time(callsPerSample) / callsPerSample;
}

void Race::runRound(size_t numContestants) {
  // Nobody always follows the same one.
  size_t first = numRounds++ % numContestants;
  for (size_t i = 0; i < numContestants; ++i) {
    Contestant &contestant = contestants[(first + i) % numContestants];
    contestant.seconds.push_back(sample(contestant));
  }
}

void Race::sort(size_t numContestants) {
  std::vector<std::vector<double>> ratios(numContestants);
  for (size_t round = 0; round < contestants[0].seconds.size(); ++round) {
    std::vector<double> ofRound;
    for (size_t i = 0; i < numContestants; ++i)
      ofRound.push_back(contestants[i].seconds[round]);
    double median = summarize(ofRound).seconds;
    for (auto [ratio, seconds] : zip_equal(ratios, ofRound))
      ratio.push_back(seconds / median);
  }
  std::vector<std::pair<double, size_t>> order;
  for (auto [i, ofContestant] : enumerate(ratios))
    order.emplace_back(summarize(ofContestant).seconds, i);
  llvm::sort(order);
  std::vector<Contestant> sorted;
  for (auto [ratio, i] : order)
    sorted.push_back(std::move(contestants[i]));
  std::move(sorted.begin(), sorted.end(), contestants.begin());
}

/// Puts it last of those that stay in the field, rather than behind them.
void Race::keepPredicted(size_t field) {
  auto at = find_if(contestants, [](auto &c) { return c.isPredicted; });
  auto end = contestants.begin() + field;
  if (at >= end && at != contestants.end())
    std::iter_swap(end - 1, at);
}

void Race::preferPredicted(size_t field) {
  constexpr double kTie = 1.005;
  for (Contestant &contestant : MutableArrayRef(contestants).take_front(field))
    if (contestant.isPredicted &&
        compareRounds(contestant.seconds, contestants[0].seconds).low <= kTie)
      return std::swap(contestants[0], contestant);
}

void Race::run(Clock::time_point deadline) {
  // A few rounds tell who is far behind; those that are left are nearly equal.
  constexpr size_t kFinalists = 4;
  constexpr int kFewestRounds = 3;
  for (size_t field = contestants.size();; field = divideCeil(field, 2)) {
    for (Contestant &contestant :
         MutableArrayRef(contestants).take_front(field))
      contestant.seconds.clear();
    int numRounds = field > 8 ? kFewestRounds : field > kFinalists ? 9 : 61;
    for (int round = 0; round < numRounds &&
                        (round < kFewestRounds || Clock::now() < deadline);
         ++round)
      runRound(field);
    sort(field);
    if (field <= kFinalists || Clock::now() >= deadline)
      return preferPredicted(field);
    keepPredicted(divideCeil(field, 2));
  }
}

//===----------------------------------------------------------------------===//
// Tuner
//===----------------------------------------------------------------------===//

Error Tuner::spread(MatmulData &data, ArrayRef<Packing> packings,
                    const ModelShapes &model) const {
  // From here on a cache has forgotten what was read before, of any packing.
  int64_t enough = int64_t(256) << 20;
  for (const MemoryLevel &level : ArrayRef(cpu.levels).drop_back())
    enough = std::max(enough, level.sizeInBytes * 3 / 2);
  SmallVector<MatmulData::Footprint> footprints;
  for (Packing packing : packings) {
    int64_t bytes = costs.getFootprint(model, packing);
    bool isCached = &costs.getHome(bytes) != &costs.getMemory();
    if (!isCached)
      bytes = std::min(bytes, enough) / int64_t(packings.size());
    footprints.push_back({packing, bytes, isCached});
  }
  return data.spread(footprints);
}

Expected<std::vector<Contestant>>
Tuner::compile(MatmulShape shape, int64_t numTokens,
               ArrayRef<LayoutChoice> choices,
               Clock::time_point deadline) const {
  std::vector<std::optional<Expected<MatmulKernel>>> kernels(choices.size());
  {
    DefaultThreadPool threads(hardware_concurrency(availableThreads()));
    for (auto [i, choice] : enumerate(choices))
      threads.async([&, i = i, choice = choice] {
        if (i == 0 || Clock::now() < deadline)
          kernels[i].emplace(
              MatmulKernel::compile(target, shape, numTokens, choice));
      });
  }
  std::vector<Contestant> compiled;
  Error errors = Error::success();
  for (auto [kernel, choice] : zip_equal(kernels, choices)) {
    if (!kernel)
      continue;
    if (*kernel)
      compiled.push_back({choice, std::move(**kernel)});
    else
      errors = joinErrors(std::move(errors), kernel->takeError());
  }
  if (errors)
    return std::move(errors);
  return compiled;
}

namespace tercet {

/// The steps of tuning one matmul.
class MatmulTuning {
public:
  MatmulTuning(const Tuner &tuner, MatmulShape shape, const ModelShapes &model,
               Clock::time_point deadline, MatmulData &data)
      : tuner(tuner), shape(shape), model(model), start(Clock::now()),
        deadline(deadline), data(data), packings(makeRace(1)),
        winners(makeRace(1)) {}

  Error racePackings();
  Error raceSchedules();
  Error raceWinners();
  Error racePrefills();

  TunedLayout result;

private:
  Race makeRace(int64_t numTokens) {
    return Race(data, numTokens, tuner.numThreads);
  }
  /// When a part of the time is over.
  Clock::time_point after(double part) const {
    return start + std::chrono::duration_cast<Clock::duration>(
                       part * (deadline - start));
  }
  void report() const {
    const Contestant &best = winners.contestants[0];
    if (tuner.progress)
      tuner.progress(shape, best.choice, best.getMedian());
  }
  Error add(Race &race, int64_t numTokens, ArrayRef<LayoutChoice> choices,
            Clock::time_point compileUntil);

  const Tuner &tuner;
  MatmulShape shape;
  const ModelShapes &model;
  Clock::time_point start, deadline;
  MatmulData &data;
  Race packings, winners;
};

} // namespace tercet

/// Compiles candidates and lets those take part that compute the right thing.
Error MatmulTuning::add(Race &race, int64_t numTokens,
                        ArrayRef<LayoutChoice> choices,
                        Clock::time_point compileUntil) {
  auto compiled = tuner.compile(shape, numTokens, choices, compileUntil);
  if (!compiled)
    return compiled.takeError();
  for (Contestant &contestant : *compiled) {
    LayoutChoice choice = contestant.choice;
    Expected<bool> isExact = race.add(std::move(contestant));
    if (!isExact)
      return isExact.takeError();
    ++result.numCandidates;
    if (!*isExact)
      result.wrong.push_back(choice);
  }
  if (race.contestants.empty())
    return createStringError("no kernel computes what the reference does");
  return Error::success();
}

/// The default GEMV of each packing; those that are far behind are given up.
Error MatmulTuning::racePackings() {
  constexpr double kHopeless = 1.4;
  std::vector<Packing> all = tuner.costs.getPackings(shape);
  std::vector<LayoutChoice> defaults;
  for (Packing packing : all)
    defaults.push_back(
        {packing,
         getBackend(tuner.target).getSchedule(packing, shape, tuner.target)});
  if (Error error = tuner.spread(data, all, model))
    return error;
  if (Error error = add(packings, 1, defaults, Clock::time_point::max()))
    return error;
  // Until now data was prepared, which takes long where memory is new.
  start = Clock::now();
  packings.run(after(0.2));
  double limit = kHopeless * packings.contestants[0].getMedian();
  llvm::erase_if(packings.contestants, [&](const Contestant &contestant) {
    return contestant.getMedian() > limit;
  });
  return Error::success();
}

/// The other GEMVs of each packing that is left.
Error MatmulTuning::raceSchedules() {
  std::vector<LayoutChoice> ranked =
      tuner.costs.rank(shape, BatchClass::Decode, model);
  double share = 0.4 / packings.contestants.size(), begin = 0.2;
  for (Contestant &contestant : packings.contestants) {
    LayoutChoice base = contestant.choice;
    std::vector<LayoutChoice> others;
    for (const LayoutChoice &choice : ranked)
      if (choice.packing == base.packing && choice.schedule != base.schedule)
        others.push_back(choice);
    Race race = makeRace(1);
    if (Error error = tuner.spread(data, base.packing, model))
      return error;
    if (Expected<bool> isExact = race.add(std::move(contestant)); !isExact)
      return isExact.takeError();
    if (Error error = add(race, 1, others, after(begin + 0.5 * share)))
      return error;
    auto predicted = find_if(ranked, [&](const LayoutChoice &choice) {
      return choice.packing == base.packing;
    });
    for (Contestant &other : race.contestants)
      other.isPredicted = predicted != ranked.end() &&
                          other.choice.packing == predicted->packing &&
                          other.choice.schedule == predicted->schedule;
    race.run(after(begin + share));
    begin += share;
    if (Expected<bool> isExact = winners.add(std::move(race.contestants[0]));
        !isExact)
      return isExact.takeError();
    report();
  }
  return Error::success();
}

/// The best GEMV of each packing: those that prefill may decide between are
/// left, the fastest first.
Error MatmulTuning::raceWinners() {
  constexpr int kRounds = 31;
  constexpr double kNear = 1.1;
  size_t field = winners.contestants.size();
  SmallVector<Packing> theirs;
  for (Contestant &contestant : winners.contestants) {
    contestant.seconds.clear();
    theirs.push_back(contestant.choice.packing);
  }
  if (Error error = tuner.spread(data, theirs, model))
    return error;
  for (int round = 0; round < kRounds; ++round)
    winners.runRound(field);
  winners.sort(field);
  report();
  double limit = kNear * winners.contestants[0].getMedian();
  llvm::erase_if(winners.contestants, [&](const Contestant &contestant) {
    return contestant.getMedian() > limit;
  });
  return Error::success();
}

/// What a GEMV leaves open, by the GEMM; and the packing that takes a prompt
/// and an answer of as many tokens in the least time: in a tenth less, if its
/// GEMV is not as fast. (A matrix unit is seven times as fast from t5 as tables
/// are.)
Error MatmulTuning::racePrefills() {
  constexpr double kEqual = 1.02, kGain = 0.9;
  double fastest = winners.contestants[0].getMedian();
  double share = 0.4 / winners.contestants.size(), begin = 0.6;
  for (const Contestant &gemv : winners.contestants) {
    Race race = makeRace(kPrefillTokens);
    if (Error error = tuner.spread(data, gemv.choice.packing, model))
      return error;
    if (Error error = add(
            race, kPrefillTokens,
            tuner.costs.rank(shape, BatchClass::Prefill, model, gemv.choice),
            after(begin + share / 2)))
      return error;
    race.run(after(begin + share));
    begin += share;
    const Contestant &best = race.contestants[0];
    Timing prefill = summarize(best.seconds);
    Timing decode = summarize(gemv.seconds);
    auto total = [](const Timing &decode, const Timing &prefill) {
      return kPrefillTokens * decode.seconds + prefill.seconds;
    };
    double asked = decode.seconds <= kEqual * fastest ? 1 : kGain;
    if (result.prefill.seconds != 0 &&
        asked * total(result.decode, result.prefill) <= total(decode, prefill))
      continue;
    result.choice = best.choice;
    result.decode = decode;
    result.prefill = prefill;
  }
  return Error::success();
}

Expected<TunedLayout> Tuner::tune(MatmulShape shape, const ModelShapes &model,
                                  Clock::time_point deadline) {
  auto data = MatmulData::create(shape, kPrefillTokens);
  if (!data)
    return data.takeError();
  MatmulTuning tuning(*this, shape, model, deadline, *data);
  if (Error error = tuning.racePackings())
    return std::move(error);
  if (Error error = tuning.raceSchedules())
    return std::move(error);
  if (Error error = tuning.raceWinners())
    return std::move(error);
  if (Error error = tuning.racePrefills())
    return std::move(error);
  return std::move(tuning.result);
}
