// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What each action of the command line does.

#ifndef TERCET_RUNTIME_COMMANDS_H
#define TERCET_RUNTIME_COMMANDS_H

#include "runtime/src/CommandLine.h"
#include "runtime/src/Session.h"

namespace tercet {

Error runLogits(Session &session, const CommandLine &line, TokenSpan tokens);

/// Rows of logits that are worth computing at once: whole steps, but not
/// gigabytes of a large vocabulary.
uint32_t logitBatch(const Session &session, const CommandLine &line);

} // namespace tercet

#endif // TERCET_RUNTIME_COMMANDS_H
