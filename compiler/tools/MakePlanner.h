// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_COMPILER_TOOLS_MAKEPLANNER_H
#define TERCET_COMPILER_TOOLS_MAKEPLANNER_H

#include "compiler/Tune/TunedLayouts.h"
#include "compiler/tools/CompileModel.h"
#include "compiler/tools/Progress.h"

namespace tercet {

/// What results of the tuner are valid for.
std::string getCompilerVersion();

/// Who chooses layouts for a compilation: --tune and --db. A database that
/// cannot be used is warned about.
llvm::Expected<std::unique_ptr<TunedLayouts>>
makePlanner(const CompileRequest &request, Progress &progress);

/// The best layout so far, as a note of `progress`.
void showProgress(TunedLayouts &layouts, Progress &progress);

} // namespace tercet

#endif // TERCET_COMPILER_TOOLS_MAKEPLANNER_H
