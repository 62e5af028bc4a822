// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Finds stop strings in streamed text. Text that may turn out to be the start
// of a stop string is held back, so that no part of one is ever printed.

#ifndef TERCET_RUNTIME_STOPMATCHER_H
#define TERCET_RUNTIME_STOPMATCHER_H

#include <string>
#include <string_view>
#include <vector>

namespace tercet {

class StopMatcher {
public:
  /// Empty stop strings are ignored.
  explicit StopMatcher(std::vector<std::string> stops);

  /// Adds streamed text; returns what can be shown now. After a stop string
  /// was found (the leftmost, then the first given), nothing more is shown.
  std::string push(std::string_view text);

  /// What was held back, when the stream ends without a stop string.
  std::string finish();

  bool stopped() const { return found; }

private:
  std::vector<std::string> stops;
  std::string held;
  bool found = false;
};

} // namespace tercet

#endif // TERCET_RUNTIME_STOPMATCHER_H
