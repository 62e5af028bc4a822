// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_RUNTIME_ERROR_H
#define TERCET_RUNTIME_ERROR_H

#include <string>

namespace tercet {

/// What a caller must hear: one line that says what, where and what to do.
/// True when there is an error, like llvm::Error.
class [[nodiscard]] Error {
public:
  static Error success() { return Error(); }
  explicit Error(std::string message) : text(std::move(message)) {}

  explicit operator bool() const { return !text.empty(); }
  const std::string &message() const { return text; }

private:
  Error() = default;
  std::string text;
};

[[gnu::format(printf, 1, 2)]] std::string format(const char *pattern, ...);

/// "cannot DO WHAT: strerror(errno)".
Error errnoError(const std::string &doing);

} // namespace tercet

#endif // TERCET_RUNTIME_ERROR_H
