// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Nothing unwinds the stack of an engine: a failure ends the program, whose
// command line would do nothing else.

#include "runtime/src/GraphRun.h"
#include "runtime/src/Console.h"

#include <cstdlib>

using namespace tercet;

void tercet_fail(const char *message) {
  note("error: %s", message);
  exit(1);
}

const char *tercet::evaluateOrFail(decltype(&tercet_evaluate) evaluate,
                                   const void *weights,
                                   const tercet_graph_tensor *inputs,
                                   tercet_graph_tensor *outputs,
                                   tercet_pool *pool) {
  evaluate(weights, inputs, outputs, pool);
  return nullptr;
}
