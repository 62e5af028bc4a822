/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * The C API of a model compiled with `tercet compile MODEL --emit=lib`. The
 * library holds everything, weights and tokenizer included; it reads no other
 * file.
 *
 *   tercet_model *model;
 *   tercet_session *session;
 *   int32_t tokens[512];
 *   size_t count;
 *   float *logits = malloc(vocab_size * sizeof(float));
 *
 *   if (tercet_open(&model) ||
 *       tercet_session_create(model, NULL, &session) ||
 *       tercet_tokenize(model, text, strlen(text), TERCET_ADD_SPECIAL,
 *                       tokens, 512, &count) ||
 *       tercet_eval(session, 0, tokens, count, logits))
 *     fprintf(stderr, "%s\n", tercet_last_error());
 *
 * Every function returning int returns a tercet_status; on anything but
 * TERCET_OK the outputs are unchanged unless their comment says otherwise, and
 * tercet_last_error() explains. Results are the same bits for every number of
 * threads, every way to cut a sequence into calls, and every batch.
 */

#ifndef TERCET_TERCET_H
#define TERCET_TERCET_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TERCET_API __attribute__((visibility("default")))

typedef enum tercet_status {
  TERCET_OK = 0,
  TERCET_ERROR_ARTIFACT = 1,  /* damaged library, or made for another CPU */
  TERCET_ERROR_ARGUMENT = 2,  /* null, or a token or sequence out of range */
  TERCET_ERROR_CONTEXT = 3,   /* the tokens do not fit the context */
  TERCET_ERROR_MEMORY = 4,    /* the system refused memory */
  TERCET_ERROR_CAPACITY = 5,  /* the caller's buffer is too small */
  TERCET_ERROR_TOKENIZER = 6, /* none in this library, or it failed */
  TERCET_ERROR_FILE = 7 /* cannot be read or written, damaged, or of another
                           model */
} tercet_status;

/* What the calling thread's last failed call has to say: one line of UTF-8,
 * valid until that thread's next call. Never null. */
TERCET_API const char *tercet_last_error(void);

/* ---- The model ----------------------------------------------------------- */

/* Immutable once open; any number of threads and sessions may use it. */
typedef struct tercet_model tercet_model;

typedef struct tercet_model_info {
  uint32_t vocab_size; /* logits in a row; token ids are below this */
  uint32_t context;    /* most tokens in one sequence */
  uint32_t num_layers;
  uint64_t kv_size;          /* bytes of KV cache of one full sequence */
  uint64_t weights_size;     /* bytes */
  int32_t bos_token;         /* -1: none */
  int32_t num_eos_tokens;    /* any of them ends a text */
  const int32_t *eos_tokens; /* [num_eos_tokens], lives as long as the model */
  const char *target;        /* of --target, the level that runs */
  const char *json;          /* what --info prints; not zero-terminated */
  size_t json_size;          /* bytes */
} tercet_model_info;

/* Checks the library's own model against damage and this CPU and makes its
 * weights resident. */
TERCET_API int tercet_open(tercet_model **model);

/* After all of its sessions; null is allowed. */
TERCET_API void tercet_close(tercet_model *model);

TERCET_API int tercet_get_info(const tercet_model *model,
                               tercet_model_info *info);

/* ---- Text ---------------------------------------------------------------- */

#define TERCET_ADD_SPECIAL 1u   /* put BOS and the like around the text */
#define TERCET_ALLOW_SPECIAL 2u /* special tokens in the text count as such */

/* Writes the tokens of text[0..size) to tokens[0..capacity) and their number
 * to *count. When they do not fit, *count is set all the same and the result
 * is TERCET_ERROR_CAPACITY; tokens may be null if capacity is 0. */
TERCET_API int tercet_tokenize(const tercet_model *model, const char *text,
                               size_t size, uint32_t flags, int32_t *tokens,
                               size_t capacity, size_t *count);

/* Writes the UTF-8 text of the tokens, without a terminator, to
 * text[0..capacity) and its bytes to *size; capacity as above. Special tokens
 * have no text unless flags has TERCET_ALLOW_SPECIAL. */
TERCET_API int tercet_detokenize(const tercet_model *model,
                                 const int32_t *tokens, size_t count,
                                 uint32_t flags, char *text, size_t capacity,
                                 size_t *size);

