// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Linking by lld as a library: no compiler or linker is needed beside tercet.

#ifndef TERCET_COMPILER_EMIT_LINK_H
#define TERCET_COMPILER_EMIT_LINK_H

#include "compiler/Target/ParseTarget.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <string>
#include <vector>

namespace tercet {

enum class LinkKind {
  /// Static: runs on any kernel, whatever libc is installed. WebAssembly: a
  /// WASI command.
  Executable,
  /// Exports the C API of tercet/tercet.h alone; needs libc.so.
  SharedLibrary
};

struct LinkJob {
  LinkKind kind = LinkKind::Executable;
  TargetSpec target;
  /// The compiled model, as bytes of object files.
  std::vector<llvm::SmallString<0>> objects;
  /// Paths of the runtime's archives.
  std::vector<std::string> archives;
  /// Archives of other libraries, by name.
  std::vector<std::string> libraries;
};

/// Fails if there is no such thing for the target.
llvm::Error checkLinkable(LinkKind kind, const TargetSpec &target);

/// Links `job` into the file `output`, ready for writeBlob. Not thread-safe,
/// and resets llvm::cl options: lld has global state.
llvm::Error link(const LinkJob &job, llvm::StringRef output);

/// Path of an installed file of this compiler, seen from the running program:
/// `lib/tercet/NAME` of an install tree or `lib/NAME` of a build tree. The
/// target is linkable.
llvm::Expected<std::string> findRuntimeArchive(llvm::StringRef name,
                                               const TargetSpec &target);

} // namespace tercet

#endif // TERCET_COMPILER_EMIT_LINK_H
