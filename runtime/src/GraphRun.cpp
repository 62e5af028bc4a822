// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/GraphRun.h"

#include <csetjmp>
#include <utility>

using namespace tercet;

namespace {
struct Failure {
  const char *message = nullptr;
  jmp_buf destination;
};
} // namespace

static thread_local Failure *onFailure;

void tercet_fail(const char *message) {
  onFailure->message = message;
  longjmp(onFailure->destination, 1);
}

/// Apart, because what setjmp returns to must have nothing to destroy.
static void evaluateUntil(Failure &failure, decltype(&tercet_evaluate) evaluate,
                          const void *weights,
                          const tercet_graph_tensor *inputs,
                          tercet_graph_tensor *outputs, tercet_pool *pool) {
  if (!setjmp(failure.destination))
    evaluate(weights, inputs, outputs, pool);
}

const char *tercet::evaluateOrFail(decltype(&tercet_evaluate) evaluate,
                                   const void *weights,
                                   const tercet_graph_tensor *inputs,
                                   tercet_graph_tensor *outputs,
                                   tercet_pool *pool) {
  Failure failure;
  Failure *caller = std::exchange(onFailure, &failure);
  evaluateUntil(failure, evaluate, weights, inputs, outputs, pool);
  onFailure = caller;
  return failure.message;
}
