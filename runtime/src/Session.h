// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From an opened artifact to logits: loading the weights, owning the memory of
// a step, and cutting token sequences into steps.

#ifndef TERCET_RUNTIME_SESSION_H
#define TERCET_RUNTIME_SESSION_H

#include "runtime/src/Artifact.h"
#include "runtime/src/Memory.h"
#include "runtime/src/Sampler.h"
#include "runtime/src/ScreenedHead.h"
#include "runtime/src/ThreadPool.h"

#include <memory>
#include <span>
#include <vector>

namespace tercet {

using TokenSpan = std::span<const int32_t>;

/// An artifact whose code may be entered: checked against this CPU, weights
/// ready to be read. Shared by all sessions.
class Model {
public:
  struct Options {
    bool checkWeights = false;
    /// Read the weights into huge pages instead of using the mapped file.
    bool copyWeights = false;
    int numThreads = 0; // For loading; 0: availableThreads().
  };

  /// Checks only; cheap enough for --info.
  static Error open(Model &result);
  /// Makes the weights resident.
  Error load(const Options &options);

  const Artifact &artifact() const { return source; }
  const tercet_blob_header &header() const { return source.header(); }
  const void *weights() const {
    return copy.data() ? copy.data() : source.weights().data();
  }

private:
  Artifact source;
  PageMemory copy;
};

/// Tokens of any sequences, prompts and single tokens mixed, in the order in
/// which they are appended. Tokens of one sequence are the fastest in a row.
struct Batch {
  TokenSpan tokens;
  std::span<const int32_t> slots;     ///< of each token
  std::span<const int32_t> logitRows; ///< of tokens, ascending
};

/// The state of a number of token sequences ("slots") and the threads that
/// advance them. Not thread-safe; sessions are independent of each other.
class Session {
public:
  struct Options {
    int numThreads = 0;   // 0: availableThreads().
    uint32_t context = 0; // Tokens per slot; 0: all the model has.
    uint32_t numSlots = 1;
    uint32_t stepTokens = 0; // Most tokens in one step; 0: the model's limit.
  };
  /// Sample: those of the last token, for `sample` only.
  enum class Logits { None, Last, All, Sample };

  static Error create(const Model &model, const Options &options,
                      std::unique_ptr<Session> &result);

  /// Appends tokens to a sequence and writes the logits that are asked for:
  /// [vocabSize()] for Last, [tokens.size()][vocabSize()] for All. An error
  /// (token out of range, context full) leaves the sequence as it was.
  Error append(uint32_t slot, TokenSpan tokens, Logits wanted, float *logits);

  /// A token to follow the one that was appended last, with Logits::Sample.
  /// Where the head is screened, only the logits that decide are computed.
  int32_t sample(Sampler &sampler);

  /// How much of a screened head that took so far; null for other heads.
  const ScreenedHead::Statistics *screenStatistics() const {
    return screen ? &screen->statistics() : nullptr;
  }

  /// A screened head's approximations of the logits of the last step, for
  /// tracing.
  void approximate(size_t numRows, float *logits);

  /// Appends a batch in as few steps as possible; logits is
  /// [logitRows.size()][vocabSize()]. An error leaves all sequences as they
  /// were.
  Error append(const Batch &batch, float *logits);

  /// Whether each slot, which must exist, has room for as many tokens as it is
  /// named times.
  bool fits(std::span<const int32_t> slots) const;

  /// Forgets the tokens of a slot from `length` on.
  void truncate(uint32_t slot, uint32_t length);

  /// Makes a slot equal to another one.
  void copy(uint32_t from, uint32_t to);

  /// The bytes of the KV cache, for those that save and restore them.
  std::span<char> kvRow(uint32_t slot, uint32_t row);
  /// Says which tokens the KV cache of an empty slot holds now.
  void adopt(uint32_t slot, TokenSpan tokens);

  TokenSpan tokens(uint32_t slot = 0) const { return held[slot]; }
  uint32_t length(uint32_t slot = 0) const {
    return static_cast<uint32_t>(held[slot].size());
  }
  uint32_t numSlots() const { return static_cast<uint32_t>(held.size()); }
  uint32_t room(uint32_t slot = 0) const { return contextSize - length(slot); }
  uint32_t context() const { return contextSize; }
  uint32_t stepTokens() const { return stepLimit; }
  uint32_t vocabSize() const { return model.header().vocab_size; }
  tercet_pool &pool() { return threads; }
  /// The activations of the last step, for tracing.
  std::string_view arenaBytes() const {
    return {static_cast<const char *>(arena.data()), size_t(arena.size())};
  }

private:
  Session(const Model &model, const Options &options);
  Error check(const Batch &batch) const;
  void step(const Batch &batch, float *logits);
  bool hasScreen() const { return model.header().hidden_size != 0; }

  const Model &model;
  tercet_pool threads;
  PageMemory arena, kv;
  uint32_t contextSize, stepLimit;
  std::vector<std::vector<int32_t>> held; // The tokens in the KV cache.
  // Of the step being prepared.
  std::vector<int32_t> positions, stepRows;
  // Of a batch of one sequence: that slot over and over, and 0, 1, 2, ...
  std::vector<int32_t> sameSlot, allRows;
  // What `sample` chooses from: all logits of a row, or with a screened head
  // the hidden states of a step, in whose place `allGroups` puts logits.
  std::vector<float> lastLogits, hidden;
  std::vector<int32_t> allGroups;
  std::unique_ptr<ScreenedHead> screen;
};

} // namespace tercet

#endif // TERCET_RUNTIME_SESSION_H