/* ---- Evaluation ---------------------------------------------------------- */

/* A number of token sequences and the threads that advance them. One thread
 * may use a session at a time; sessions are independent. */
typedef struct tercet_session tercet_session;

typedef struct tercet_session_options {
  uint32_t num_threads;   /* 0: as many CPUs as the process may use */
  uint32_t context;       /* most tokens in a sequence; 0: the model's */
  uint32_t num_sequences; /* 0: 1 */
} tercet_session_options;

/* All sequences are empty. options may be null: all defaults. */
TERCET_API int tercet_session_create(const tercet_model *model,
                                     const tercet_session_options *options,
                                     tercet_session **session);

/* Null is allowed. */
TERCET_API void tercet_session_destroy(tercet_session *session);

/* Appends tokens[0..count) to a sequence, any number in one call, and writes
 * the logits of what follows the last one: float[vocab_size], natural-log
 * units, not normalised. logits may be null. On an error the sequence is as it
 * was. */
TERCET_API int tercet_eval(tercet_session *session, uint32_t sequence,
                           const int32_t *tokens, size_t count, float *logits);

/* The same with the logits after every token: float[count][vocab_size]. */
TERCET_API int tercet_eval_all(tercet_session *session, uint32_t sequence,
                               const int32_t *tokens, size_t count,
                               float *logits);

/* How a token is chosen. All zeros: the likeliest one. The choice is the same
 * for every number of threads and on every machine. */
typedef struct tercet_sampling {
  float temperature; /* 0: the likeliest token */
  float top_p;       /* 0 or 1: off */
  int32_t top_k;     /* 0: off */
  uint64_t seed;
  uint64_t draw; /* tokens drawn with one seed need different numbers, such as
                  * the sequence's length */
} tercet_sampling;

/* tercet_eval of at least one token, and then a token to follow them; sampling
 * may be null: all zeros. With --head=screened it is the way to be fast: exact
 * logits are computed only for tokens that they decide on. */
TERCET_API int tercet_eval_sample(tercet_session *session, uint32_t sequence,
                                  const int32_t *tokens, size_t count,
                                  const tercet_sampling *sampling,
                                  int32_t *token);

/* Appends tokens[i] to sequences[i] for i in [0, count), in this order:
 * prompts, parts of prompts and single tokens of any sequences, one batch.
 * Sequences join and leave from call to call; tokens of one sequence are the
 * fastest in a row. Writes float[num_rows][vocab_size]: row r is the logits of
 * what follows tokens[rows[r]], rows ascending. logits may be null if num_rows
 * is 0. On an error all sequences are as they were. */
TERCET_API int tercet_eval_batch(tercet_session *session,
                                 const int32_t *sequences,
                                 const int32_t *tokens, size_t count,
                                 const int32_t *rows, size_t num_rows,
                                 float *logits);

/* Tokens in a sequence so far. */
TERCET_API int tercet_length(const tercet_session *session, uint32_t sequence,
                             uint32_t *length);

/* Writes a sequence's tokens to tokens[0..capacity) and their number to *count;
 * capacity as in tercet_tokenize. */
TERCET_API int tercet_get_tokens(const tercet_session *session,
                                 uint32_t sequence, int32_t *tokens,
                                 size_t capacity, size_t *count);

/* Makes sequence `to` equal to `from`, as if its tokens had been evaluated:
 * several answers to one prompt. */
TERCET_API int tercet_copy(tercet_session *session, uint32_t from, uint32_t to);

/* Writes the state of a sequence to a file, which appears under its name only
 * when it is complete. A file belongs to a model and its --kv; targets,
 * packings, heads and contexts may differ. */
TERCET_API int tercet_save(tercet_session *session, uint32_t sequence,
                           const char *path);

/* Makes a sequence what it was when it was saved. On an error it is as it was,
 * or empty if reading had begun. */
TERCET_API int tercet_load(tercet_session *session, uint32_t sequence,
                           const char *path);

/* Forgets the tokens of a sequence from `length` on; 0 empties it. */
TERCET_API int tercet_truncate(tercet_session *session, uint32_t sequence,
                               uint32_t length);

#ifdef __cplusplus
}
#endif

#endif /* TERCET_TERCET_H */
