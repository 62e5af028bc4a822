// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/StopMatcher.h"

#include <algorithm>
#include <utility>

using namespace tercet;

StopMatcher::StopMatcher(std::vector<std::string> stops)
    : stops(std::move(stops)) {
  std::erase(this->stops, "");
}

/// Length of the longest suffix of `text` that is a proper prefix of `stop`.
static size_t overlap(std::string_view text, std::string_view stop) {
  for (size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n)
    if (text.ends_with(stop.substr(0, n)))
      return n;
  return 0;
}

std::string StopMatcher::push(std::string_view text) {
  if (found)
    return {};
  held.append(text);

  size_t end = std::string::npos, keep = 0;
  for (const std::string &stop : stops) {
    end = std::min(end, held.find(stop));
    keep = std::max(keep, overlap(held, stop));
  }
  found = end != std::string::npos;
  std::string shown = held.substr(0, found ? end : held.size() - keep);
  held.erase(0, found ? held.size() : shown.size());
  return shown;
}

std::string StopMatcher::finish() { return std::exchange(held, {}); }
