// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Inspect/InspectModel.h"
#include "compiler/tools/Commands.h"

using namespace llvm;
using namespace tercet;

Error tercet::runInspect(const Arguments &arguments) {
  return inspectModel(arguments.positionals()[0], arguments.has(OPT_json),
                      outs());
}
