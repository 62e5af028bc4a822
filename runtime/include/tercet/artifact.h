// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The contract between the compiler (compiler/Emit) and the runtime: the blob
// appended to every artifact, and the C ABI of the compiled code. Both sides
// include this one header; a change of layout bumps TERCET_BLOB_VERSION.
//
// All integers are little endian. All offsets are in bytes from the start of
// the blob unless a comment says otherwise.

#ifndef TERCET_ARTIFACT_H
#define TERCET_ARTIFACT_H

#include "tercet/graph.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Hidden: a shared library exports tercet.h or graph.h only, so that several
 * compiled models can live in one process. */
#pragma GCC visibility push(hidden)

#define TERCET_BLOB_MAGIC UINT64_C(0x0042544543524554) /* "TERCETB\0" */
#define TERCET_BLOB_VERSION 5u
/* The blob starts at a file offset and an address that are multiples of this
 * (a huge page), and so does its weights section. */
#define TERCET_BLOB_ALIGNMENT UINT64_C(0x200000)

typedef enum tercet_artifact_kind {
  TERCET_ARTIFACT_LANGUAGE_MODEL = 0, /* provides tercet_step */
  TERCET_ARTIFACT_GRAPH = 1           /* provides tercet_evaluate */
} tercet_artifact_kind;

typedef enum tercet_section_kind {
  TERCET_SECTION_WEIGHTS = 1,   /* packed parameters, what the code addresses */
  TERCET_SECTION_TOKENIZER = 2, /* runtime/src/TokenizerBlob.h */
  TERCET_SECTION_CHAT_TEMPLATE = 3, /* Jinja source, UTF-8, no terminator */
  TERCET_SECTION_GENERATION = 4,    /* tercet_generation */
  TERCET_SECTION_INFO = 5,          /* JSON text printed by --info */
  TERCET_SECTION_SIGNATURE = 6,     /* tercet_signature */
  TERCET_SECTION_KERNELS = 7, /* "OP<tab>LAYER" of each tercet_parallel_for of a
                                step, a line each, for --bench */
  TERCET_SECTION_LEVELS = 8   /* tercet_level[], where there are several */
} tercet_section_kind;

typedef struct tercet_section {
  uint32_t kind; /* tercet_section_kind */
  uint32_t reserved;
  uint64_t offset; /* a multiple of 64: sections are read in place */
  uint64_t size;
  uint64_t hash; /* XXH3-64 of the section's bytes (LLVM's xxh3_64bits) */
} tercet_section;

/* Features that the compiled code needs, checked before it is entered. */
typedef enum tercet_cpu_feature {
  TERCET_CPU_SSSE3 = 1u << 0,
  TERCET_CPU_SSE41 = 1u << 1,
  TERCET_CPU_SSE42 = 1u << 2,
  TERCET_CPU_AVX = 1u << 3,
  TERCET_CPU_F16C = 1u << 4,
  TERCET_CPU_FMA = 1u << 5,
  TERCET_CPU_AVX2 = 1u << 6,
  TERCET_CPU_BMI2 = 1u << 7,
  TERCET_CPU_AVXVNNI = 1u << 8,
  TERCET_CPU_AVX512F = 1u << 9,
  TERCET_CPU_AVX512BW = 1u << 10,
  TERCET_CPU_AVX512DQ = 1u << 11,
  TERCET_CPU_AVX512VL = 1u << 12,
  TERCET_CPU_AVX512VNNI = 1u << 13,
  TERCET_CPU_AVX512VBMI = 1u << 14,
  TERCET_CPU_NEON_DOTPROD = 1u << 15,
  TERCET_CPU_NEON_I8MM = 1u << 16,
  TERCET_CPU_AMXINT8 = 1u << 17,
  TERCET_CPU_RVV = 1u << 18 /* with registers of at least 128 bits */
} tercet_cpu_feature;

/* One of several ISA levels that the code was compiled for, in ascending order.
 * The blob's header has what all of them need. */
typedef struct tercet_level {
  char target[64]; /* zero-terminated */
  uint64_t cpu_features;
} tercet_level;

