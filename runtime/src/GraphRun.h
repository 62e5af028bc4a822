// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Leaving tercet_evaluate by tercet_fail.

#ifndef TERCET_RUNTIME_GRAPHRUN_H
#define TERCET_RUNTIME_GRAPHRUN_H

#include "tercet/artifact.h"

namespace tercet {

/// Returns what it failed with, or null.
const char *evaluateOrFail(decltype(&tercet_evaluate) evaluate,
                           const void *weights,
                           const tercet_graph_tensor *inputs,
                           tercet_graph_tensor *outputs, tercet_pool *pool);

} // namespace tercet

#endif // TERCET_RUNTIME_GRAPHRUN_H
