// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Stands in for the compiled code of a graph: sum = x + y for each row, unless
// `fail` is true.

#include "tests/runtime/FakeBlob.h"

#include <cassert>

namespace {
struct Sum {
  const float *x, *y;
  float *sum;
};
} // namespace

static void addRows(void *context, int64_t begin, int64_t end, void *) {
  auto *sum = static_cast<Sum *>(context);
  for (int64_t row = begin; row < end; ++row)
    for (int64_t i = 3 * row; i < 3 * row + 3; ++i)
      sum->sum[i] = sum->x[i] + sum->y[row];
}

extern "C" void tercet_evaluate(const void *weights,
                                const tercet_graph_tensor *inputs,
                                tercet_graph_tensor *outputs,
                                tercet_pool *pool) {
  assert(static_cast<const char *>(weights)[1] == 7 && "weights in place");
  for (int i = 0; i < 3; ++i)
    assert(reinterpret_cast<uintptr_t>(inputs[i].data) % 64 == 0);
  int64_t rows = inputs[0].shape[0];
  Sum sum = {static_cast<const float *>(inputs[0].data),
             static_cast<const float *>(inputs[1].data),
             static_cast<float *>(tercet_allocate(rows * 3 * 4))};
  void *temporary = tercet_allocate(100);
  if (*static_cast<const bool *>(inputs[2].data))
    tercet_fail("node 'check': told to fail");
  tercet_free(temporary);
  tercet_parallel_for(pool, addRows, &sum, rows, /*work=*/-1);
  auto *count = static_cast<int64_t *>(tercet_allocate(8));
  *count = rows;
  tercet_allocate(1000); // Forgotten: freed with the run.
  outputs[0] = {sum.sum, {rows, 3}};
  outputs[1] = {count, {}};
}
