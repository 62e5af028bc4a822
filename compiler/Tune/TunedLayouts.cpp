// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Tune/TunedLayouts.h"
#include "compiler/Tune/MeasureCpu.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"

using namespace llvm;
using namespace tercet;
using tercet::ternary::Packing;
using tercet::ternary::Schedule;

Expected<CpuDescription> TunedLayouts::measureCpu(TuningDatabase &database,
                                                  const TargetSpec &target) {
  auto identified = identifyCpu();
  if (!identified)
    return identified.takeError();
  auto stored = database.findCpu(identified->getIdentity());
  if (!stored)
    return stored.takeError();
  CpuDescription cpu = stored->value_or(*identified);
  bool isMissing = cpu.date.empty();
  if (isMissing)
    if (Error error = measureReading(cpu))
      return std::move(error);
  if (!cpu.rates.contains(target.text)) {
    isMissing = true;
    if (Error error = measureRates(cpu, target))
      return std::move(error);
  }
  if (isMissing)
    if (Error error = database.storeCpu(cpu))
      return std::move(error);
  return cpu;
}

TuningKey TunedLayouts::makeKey(MatmulShape shape, const ModelShapes &model,
                                BatchClass batch) const {
  TuningKey key;
  key.cpu = cpu.getIdentity();
  key.bandwidthClass = cpu.getBandwidthClass();
  key.compiler = compiler;
  key.target = target.text;
  key.threads = numThreads;
  key.op =
      shape.group ? formatv("matmul group={0}", shape.group).str() : "matmul";
  key.rows = shape.rows;
  key.cols = shape.cols;
  key.home = costs.getHome(costs.getFootprint(model, Packing::I2)).name;
  key.batch = batch == BatchClass::Decode ? "decode" : "prefill";
  return key;
}

/// Whether this compiler would try a layout: a database may come from anywhere.
static bool isCandidate(const LayoutChoice &choice, MatmulShape shape,
                        const TargetSpec &target) {
  const Backend &backend = getBackend(target);
  Schedule base = backend.getSchedule(choice.packing, shape, target);
  auto isLikeGemm = [&](const Schedule &gemm) {
    return gemm.tokens == choice.schedule.tokens &&
           gemm.planeMajor == choice.schedule.planeMajor;
  };
  if (none_of(backend.getCandidates(choice.packing, BatchClass::Prefill, base,
                                    target),
              isLikeGemm))
    return false;
  base.tokens = choice.schedule.tokens;
  base.planeMajor = choice.schedule.planeMajor;
  return is_contained(
      backend.getCandidates(choice.packing, BatchClass::Decode, base, target),
      choice.schedule);
}

Expected<std::optional<TunedLayout>>
TunedLayouts::find(MatmulShape shape, const ModelShapes &model,
                   std::string &date) {
  auto decode = database->find(makeKey(shape, model, BatchClass::Decode));
  if (!decode)
    return decode.takeError();
  auto prefill = database->find(makeKey(shape, model, BatchClass::Prefill));
  if (!prefill)
    return prefill.takeError();
  if (!*decode || !*prefill)
    return std::nullopt;
  std::optional<LayoutChoice> choice = parseLayout((*decode)->layout);
  if (!choice || !is_contained(costs.getPackings(shape), choice->packing) ||
      !isCandidate(*choice, shape, target))
    return std::nullopt;
  date = std::max(date, (*decode)->date);
  return TunedLayout{*choice,
                     {(*decode)->seconds, (*decode)->spread},
                     {(*prefill)->seconds, (*prefill)->spread}};
}

Error TunedLayouts::store(MatmulShape shape, const ModelShapes &model,
                          const TunedLayout &layout) {
  std::string text = printLayout(layout.choice), date = getDate();
  auto record = [&](BatchClass batch, Timing timing) {
    return TuningRecord(makeKey(shape, model, batch),
                        {text, timing.seconds, timing.spread, date});
  };
  return database->store({record(BatchClass::Decode, layout.decode),
                          record(BatchClass::Prefill, layout.prefill)});
}

Error TunedLayouts::tune(std::vector<TunedShape *> &missing,
                         const ModelShapes &model) {
  Tuner tuner(cpu, target, numThreads);
  tuner.progress = progress;
  auto deadline =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(
                         std::chrono::duration<double>(*budgetSeconds));
  while (!missing.empty() && Clock::now() < deadline) {
    TunedShape &tuned = *missing.front();
    auto share = (deadline - Clock::now()) / missing.size();
    auto layout = tuner.tune(tuned.shape, model, Clock::now() + share);
    if (!layout)
      return layout.takeError();
    if (Error error = store(tuned.shape, model, *layout))
      return error;
    tuned.layout = *layout;
    tuned.isNew = true;
    missing.erase(missing.begin());
  }
  return Error::success();
}

/// Replaces what the cost model has chosen by what was measured.
Error TunedLayouts::useMeasurements(const ModelShapes &model,
                                    LayoutPlan &plan) {
  shapes.clear();
  for (MatmulShape shape : model.matmuls) {
    auto known = find_if(
        shapes, [&](const TunedShape &tuned) { return tuned.shape == shape; });
    if (known != shapes.end())
      ++known->count;
    else
      shapes.push_back({shape, 1, {}, false});
  }
  std::string date;
  std::vector<TunedShape *> missing;
  for (TunedShape &tuned : shapes) {
    auto found = find(tuned.shape, model, date);
    if (!found)
      return found.takeError();
    if (*found)
      tuned.layout = **found;
    else
      missing.push_back(&tuned);
  }
  if (budgetSeconds && !missing.empty()) {
    if (Error error = tune(missing, model))
      return error;
    date = getDate();
  }
  numMissing = missing.size();
  if (numMissing == int64_t(shapes.size()))
    return Error::success();

  for (auto [shape, choice, details] :
       zip_equal(model.matmuls, plan.choices, plan.details))
    for (TunedShape &tuned : shapes)
      if (tuned.shape == shape && !is_contained(missing, &tuned)) {
        choice = tuned.layout.choice;
        details =
            formatv("one token {0}, {1} tokens {2} (measured)",
                    formatSeconds(tuned.layout.decode.seconds), kPrefillTokens,
                    formatSeconds(tuned.layout.prefill.seconds));
      }
  plan.reason = costs.explain(model, plan.choices.front().packing);
  if (numMissing == 0)
    plan.reason += "; measured on this CPU on " + date;
  else
    plan.reason += formatv("; {0} of {1} matmuls measured on this CPU on {2}, "
                           "the others predicted",
                           shapes.size() - numMissing, shapes.size(), date);
  return Error::success();
}

Expected<LayoutPlan> TunedLayouts::plan(const ModelShapes &model,
                                        std::optional<Packing> packing) {
  Expected<LayoutPlan> plan = costs.plan(model, packing);
  if (!plan || packing || !database || model.matmuls.empty())
    return plan;
  if (Error error = useMeasurements(model, *plan)) {
    if (!onDatabaseError)
      return std::move(error);
    onDatabaseError(std::move(error));
  }
  return plan;
}
