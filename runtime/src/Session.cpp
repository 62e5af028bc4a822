// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Session.h"
#include "runtime/src/CpuFeatures.h"

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <cstring>
#include <numeric>

using namespace tercet;

// What the code of another head lacks and nobody calls.
[[gnu::weak]] void tercet_screen(const void *, void *, const float *, float *,
                                 int64_t, tercet_pool *) {
  abort();
}
[[gnu::weak]] void tercet_head_rows(const void *, void *, const float *,
                                    const int32_t *, float *, int64_t, int64_t,
                                    tercet_pool *) {
  abort();
}

//===----------------------------------------------------------------------===//
// Model
//===----------------------------------------------------------------------===//

Error Model::open(Model &result) {
  if (Error error = Artifact::openOwn(result.source))
    return error;
  return result.source.selectLevel(hostCpuFeatures(), getenv("TERCET_TARGET"));
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
  // What the page cache does not have yet comes there in huge pages.
  adviseHugePages(weights.data(), weights.size());
  LoadContext context{weights, static_cast<char *>(arena.data())};
  tercet_pool pool(options.numThreads ? options.numThreads : availableThreads(),
                   /*scratchSize=*/0);
  tercet_parallel_for(&pool, loadUnits, &context,
                      (weights.size() + LoadUnit - 1) / LoadUnit, /*work=*/-1);
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
      kv(model.header().kv_slot_size * options.numSlots),
      contextSize(options.context ? options.context : model.header().context),
      stepLimit(std::min(options.stepTokens ? options.stepTokens : UINT32_MAX,
                         model.header().max_step_tokens)),
      held(options.numSlots), positions(stepLimit) {
  if (!hasScreen())
    return;
  hidden.resize(uint64_t(stepLimit) * model.header().hidden_size);
  allGroups.resize((vocabSize() + TERCET_HEAD_GROUP - 1) / TERCET_HEAD_GROUP);
  std::iota(allGroups.begin(), allGroups.end(), 0);
  screen = std::make_unique<ScreenedHead>(model.header(), model.weights(),
                                          arena.data(), threads);
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

bool Session::fits(std::span<const int32_t> slots) const {
  std::vector<size_t> counts(numSlots());
  for (int32_t slot : slots)
    if (++counts[slot] > room(slot))
      return false;
  return true;
}

Error Session::check(const Batch &batch) const {
  for (size_t i = 0; i < batch.tokens.size(); ++i)
    if (batch.tokens[i] < 0 ||
        static_cast<uint32_t>(batch.tokens[i]) >= vocabSize())
      return Error(format("token id %d (number %zu) is out of range: the "
                          "vocabulary has ids 0 to %u",
                          batch.tokens[i], i + 1, vocabSize() - 1));
  std::vector<size_t> counts(numSlots());
  for (int32_t slot : batch.slots)
    ++counts[slot];
  for (uint32_t slot = 0; slot < numSlots(); ++slot)
    if (counts[slot] > room(slot))
      return Error(
          (numSlots() > 1 ? format("sequence %u: ", slot) : std::string()) +
          format("%zu more tokens do not fit the context: %u of %u tokens are "
                 "in use",
                 counts[slot], length(slot), contextSize));
  return Error::success();
}

/// Exact logits; null: with a screened head, hidden states only.
void Session::step(const Batch &batch, float *logits) {
  tercet_step(model.weights(), arena.data(), kv.data(), batch.tokens.data(),
              positions.data(), batch.slots.data(), batch.logitRows.data(),
              hasScreen() ? hidden.data() : logits, batch.tokens.size(),
              batch.logitRows.size(), &threads);
  if (hasScreen() && logits && !batch.logitRows.empty())
    tercet_head_rows(model.weights(), arena.data(), hidden.data(),
                     allGroups.data(), logits, batch.logitRows.size(),
                     allGroups.size(), &threads);
}

Error Session::append(const Batch &batch, float *logits) {
  assert(batch.slots.size() == batch.tokens.size());
  if (Error error = check(batch))
    return error;
  std::span<const int32_t> rows = batch.logitRows;
  for (size_t begin = 0; begin < batch.tokens.size(); begin += stepLimit) {
    size_t count = std::min<size_t>(stepLimit, batch.tokens.size() - begin);
    TokenSpan tokens = batch.tokens.subspan(begin, count);
    std::span<const int32_t> slots = batch.slots.subspan(begin, count);
    for (size_t i = 0; i < count; ++i) {
      positions[i] = length(slots[i]);
      held[slots[i]].push_back(tokens[i]);
    }
    stepRows.clear();
    for (; !rows.empty() && rows.front() < int64_t(begin + count);
         rows = rows.subspan(1))
      stepRows.push_back(rows.front() - begin);
    step({tokens, slots, stepRows}, logits);
    if (logits)
      logits += stepRows.size() * vocabSize();
  }
  return Error::success();
}

int32_t Session::sample(Sampler &sampler) {
  if (!hasScreen())
    return sampler.sample(lastLogits);
  screen->start(hidden.data());
  return sampler.sample(*screen);
}

void Session::approximate(size_t numRows, float *logits) {
  tercet_screen(model.weights(), arena.data(), hidden.data(), logits, numRows,
                &threads);
}

Error Session::append(uint32_t slot, TokenSpan tokens, Logits wanted,
                      float *logits) {
  sameSlot.assign(tokens.size(), slot);
  if (allRows.size() < tokens.size()) {
    allRows.resize(tokens.size());
    std::iota(allRows.begin(), allRows.end(), 0);
  }
  auto rows = std::span<const int32_t>(allRows).first(tokens.size());
  if (wanted != Logits::All)
    rows = rows.last(wanted != Logits::None && !rows.empty() ? 1 : 0);
  if (wanted == Logits::Sample) {
    lastLogits.resize(hasScreen() ? 0 : vocabSize());
    logits = hasScreen() ? nullptr : lastLogits.data();
  }
  return append({tokens, sameSlot, rows}, logits);
}

void Session::truncate(uint32_t slot, uint32_t length) {
  assert(length <= held[slot].size());
  held[slot].resize(length);
}

std::span<char> Session::kvRow(uint32_t slot, uint32_t row) {
  size_t size = model.artifact().kvRowSize();
  return {static_cast<char *>(kv.data()) + slot * model.header().kv_slot_size +
              row * size,
          size};
}

void Session::adopt(uint32_t slot, TokenSpan tokens) {
  assert(held[slot].empty());
  held[slot].assign(tokens.begin(), tokens.end());
}

void Session::copy(uint32_t from, uint32_t to) {
  if (from == to)
    return;
  for (uint32_t row = 0; row * TERCET_KV_BLOCK < length(from); ++row) {
    std::span<char> source = kvRow(from, row);
    memcpy(kvRow(to, row).data(), source.data(), source.size());
  }
  held[to] = held[from];
}
