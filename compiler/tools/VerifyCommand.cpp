// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/tools/Commands.h"

using namespace llvm;
using namespace tercet;

Error tercet::runVerify(const Arguments &arguments) {
  return createStringError("verify is not supported yet");
}

Error tercet::runTune(const Arguments &arguments) {
  return createStringError("tune is not supported yet");
}
