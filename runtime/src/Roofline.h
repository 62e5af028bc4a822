// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What this machine could do at best, measured beside what a model does.

#ifndef TERCET_RUNTIME_ROOFLINE_H
#define TERCET_RUNTIME_ROOFLINE_H

#include "tercet/artifact.h"

namespace tercet {

/// Bytes per second at which all threads of a pool read `size` bytes of `data`,
/// 64-byte aligned; 0 if they are too few to say.
double measureRead(tercet_pool &pool, const void *data, uint64_t size);

/// Multiply-accumulates per second of tercet_dot_peak on all threads of a pool.
double measureDotPeak(tercet_pool &pool);

} // namespace tercet

#endif // TERCET_RUNTIME_ROOFLINE_H
