// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_FRONTENDS_SUPPORT_INPUTFILE_H
#define TERCET_FRONTENDS_SUPPORT_INPUTFILE_H

#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"

namespace tercet {

/// Maps a regular, non-empty file that is not a Git LFS pointer.
llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>>
openInputFile(llvm::StringRef path);

/// Python's json keeps the last of two equal keys, and so must a reader of
/// files that Python reads; where names must be unique they are refused.
enum class DuplicateKeys { KeepLast, Refuse };

/// Parses a JSON object whose nesting is bounded.
llvm::Expected<llvm::json::Object> parseJSONObject(llvm::StringRef text,
                                                   llvm::StringRef where,
                                                   DuplicateKeys duplicates);

} // namespace tercet

#endif // TERCET_FRONTENDS_SUPPORT_INPUTFILE_H
