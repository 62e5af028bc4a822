// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a compiled program says: results on stdout, everything else on stderr.

#ifndef TERCET_RUNTIME_CONSOLE_H
#define TERCET_RUNTIME_CONSOLE_H

#include "runtime/src/Error.h"

#include <cstdint>
#include <string_view>

namespace tercet {

/// Unbuffered, so that generated text appears token by token.
Error writeOutput(std::string_view text);

/// One line on stderr.
[[gnu::format(printf, 1, 2)]] void note(const char *pattern, ...);

/// The whole of stdin, or of a file.
Error readFile(const std::string &path, std::string &text);

/// A mapped artifact that cannot be read ends the program with a message.
void reportBusErrors();

double secondsNow();

/// A bar on stderr, drawn only on a terminal and only when work takes long
/// enough to be waited for; erased at the end.
class Progress {
public:
  Progress(const char *label, uint64_t total);
  ~Progress();
  void update(uint64_t done);

private:
  const char *label;
  uint64_t total;
  double started, drawn;
  bool onTerminal, visible = false;
};

/// Ctrl-C: the first one sets a flag that ends the answer, a second one before
/// clearInterrupt() ends the program.
void catchInterrupts();
bool interrupted();
void clearInterrupt();

} // namespace tercet

#endif // TERCET_RUNTIME_CONSOLE_H
