// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Session.h"
#include "runtime/src/CpuFeatures.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <numeric>

using namespace tercet;

//===----------------------------------------------------------------------===//
// Model
//===----------------------------------------------------------------------===//

Error Model::open(Model &result) {
  if (Error error = Artifact::openOwn(result.source))
    return error;
  return result.source.checkCpu(hostCpuFeatures());
}

namespace {
struct LoadContext {
  std::string_view from;
  char *to; // Null: only populate the mapping.
};
} // namespace

/// One unit of loading. Large enough for the kernel to map whole huge pages of
/// the page cache at once.
static constexpr uint64_t LoadUnit = uint64_t(4) << 20;

static void loadUnits(void *context, int64_t begin, int64_t end, void *) {
  auto *load = static_cast<LoadContext *>(context);
  uint64_t first = begin * LoadUnit;
  uint64_t last = std::min<uint64_t>(end * LoadUnit, load->from.size());
  const char *from = load->from.data() + first;
  populateForReading(from, last - first);
  if (load->to)
    memcpy(load->to + first, from, last - first);
}

Error Model::load(const Options &options) {
  if (options.checkWeights)
    if (Error error = source.checkWeights())
      return error;
  std::string_view weights = source.weights();
  PageMemory arena;
  if (options.copyWeights) {
    arena = PageMemory(weights.size());
    if (!arena.data())
      return errnoError("allocate a copy of the weights (try --no-copy)");
  }
  LoadContext context{weights, static_cast<char *>(arena.data())};
  tercet_pool pool(options.numThreads ? options.numThreads : availableThreads(),
                   /*scratchSize=*/0);
  tercet_parallel_for(&pool, loadUnits, &context,
                      (weights.size() + LoadUnit - 1) / LoadUnit);
  copy = std::move(arena);
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Session
//===----------------------------------------------------------------------===//

Session::Session(const Model &model, const Options &options)
    : model(model),
      threads(options.numThreads ? options.numThreads : availableThreads(),
              model.header().scratch_size),
      arena(model.header().arena_size),
      kv(model.header().kv_slot_size * options.numSlots,
         PageMemory::Pages::Small),
      contextSize(options.context ? options.context : model.header().context),
      stepLimit(std::min(options.stepTokens ? options.stepTokens : UINT32_MAX,
                         model.header().max_step_tokens)),
      lengths(options.numSlots), positions(stepLimit), slotOf(stepLimit),
      rows(stepLimit) {
  std::iota(rows.begin(), rows.end(), 0);
}

Error Session::create(const Model &model, const Options &options,
                      std::unique_ptr<Session> &result) {
  if (options.context > model.header().context)
    return Error(format("a context of %u tokens was asked for, but the model "
                        "was compiled for %u: compile it with --context=%u",
                        options.context, model.header().context,
                        options.context));
  std::unique_ptr<Session> session(new Session(model, options));
  if (!session->arena.data() || !session->kv.data() ||
      !session->threads.isValid())
    return errnoError(format("allocate memory for a context of %u tokens",
                             session->contextSize));
  result = std::move(session);
  return Error::success();
}

Error Session::check(uint32_t slot, TokenSpan tokens) const {
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || static_cast<uint32_t>(tokens[i]) >= vocabSize())
      return Error(format("token id %d (number %zu) is out of range: the "
                          "vocabulary has ids 0 to %u",
                          tokens[i], i + 1, vocabSize() - 1));
  if (tokens.size() > room(slot))
    return Error(format(
        "%zu more tokens do not fit the context: %u of %u tokens are in use",
        tokens.size(), length(slot), contextSize));
  return Error::success();
}

void Session::step(TokenSpan tokens, std::span<const int32_t> logitRows,
                   float *logits) {
  tercet_step(model.weights(), arena.data(), kv.data(), tokens.data(),
              positions.data(), slotOf.data(), logitRows.data(), logits,
              tokens.size(), logitRows.size(), &threads);
}

Error Session::append(uint32_t slot, TokenSpan tokens, Logits wanted,
                      float *logits) {
  if (Error error = check(slot, tokens))
    return error;
  while (!tokens.empty()) {
    TokenSpan chunk = tokens.first(std::min<size_t>(stepLimit, tokens.size()));
    tokens = tokens.subspan(chunk.size());
    std::iota(positions.begin(), positions.begin() + chunk.size(),
              lengths[slot]);
    std::fill_n(slotOf.begin(), chunk.size(), slot);

    std::span<const int32_t> wantedRows(rows.data(), chunk.size());
    if (wanted == Logits::Last)
      wantedRows = wantedRows.last(tokens.empty() ? 1 : 0);
    else if (wanted == Logits::None)
      wantedRows = {};
    step(chunk, wantedRows, logits);
    logits += wantedRows.size() * vocabSize();
    lengths[slot] += chunk.size();
  }
  return Error::success();
}

Error Session::appendEach(std::span<const int32_t> slots, TokenSpan tokens,
                          float *logits) {
  assert(slots.size() == tokens.size());
  for (size_t i = 0; i < slots.size(); ++i)
    if (Error error = check(slots[i], tokens.subspan(i, 1)))
      return error;
  while (!tokens.empty()) {
    size_t count = std::min<size_t>(stepLimit, tokens.size());
    for (size_t i = 0; i < count; ++i) {
      slotOf[i] = slots[i];
      positions[i] = lengths[slots[i]]++;
    }
    step(tokens.first(count), {rows.data(), count}, logits);
    logits += count * vocabSize();
    slots = slots.subspan(count);
    tokens = tokens.subspan(count);
  }
  return Error::success();
}

void Session::truncate(uint32_t slot, uint32_t length) {
  assert(length <= lengths[slot]);
  lengths[slot] = length;
}
