// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The subcommands of `tercet`, a file each.

#ifndef TERCET_COMPILER_TOOLS_COMMANDS_H
#define TERCET_COMPILER_TOOLS_COMMANDS_H

#include "compiler/tools/CommandLine.h"

namespace tercet {

llvm::Error runCompile(const Arguments &arguments);
llvm::Error runInspect(const Arguments &arguments);
llvm::Error runVerify(const Arguments &arguments);
llvm::Error runTune(const Arguments &arguments);
llvm::Error runBench(const Arguments &arguments);
llvm::Error runRun(const Arguments &arguments);
llvm::Error runTargets(const Arguments &arguments);

/// Replaces this process by `program` with `arguments` (without argv[0]);
/// returns only on failure.
llvm::Error execute(llvm::StringRef program,
                    llvm::ArrayRef<const char *> arguments);

} // namespace tercet

#endif // TERCET_COMPILER_TOOLS_COMMANDS_H
