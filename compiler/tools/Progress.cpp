// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/tools/Progress.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace tercet;

Progress::Progress() : enabled(sys::Process::StandardErrIsDisplayed()) {}

void Progress::step(StringRef text) {
  name = text.str();
  if (enabled)
    errs() << "\r\033[K" << name;
}

void Progress::update(uint64_t done, uint64_t total) {
  constexpr unsigned kWidth = 40;
  Clock::time_point now = Clock::now();
  if (!enabled ||
      (done < total && now - lastShown < std::chrono::milliseconds(50)))
    return;
  lastShown = now;
  unsigned filled = total ? kWidth * done / total : kWidth;
  errs() << formatv("\r\033[K{0} [{1}{2}] {3,3}%", name,
                    std::string(filled, '='), std::string(kWidth - filled, ' '),
                    total ? 100 * done / total : 100);
}

void Progress::note(StringRef text) {
  if (enabled)
    errs() << "\r\033[K" << name << ": " << text;
}

void Progress::clear() {
  if (enabled)
    errs() << "\r\033[K";
}
