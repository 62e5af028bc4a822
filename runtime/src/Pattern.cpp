// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <utility>

using namespace tercet;

// Backtracking that a pattern may need at one place. A run of ten million
// spaces takes the patterns in use one step a character; a pattern that goes
// exponential is stopped after seconds.
static constexpr uint32_t matchLimit = 200'000'000;
static constexpr size_t jitStackBytes = 16 << 20;
static constexpr uint32_t heapLimitKiB = 1 << 20;

static std::string messageOf(int code) {
  unsigned char text[256];
  if (pcre2_get_error_message(code, text, sizeof(text)) < 0)
    return "PCRE2 error " + std::to_string(code);
  return reinterpret_cast<char *>(text);
}

Pattern::Pattern(Pattern &&other) : code(std::exchange(other.code, nullptr)) {}

Pattern &Pattern::operator=(Pattern &&other) {
  std::swap(code, other.code);
  return *this;
}

Pattern::~Pattern() { pcre2_code_free(code); }

Error Pattern::compile(std::string_view pattern) {
  pcre2_compile_context *context = pcre2_compile_context_create(nullptr);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF); // what '.' stops at
  int status;
  PCRE2_SIZE offset;
  // MULTILINE: ^ and $ are at every line, as in Oniguruma.
  code = pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
      &status, &offset, context);
  pcre2_compile_context_free(context);
  if (!code)
    return Error(messageOf(status) + " at byte " + std::to_string(offset) +
                 " of the pattern " + std::string(pattern));
  // May fail where memory cannot be made executable: the interpreter serves.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  return Error::success();
}

Pattern::Searcher::Searcher()
    : context(pcre2_match_context_create(nullptr)),
      stack(pcre2_jit_stack_create(64 << 10, jitStackBytes, nullptr)),
      data(pcre2_match_data_create(1, nullptr)) {
  pcre2_set_match_limit(context, matchLimit);
  pcre2_set_heap_limit(context, heapLimitKiB);
  pcre2_jit_stack_assign(context, nullptr, stack);
}

Pattern::Searcher::~Searcher() {
  pcre2_match_data_free(data);
  pcre2_jit_stack_free(stack);
  pcre2_match_context_free(context);
}

Error Pattern::Searcher::find(const Pattern &pattern, std::string_view text,
                              size_t start, std::optional<Match> &match) {
  auto search = [&](uint32_t options) {
    return pcre2_match(pattern.code, reinterpret_cast<PCRE2_SPTR>(text.data()),
                       text.size(), start, options | PCRE2_NO_UTF_CHECK, data,
                       context);
  };
  int status = search(0);
  // The interpreter keeps its backtracking on the heap.
  if (status == PCRE2_ERROR_JIT_STACKLIMIT)
    status = search(PCRE2_NO_JIT);
  match.reset();
  if (status == PCRE2_ERROR_NOMATCH)
    return Error::success();
  if (status < 0)
    return Error(messageOf(status) + " at byte " + std::to_string(start));
  // \K in a lookahead can put the end before the start: an empty match.
  const PCRE2_SIZE *ovector = pcre2_get_ovector_pointer(data);
  match = {ovector[0], std::max(ovector[0], ovector[1])};
  return Error::success();
}
