// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_RUNTIME_DOTPEAK_H
#define TERCET_RUNTIME_DOTPEAK_H

#include "tercet/artifact.h"

namespace tercet {

/// Multiply-accumulates per second of tercet_dot_peak on all threads of a pool.
double measureDotPeak(tercet_pool &pool);

} // namespace tercet

#endif // TERCET_RUNTIME_DOTPEAK_H
