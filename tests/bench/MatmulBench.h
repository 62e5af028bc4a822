// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_TESTS_BENCH_MATMULBENCH_H
#define TERCET_TESTS_BENCH_MATMULBENCH_H

#include "dialect/Ternary/Ternary.h"
#include "tests/conversion/KernelJIT.h"

#include <memory>

namespace tercet::bench {

/// packed_matmul of any number of tokens: q, scale, sum, weights, scales, y,
/// and tables if the layout uses them. With `group`, scales are those of groups
/// of so many columns.
std::shared_ptr<KernelJIT> compileMatmul(ternary::LayoutAttr layout,
                                         int64_t rows, int64_t columns,
                                         int64_t group = 0);

} // namespace tercet::bench

#endif // TERCET_TESTS_BENCH_MATMULBENCH_H
