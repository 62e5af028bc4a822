// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Errors about a user's input: one line, where first, then what, then what to
// do.

#ifndef TERCET_FRONTENDS_SUPPORT_INPUTERROR_H
#define TERCET_FRONTENDS_SUPPORT_INPUTERROR_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/FormatVariadic.h"

namespace tercet {

/// Keeps the message printable, on one line and short: names in it come from
/// files, and may hold anything.
llvm::Error makeInputError(std::string message);

/// A number of a message: 1e-05, 500000.
std::string printNumber(double number);

/// "[640, 2560]"
std::string printShape(llvm::ArrayRef<int64_t> shape);

/// `where: message`, the message in the style of llvm::formatv.
template <typename... Ts>
llvm::Error inputError(llvm::StringRef where, const char *format,
                       Ts &&...args) {
  return makeInputError(
      (where + ": " + llvm::formatv(format, std::forward<Ts>(args)...)).str());
}

/// Keeps the first of many errors, so that look-ups that may fail read as a
/// list; nothing that they found is used after one.
class FirstError {
public:
  template <typename... Ts>
  void fail(llvm::StringRef where, const char *format, Ts &&...args) {
    if (message.empty())
      message = toString(inputError(where, format, std::forward<Ts>(args)...));
  }

  explicit operator bool() const { return !message.empty(); }

  llvm::Error take() const {
    return message.empty() ? llvm::Error::success()
                           : llvm::createStringError(message);
  }

private:
  std::string message;
};

} // namespace tercet

#endif // TERCET_FRONTENDS_SUPPORT_INPUTERROR_H
