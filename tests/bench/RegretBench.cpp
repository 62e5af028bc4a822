// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How much slower than the best of all candidates are the choices of the tuner
// and of the cost model? Decode, 6 shapes x 3 levels, every candidate compiled
// and run; the fastest ones, and the two choices, then run in turns. Prints the
// table of docs/tuning.md.

#include "compiler/Tune/MeasureCpu.h"
#include "compiler/Tune/Tuner.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace tercet;
using tercet::ternary::Packing;

static cl::list<std::string> kLevels("level", cl::desc("Targets to force"),
                                     cl::CommaSeparated);
static cl::opt<std::string> kModel("model", cl::desc("2B or small; both"));
static cl::opt<int> kThreads("kernel-threads",
                             cl::desc("Threads of the kernels"), cl::init(1));
static cl::opt<double> kBudget("budget",
                               cl::desc("Seconds of the tuner for a matmul"),
                               cl::init(10));
static cl::opt<int> kRounds("rounds", cl::desc("Of the last comparison"),
                            cl::init(41));

namespace {

/// A matmul and how often a model has it.
struct Case {
  const char *model;
  MatmulShape shape;
  int64_t count;
};

/// The parts of a layer of a model whose weights are in memory, and two of one
/// that caches hold.
constexpr Case kCases[] = {
    {"2B", {3840, 2560}, 30},  {"2B", {2560, 2560}, 30},
    {"2B", {13824, 2560}, 30}, {"2B", {2560, 6912}, 30},
    {"small", {1536, 256}, 6}, {"small", {256, 768}, 6},
};

ModelShapes getModel(StringRef name) {
  ModelShapes model;
  for (const Case &c : kCases)
    if (c.model == name)
      model.matmuls.insert(model.matmuls.end(), c.count, c.shape);
  return model;
}

std::string describe(const RatioInterval &regret) {
  auto percent = [](double ratio) { return 100 * (ratio - 1); };
  return formatv("{0:f1} % ({1:f1} to {2:f1})", percent(regret.median),
                 percent(regret.low), percent(regret.high));
}

ExitOnError exitOnError;

std::string nameOf(const LayoutChoice &choice) {
  const ternary::Schedule &s = choice.schedule;
  return formatv("{0} lanes {1} unroll {2} streams {3} parts {4} chain {5}{6} "
                 "prefetch {7}",
                 stringifyPacking(choice.packing), s.lanes, s.unroll, s.streams,
                 s.parts, s.chain, s.inPlace ? " in place" : "", s.prefetch);
}

/// What differs for a GEMV.
bool isSameGemv(LayoutChoice a, const LayoutChoice &b) {
  a.schedule.tokens = b.schedule.tokens;
  a.schedule.planeMajor = b.schedule.planeMajor;
  return a.packing == b.packing && a.schedule == b.schedule;
}

void runCase(const Case &c, const CpuDescription &cpu,
             const TargetSpec &target) {
  ModelShapes model = getModel(c.model);
  CostModel costs(cpu, target, kThreads);
  Tuner tuner(cpu, target, kThreads);
  auto never = Clock::time_point::max();
  LayoutPlan plan = exitOnError(costs.plan(model, std::nullopt));
  LayoutChoice predicted =
      plan.choices[find(model.matmuls, c.shape) - model.matmuls.begin()];
  LayoutChoice tuned =
      exitOnError(tuner.tune(c.shape, model,
                             Clock::now() +
                                 std::chrono::duration_cast<Clock::duration>(
                                     std::chrono::duration<double>(kBudget))))
          .choice;

  MatmulData data = exitOnError(MatmulData::create(c.shape, 1));
  exitOnError(tuner.spread(data, costs.getPackings(c.shape), model));
  Race race(data, /*numTokens=*/1, kThreads);
  auto choices = costs.rank(c.shape, BatchClass::Decode, model);
  for (Contestant &contestant :
       exitOnError(tuner.compile(c.shape, 1, choices, never)))
    if (!exitOnError(race.add(std::move(contestant))))
      exitOnError(createStringError("a kernel computes something else"));
  // The best is found in one contest and measured in another one: the luck of
  // the winner among equals would count as the regret of the others.
  auto &field = race.contestants;
  size_t numCandidates = field.size();
  auto run = [&](int numRounds) {
    for (Contestant &contestant : field)
      contestant.seconds.clear();
    for (int round = 0; round < numRounds; ++round)
      race.runRound(field.size());
  };
  auto keep = [&](size_t numBest) {
    race.sort(field.size());
    for (size_t i = std::min(numBest, field.size()); i < field.size();)
      if (isSameGemv(field[i].choice, tuned) ||
          isSameGemv(field[i].choice, predicted))
        ++i;
      else
        field.erase(field.begin() + i);
    SmallVector<Packing> left;
    for (const Contestant &contestant : field)
      if (!is_contained(left, contestant.choice.packing))
        left.push_back(contestant.choice.packing);
    exitOnError(tuner.spread(data, left, model));
  };
  run(5);
  keep(12);
  run(21);
  keep(1);
  run(kRounds);

  const Contestant &best = field[0];
  auto regretOf = [&](const LayoutChoice &choice) {
    auto chosen = find_if(field, [&](const Contestant &contestant) {
      return isSameGemv(contestant.choice, choice);
    });
    return describe(compareRounds(chosen->seconds, best.seconds));
  };
  outs() << formatv("| {0} | {1} {2}x{3} | {4} | {5}, {6:f1} us | {7} | {8} | "
                    "{9} | {10} |\n",
                    target.text, c.model, c.shape.rows, c.shape.cols,
                    numCandidates, nameOf(best.choice), best.getMedian() * 1e6,
                    regretOf(tuned), regretOf(predicted), nameOf(predicted),
                    nameOf(tuned));
  outs().flush();
}

} // namespace

int main(int argc, char **argv) {
  cl::ParseCommandLineOptions(argc, argv);
  exitOnError.setBanner("RegretBench: ");
  std::vector<std::string> levels(kLevels.begin(), kLevels.end());
  if (levels.empty())
    levels = {"x86-64-v3", "x86-64-v4", "native"};
  CpuDescription cpu = exitOnError(identifyCpu());
  exitOnError(measureReading(cpu));
  outs() << "| level | matmul | candidates | best of all | tuner, slower by | "
            "cost model, slower by | its choice | the tuner's "
            "|\n|---|---|---|---|---|---|---|---|\n";
  for (const std::string &level : levels) {
    TargetSpec target = exitOnError(parseTarget(level));
    exitOnError(measureRates(cpu, target));
    for (const Case &c : kCases)
      if (kModel.empty() || kModel == c.model)
        runCase(c, cpu, target);
  }
  return 0;
}
