// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/ScreenedHead.h"

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace tercet;

ScreenedHead::ScreenedHead(const tercet_blob_header &header,
                           const void *weights, void *arena, tercet_pool &pool)
    : header(header), weights(weights), arena(arena), pool(pool),
      logits(header.vocab_size), lowers(header.vocab_size),
      uppers(header.vocab_size),
      isExact((header.vocab_size + TERCET_HEAD_GROUP - 1) / TERCET_HEAD_GROUP) {
  lower = lowers;
  upper = uppers;
}

void ScreenedHead::start(const float *newHidden) {
  hidden = newHidden;
  isExact.assign(isExact.size(), false);
  numExact = 0;
  ++counts.numTokens;
  // The bounds hold while nothing overflows (compiler/Support/ErrorBound.cpp).
  float norm = activationNorm({hidden, header.hidden_size});
  if (!(norm < 0x1p40f)) {
    wanted.resize(isExact.size());
    std::iota(wanted.begin(), wanted.end(), 0);
    return computeGroups();
  }
  tercet_screen(weights, arena, hidden, logits.data(), 1, &pool);
  auto *bounds = reinterpret_cast<const float *>(
      static_cast<const char *>(weights) + header.error_bounds);
  for (size_t i = 0; i < logits.size(); ++i) {
    float error = bounds[i] * norm;
    // Without a bound, the approximation may be infinite or NaN.
    float middle = error < INFINITY ? logits[i] : 0;
    lowers[i] = middle - error;
    uppers[i] = middle + error;
  }
}

void ScreenedHead::refine(std::span<const int32_t> rows) {
  wanted.clear();
  for (int32_t row : rows) {
    int32_t group = row / TERCET_HEAD_GROUP;
    if (isExact[group])
      continue;
    isExact[group] = true;
    wanted.push_back(group);
  }
  // Half of it in pieces takes as long as all of it.
  if (2 * (numExact + wanted.size()) > isExact.size())
    for (size_t group = 0; group < isExact.size(); ++group)
      if (!isExact[group])
        wanted.push_back(static_cast<int32_t>(group));
  if (!wanted.empty())
    computeGroups();
}

void ScreenedHead::computeGroups() {
  std::sort(wanted.begin(), wanted.end()); // in the order of memory
  tercet_head_rows(weights, arena, hidden, wanted.data(), logits.data(), 1,
                   wanted.size(), &pool);
  for (int32_t group : wanted) {
    isExact[group] = true;
    size_t begin = size_t(group) * TERCET_HEAD_GROUP;
    size_t end = std::min(begin + TERCET_HEAD_GROUP, logits.size());
    for (size_t i = begin; i < end; ++i)
      lowers[i] = uppers[i] = logits[i];
  }
  numExact += wanted.size();
  counts.numGroups += wanted.size();
  counts.numComplete += numExact == isExact.size();
}
