// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where the time of a step goes, kernel by kernel.

#ifndef TERCET_RUNTIME_KERNELTIMES_H
#define TERCET_RUNTIME_KERNELTIMES_H

#include "runtime/src/Session.h"

#include <string_view>
#include <vector>

namespace tercet {

struct KernelTime {
  std::string_view op;    ///< what it computes: "packed_matmul 3840x2560 t5"
  std::string_view layer; ///< whose: "model.layers.0.self_attn.q_proj + ..."
  double decode = 0;      ///< seconds in a step of one token
  double prefill = 0;     ///< seconds in a step of a whole chunk
};

/// The kernels of a step in their order (TERCET_SECTION_KERNELS), without
/// times; none if the artifact does not name them.
std::vector<KernelTime> listKernels(const Artifact &artifact);

/// Medians over some steps of sequence 0 after its first `depth` tokens: steps
/// of one token, and steps of `chunk` tokens.
Error measureKernels(Session &session, uint32_t depth, TokenSpan chunk,
                     std::vector<KernelTime> &kernels);

} // namespace tercet

#endif // TERCET_RUNTIME_KERNELTIMES_H