#define TERCET_KV_BLOCK 64u

/* Keys and values of equal models and elements are the same bytes on every
 * target. */
typedef enum tercet_kv_element {
  TERCET_KV_F32 = 0,
  TERCET_KV_BF16 = 1,
  TERCET_KV_INT8 = 2
} tercet_kv_element;

/* The blob's first bytes. */
typedef struct tercet_blob_header {
  uint64_t magic;
  uint32_t version;
  uint32_t num_sections; /* the tercet_section table follows this struct */
  uint64_t size;         /* of the whole blob */
  uint64_t header_hash;  /* XXH3-64 of header (this field 0) and table */
  char target[64];       /* of --target, or its first level; zero-terminated */
  uint64_t cpu_features; /* OR of tercet_cpu_feature */
  uint64_t model_hash;   /* of the source model's files */
  uint32_t kind;         /* tercet_artifact_kind */
  /* The compiled step; all 0 but scratch_size in a graph. */
  uint32_t vocab_size;
  uint32_t context;         /* KV capacity of a sequence, in tokens */
  uint32_t max_step_tokens; /* capacity of one tercet_step call, in tokens */
  uint32_t num_layers;
  uint32_t hidden_size;  /* of a screened head; 0: another head */
  uint64_t arena_size;   /* bytes of activation memory a step needs */
  uint64_t scratch_size; /* bytes of private memory a worker needs */
  /* Bytes of KV cache per sequence slot: equal rows of TERCET_KV_BLOCK
   * positions, the last one for what is left of the context. */
  uint64_t kv_slot_size;
  uint32_t kv_element; /* tercet_kv_element */
  uint32_t reserved;   /* 0 */
  /* Work of a step, for --bench: ternary weights (each is one MAC a token)
   * and bytes read from the weights section by a one-token step. */
  uint64_t ternary_weights;
  uint64_t ternary_bytes;
  uint64_t head_bytes;
  /* A screened head: bytes that tercet_head_rows reads for a group, and where
   * float[vocab_size], how far off tercet_screen may be, is in the weights. */
  uint64_t head_group_bytes;
  uint64_t error_bounds;
} tercet_blob_header;

#define TERCET_MAX_EOS 8

/* generation_config.json, resolved. */
typedef struct tercet_generation {
  int32_t bos_token; /* -1: none */
  int32_t num_eos;
  int32_t eos_tokens[TERCET_MAX_EOS];
  float temperature; /* 0: greedy */
  float top_p;       /* 1: off */
  int32_t top_k;     /* 0: off */
} tercet_generation;

/* TERCET_SECTION_SIGNATURE, what a graph takes and gives: this struct, a
 * tercet_signature_tensor for each input and then each output, and the
 * zero-terminated strings that they refer to, each once. */
typedef struct tercet_signature {
  uint32_t num_inputs;
  uint32_t num_outputs;
} tercet_signature;

typedef struct tercet_signature_tensor {
  uint32_t name;    /* where in the section its string is */
  uint32_t element; /* tercet_element */
  uint32_t rank;
  uint32_t reserved;
  /* An extent, or -1 - S: any, and S is where in the section the string of its
   * symbol is. Extents of one symbol are equal, but those of "" are not. */
  int64_t dims[TERCET_MAX_RANK];
} tercet_signature_tensor;

/* ---- What compiled code calls ------------------------------------------- */

typedef struct tercet_pool tercet_pool;

/* Work on items [begin, end) of a parallel_for. `scratch` is private to the
 * worker, scratch_size bytes, 64-byte aligned, with undefined contents. */
typedef void (*tercet_parallel_body)(void *context, int64_t begin, int64_t end,
                                     void *scratch);

/* Calls body on disjoint ranges that cover [0, count), on all workers of the
 * pool, and returns when all are done. Results never depend on the split.
 * `work` is about how many vector instructions an item takes, for the pool to
 * know when a thread is not worth waking; negative: always. */
void tercet_parallel_for(tercet_pool *pool, tercet_parallel_body body,
                         void *context, int64_t count, int64_t work);

