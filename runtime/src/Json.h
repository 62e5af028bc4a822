// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_RUNTIME_JSON_H
#define TERCET_RUNTIME_JSON_H

#include <string>
#include <string_view>

namespace tercet {

/// A string literal of JSON; ill-formed UTF-8 becomes U+FFFD.
std::string jsonString(std::string_view text);

} // namespace tercet

#endif // TERCET_RUNTIME_JSON_H
