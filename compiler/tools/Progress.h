// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_COMPILER_TOOLS_PROGRESS_H
#define TERCET_COMPILER_TOOLS_PROGRESS_H

#include "llvm/ADT/StringRef.h"
#include <chrono>
#include <string>

namespace tercet {

/// One line on stderr that shows the current step, on a terminal only.
class Progress {
public:
  Progress();
  ~Progress() { clear(); }

  /// Starts a step.
  void step(llvm::StringRef name);
  /// Shows a bar; cheap enough to call often.
  void update(uint64_t done, uint64_t total);
  /// Shows what there is to say about the step.
  void note(llvm::StringRef text);
  /// Makes room for other output.
  void clear();

private:
  using Clock = std::chrono::steady_clock;

  bool enabled;
  std::string name;
  Clock::time_point lastShown;
};

} // namespace tercet

#endif // TERCET_COMPILER_TOOLS_PROGRESS_H
