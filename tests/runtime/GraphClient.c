/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * A program in C against a graph compiled with --emit=lib. */

#include "tercet/graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void expect(int condition, const char *what) {
  if (condition)
    return;
  fprintf(stderr, "%s (%s)\n", what, tercet_graph_last_error());
  exit(1);
}

int main(void) {
  tercet_graph *graph, *another;
  tercet_graph_options options = {2};
  expect(tercet_graph_open(&options, &graph) == TERCET_GRAPH_OK, "opens");
  expect(tercet_graph_open(NULL, &another) == TERCET_GRAPH_OK, "opens twice");

  tercet_graph_info info;
  tercet_graph_get_info(graph, &info);
  expect(info.num_inputs == 3 && info.num_outputs == 2, "counts");
  tercet_graph_description x;
  expect(!tercet_graph_get_input(graph, 0, &x), "describes");
  expect(!strcmp(x.name, "x") && !strcmp(x.element_name, "f32"), "names");
  expect(x.element == TERCET_ELEMENT_F32 && x.element_size == 4, "elements");
  expect(x.rank == 2 && x.dims[0] == -1 && x.dims[1] == 3, "dims");
  expect(!strcmp(x.symbols[0], "batch") && !*x.symbols[1], "symbols");
  expect(tercet_graph_get_output(graph, 2, &x) == TERCET_GRAPH_ERROR_ARGUMENT,
         "has no third output");

  float values[6] = {1, 2, 3, 4, 5, 6}, rows[2] = {10, 20};
  unsigned char fail = 0;
  tercet_graph_tensor inputs[] = {
      {values, {2, 3}}, {rows, {2}}, {&fail, {0}}};
  tercet_graph_tensor outputs[2];
  expect(!tercet_graph_run(graph, inputs, outputs), "runs");
  const float *sum = outputs[0].data;
  expect(outputs[0].shape[0] == 2 && sum[0] == 11 && sum[5] == 26, "adds");

  tercet_graph_tensor others[2];
  values[0] = 2;
  expect(!tercet_graph_run(another, inputs, others), "runs the other one");
  expect(sum[0] == 11 && *(const float *)others[0].data == 12,
         "outputs are each graph's own");

  fail = 1;
  expect(tercet_graph_run(graph, inputs, outputs) == TERCET_GRAPH_ERROR_RUN,
         "fails");
  expect(!strcmp(tercet_graph_last_error(), "node 'check': told to fail"),
         "says why");
  inputs[1].shape[0] = 3;
  expect(tercet_graph_run(graph, inputs, outputs) ==
             TERCET_GRAPH_ERROR_ARGUMENT,
         "checks shapes");
  inputs[0].data = NULL;
  expect(tercet_graph_run(graph, inputs, outputs) ==
             TERCET_GRAPH_ERROR_ARGUMENT,
         "checks pointers");
  tercet_graph_close(graph);
  tercet_graph_close(another);
  tercet_graph_close(NULL);
  return 0;
}