/* Memory of a graph, 64-byte aligned and never null: what cannot be allocated
 * fails. On the thread that called tercet_evaluate only, never in a
 * parallel_body; so are the next two. */
void *tercet_allocate(int64_t size_in_bytes);
void tercet_free(void *memory);

/* Ends tercet_evaluate without returning to it: what it allocated is freed, and
 * `message`, which lives forever, is what the caller hears. */
void tercet_fail(const char *message) __attribute__((noreturn));

/* The runtime's choice among several levels, by number: which of them the
 * functions below run. Set before the first call. */
extern uint32_t tercet_active_level;

/* ---- What compiled code provides ---------------------------------------- */

/* One run of a graph, inputs and outputs in the order of its signature.
 *   weights     start of the weights section, 64-byte aligned
 *   inputs      data 64-byte aligned, read only; shapes agree with the
 *               signature, and the caller has checked them
 *   outputs     out: data from tercet_allocate, each another, and shape */
void tercet_evaluate(const void *weights, const tercet_graph_tensor *inputs,
                     tercet_graph_tensor *outputs, tercet_pool *pool);

/* One step of a language model: a batch of 1..max_step_tokens tokens.
 *   weights     start of the weights section, 64-byte aligned
 *   arena       arena_size bytes, 64-byte aligned, zeroed once at start
 *   kv          num_slots * kv_slot_size bytes, 64-byte aligned, zeroed once
 *   tokens      [num_tokens] ids in [0, vocab_size)
 *   positions   [num_tokens] in [0, context); within a slot, tokens come in
 *               ascending position and every earlier position was stepped.
 *               Stepping a position again replaces it: what kv holds from
 *               there on is stale, not zero
 *   slots       [num_tokens] sequence slot of each token
 *   logit_rows  [num_logit_rows] indices into the batch whose logits are asked
 *   logits      out, [num_logit_rows][vocab_size]; with a screened head hidden
 *               states, [num_logit_rows][hidden_size]
 * The caller has checked every value: compiled code does not. */
void tercet_step(const void *weights, void *arena, void *kv,
                 const int32_t *tokens, const int32_t *positions,
                 const int32_t *slots, const int32_t *logit_rows, float *logits,
                 int64_t num_tokens, int64_t num_logit_rows, tercet_pool *pool);

/* ---- What it provides beside that with a screened head ------------------ */

/* Rows of the head that are computed together. */
#define TERCET_HEAD_GROUP 16

/* Approximations of logits [num_rows][vocab_size] from hidden states
 * [num_rows][hidden_size], at most max_step_tokens rows. Logit m of a row is
 * off by at most error_bounds[m] * activationNorm(its hidden states)
 * (runtime/src/LogitBounds.h). */
void tercet_screen(const void *weights, void *arena, const float *hidden,
                   float *logits, int64_t num_rows, tercet_pool *pool);

/* The logits themselves of rows 16g .. 16g + 15 of the head for each g of
 * groups[0..num_groups), all different; others are left as they are. */
void tercet_head_rows(const void *weights, void *arena, const float *hidden,
                      const int32_t *groups, float *logits, int64_t num_rows,
                      int64_t num_groups, tercet_pool *pool);

/* ---- For --bench --------------------------------------------------------- */

/* Runs `iterations` rounds of a loop of this target's best integer dot product
 * on registers alone and returns how many multiply-accumulates that was: the
 * roofline of --bench. */
int64_t tercet_dot_peak(int64_t iterations);

/* ---- Tracing (--trace FILE of an executable; docs/verify.md) ------------- */

/* FILE is an array of these in ascending order of `call`. The executable runs
 * one step and appends, for each range, those bytes of the arena as
 * tercet_parallel_for call number `call` of the step left them, then the
 * number of calls as a uint64_t. With a screened head, tercet_head_rows of all
 * groups and tercet_screen follow the step and count on. */
typedef struct tercet_trace_range {
  uint64_t call;
  uint64_t offset;
  uint64_t size;
} tercet_trace_range;

/* The blob: a placeholder when linked, patched by the artifact writer. */
extern const unsigned char tercet_blob[];

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif /* TERCET_ARTIFACT_H */
