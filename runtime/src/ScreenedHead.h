// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The head of `--head=screened`: approximations of all logits from an i8 copy,
// with bounds on their errors, and exact logits of the rows that somebody wants
// (docs/decisions/0008).

#ifndef TERCET_RUNTIME_SCREENEDHEAD_H
#define TERCET_RUNTIME_SCREENEDHEAD_H

#include "runtime/src/LogitBounds.h"
#include "tercet/artifact.h"

#include <vector>

namespace tercet {

class ScreenedHead final : public LogitBounds {
public:
  /// How much of the exact head the choices of tokens took.
  struct Statistics {
    uint64_t numTokens = 0;
    uint64_t numGroups = 0;   // of TERCET_HEAD_GROUP rows
    uint64_t numComplete = 0; // tokens that took all of it
  };

  ScreenedHead(const tercet_blob_header &header, const void *weights,
               void *arena, tercet_pool &pool);

  /// The logits that follow from `hidden`, [hidden_size], which has to outlive
  /// their use.
  void start(const float *hidden);

  void refine(std::span<const int32_t> rows) override;

  const Statistics &statistics() const { return counts; }

private:
  void computeGroups();

  const tercet_blob_header &header;
  const void *weights;
  void *arena;
  tercet_pool &pool;
  const float *hidden = nullptr;
  /// Approximations, exact where refined; `lower` and `upper` are views of the
  /// other two.
  std::vector<float> logits, lowers, uppers;
  std::vector<bool> isExact; // by group
  std::vector<int32_t> wanted;
  size_t numExact = 0;
  Statistics counts;
};

} // namespace tercet

#endif // TERCET_RUNTIME_SCREENEDHEAD_H
