// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Stands in for compiled code, so that the runtime is tested without the
// compiler. The likeliest token is the successor of the last one ("a" -> "b");
// the size of the logits depends on every earlier token of the sequence, so
// wrong positions, slots or chunks change bits. 'z' is followed by the end.

#include "tests/runtime/FakeBlob.h"

#include <cassert>
#include <cstdlib>

using namespace tercet::test;

namespace {
struct Batch {
  const int32_t *tokens, *positions, *slots, *rows;
  const int32_t *kv;
  float *logits;
};
} // namespace

static const int32_t *sequence(const void *kv, int32_t slot) {
  return static_cast<const int32_t *>(kv) + int64_t(slot) * FakeSlotTokens;
}

static void computeRows(void *context, int64_t begin, int64_t end,
                        void *scratch) {
  auto *batch = static_cast<Batch *>(context);
  auto *mine = static_cast<int64_t *>(scratch); // Undefined contents.
  for (int64_t i = begin; i < end; ++i) {
    int64_t row = i / FakeVocab, v = i % FakeVocab;
    int32_t at = batch->rows[row];
    const int32_t *history = sequence(batch->kv, batch->slots[at]);
    *mine = 1;
    for (int32_t p = 0; p <= batch->positions[at]; ++p)
      *mine = (*mine * 31 + history[p]) % 1009;
    int32_t last = batch->tokens[at];
    int32_t next = last == 'z' ? FakeEos : (last + 1) % FakeVocab;
    int64_t distance = std::abs(v - next);
    batch->logits[i] = float(*mine) / 1009 - float(distance);
  }
}

extern "C" void tercet_step(const void *weights, void *arena, void *kv,
                            const int32_t *tokens, const int32_t *positions,
                            const int32_t *slots, const int32_t *logitRows,
                            float *logits, int64_t numTokens,
                            int64_t numLogitRows, tercet_pool *pool) {
  assert(reinterpret_cast<uintptr_t>(weights) % 64 == 0);
  assert(static_cast<const char *>(weights)[1] == 7 && "weights in place");
  assert(*static_cast<const char *>(arena) == 0);
  for (int64_t i = 0; i < numTokens; ++i)
    const_cast<int32_t *>(sequence(kv, slots[i]))[positions[i]] = tokens[i];
  Batch batch{tokens, positions, slots, logitRows, static_cast<int32_t *>(kv),
              logits};
  tercet_parallel_for(pool, computeRows, &batch, numLogitRows * FakeVocab,
                      /*work=*/-1);
}

extern "C" int64_t tercet_dot_peak(int64_t iterations) {
  volatile int32_t sum = 0;
  for (int64_t i = 0; i < iterations; ++i)
    sum = sum + 1;
  return iterations;
}
