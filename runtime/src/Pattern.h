// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A regular expression on UTF-8 text: PCRE2 behind the two calls we need.

#ifndef TERCET_RUNTIME_PATTERN_H
#define TERCET_RUNTIME_PATTERN_H

#include "runtime/src/Error.h"

#include <cstddef>
#include <optional>
#include <string_view>

struct pcre2_real_code_8;
struct pcre2_real_match_context_8;
struct pcre2_real_jit_stack_8;
struct pcre2_real_match_data_8;

namespace tercet {

class Pattern {
public:
  struct Match {
    size_t begin, end;
  };

  Pattern() = default;
  Pattern(Pattern &&);
  Pattern &operator=(Pattern &&);
  ~Pattern();

  Error compile(std::string_view pattern);

  /// The state of one thread's searches; any number of patterns.
  class Searcher {
  public:
    Searcher();
    ~Searcher();

    /// The leftmost match in `text`, which is valid UTF-8, at or after
    /// `start`, if there is one. An error if the search takes too long.
    Error find(const Pattern &pattern, std::string_view text, size_t start,
               std::optional<Match> &match);

  private:
    pcre2_real_match_context_8 *context;
    pcre2_real_jit_stack_8 *stack;
    pcre2_real_match_data_8 *data;
  };

private:
  pcre2_real_code_8 *code = nullptr;
};

} // namespace tercet

#endif // TERCET_RUNTIME_PATTERN_H
