/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * The C API of an ONNX graph compiled with `tercet compile NET.onnx
 * --emit=lib`. The library holds everything, weights included; it reads no
 * other file.
 *
 *   tercet_graph *graph;
 *   tercet_graph_tensor image = {pixels, {1, 784}}, scores;
 *
 *   if (tercet_graph_open(NULL, &graph) ||
 *       tercet_graph_run(graph, &image, &scores))
 *     fprintf(stderr, "%s\n", tercet_graph_last_error());
 *   else
 *     use((const float *)scores.data, scores.shape);
 *
 * Every function returning int returns a tercet_graph_status; on anything but
 * TERCET_GRAPH_OK the outputs are unchanged unless their comment says
 * otherwise, and tercet_graph_last_error() explains. Results are the same bits
 * for every number of threads.
 */

#ifndef TERCET_GRAPH_H
#define TERCET_GRAPH_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TERCET_API __attribute__((visibility("default")))

typedef enum tercet_graph_status {
  TERCET_GRAPH_OK = 0,
  TERCET_GRAPH_ERROR_ARTIFACT =
      1, /* damaged library, or made for another CPU */
  TERCET_GRAPH_ERROR_ARGUMENT = 2, /* null, or a shape that the graph refuses */
  TERCET_GRAPH_ERROR_MEMORY = 3,   /* the system refused memory */
  TERCET_GRAPH_ERROR_RUN = 4       /* an operator refused its operands */
} tercet_graph_status;

/* What the calling thread's last failed call has to say: one line of UTF-8,
 * valid until that thread's next call. Never null. */
TERCET_API const char *tercet_graph_last_error(void);

/* ---- Tensors ------------------------------------------------------------- */

/* What a tensor holds; the numbers are those of ONNX's TensorProto.DataType.
 * In memory each element has whole bytes: bool, floats and integers of at
 * most 8 bits one, of which the integers are sign- or zero-extended. */
typedef enum tercet_element {
  TERCET_ELEMENT_F32 = 1,
  TERCET_ELEMENT_UI8 = 2,
  TERCET_ELEMENT_I8 = 3,
  TERCET_ELEMENT_UI16 = 4,
  TERCET_ELEMENT_I16 = 5,
  TERCET_ELEMENT_I32 = 6,
  TERCET_ELEMENT_I64 = 7,
  TERCET_ELEMENT_BOOL = 9,
  TERCET_ELEMENT_F16 = 10,
  TERCET_ELEMENT_F64 = 11,
  TERCET_ELEMENT_UI32 = 12,
  TERCET_ELEMENT_UI64 = 13,
  TERCET_ELEMENT_BF16 = 16,
  TERCET_ELEMENT_F8E4M3FN = 17,
  TERCET_ELEMENT_F8E4M3FNUZ = 18,
  TERCET_ELEMENT_F8E5M2 = 19,
  TERCET_ELEMENT_F8E5M2FNUZ = 20,
  TERCET_ELEMENT_UI4 = 21,
  TERCET_ELEMENT_I4 = 22,
  TERCET_ELEMENT_F4E2M1FN = 23,
  TERCET_ELEMENT_F8E8M0FNU = 24,
  TERCET_ELEMENT_UI2 = 25,
  TERCET_ELEMENT_I2 = 26
} tercet_element;

#define TERCET_MAX_RANK 8

/* Row-major, without gaps. Rank and elements are those of its description;
 * shape beyond the rank is not read and not written. */
typedef struct tercet_graph_tensor {
  void *data;
  int64_t shape[TERCET_MAX_RANK];
} tercet_graph_tensor;

/* ---- The graph ----------------------------------------------------------- */

/* One thread may use it at a time; graphs opened twice are independent and
 * share the weights. */
typedef struct tercet_graph tercet_graph;

typedef struct tercet_graph_options {
  uint32_t num_threads; /* 0: as many CPUs as the process may use */
} tercet_graph_options;

/* Checks the library's own graph against damage and this CPU. options may be
 * null: all defaults. */
TERCET_API int tercet_graph_open(const tercet_graph_options *options,
                                 tercet_graph **graph);

/* Frees the outputs of its last run, too; null is allowed. */
TERCET_API void tercet_graph_close(tercet_graph *graph);

typedef struct tercet_graph_info {
  uint32_t num_inputs, num_outputs;
  uint64_t weights_size; /* bytes */
  const char *target;    /* of --target, the level that runs */
  const char *json;      /* what --info prints; not zero-terminated */
  size_t json_size;      /* bytes */
} tercet_graph_info;

TERCET_API int tercet_graph_get_info(const tercet_graph *graph,
                                     tercet_graph_info *info);

/* What an input or output is called and looks like; lives as long as the graph.
 */
typedef struct tercet_graph_description {
  const char *name;
  const char *element_name; /* as --info names it, such as "f32" */
  tercet_element element;
  uint32_t element_size; /* bytes */
  uint32_t rank;
  int64_t dims[TERCET_MAX_RANK]; /* -1: any */
  /* Of an extent that may be any: its name in the model ("batch"), or "".
   * Extents of one name are equal. */
  const char *symbols[TERCET_MAX_RANK];
} tercet_graph_description;

TERCET_API int tercet_graph_get_input(const tercet_graph *graph, uint32_t index,
                                      tercet_graph_description *description);
TERCET_API int tercet_graph_get_output(const tercet_graph *graph,
                                       uint32_t index,
                                       tercet_graph_description *description);

/* Computes outputs[num_outputs] from inputs[num_inputs], both in the order of
 * their descriptions. What outputs point at belongs to the graph and lives
 * until its next run. Inputs are not changed; those whose data is a multiple of
 * 64 are not copied either. */
TERCET_API int tercet_graph_run(tercet_graph *graph,
                                const tercet_graph_tensor *inputs,
                                tercet_graph_tensor *outputs);

#ifdef __cplusplus
}
#endif

#endif /* TERCET_GRAPH_H */
