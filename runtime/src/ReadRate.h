// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_RUNTIME_READRATE_H
#define TERCET_RUNTIME_READRATE_H

#include "tercet/artifact.h"

namespace tercet {

/// Bytes per second that the pool's threads read together, by vectors, of
/// `size` bytes in order, in the faster of two ways; 0 if there are too few.
double measureReadRate(tercet_pool &pool, const void *data, uint64_t size);

} // namespace tercet

#endif // TERCET_RUNTIME_READRATE_H
