/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * A program that knows tercet.h alone: writes the logits after each of the token
 * ids on its command line to stdout, as raw floats. The first ones are fed in
 * one call, the last one by itself. */

#include "tercet.h"

#include <stdio.h>
#include <stdlib.h>

static void check(int status) {
  if (status == TERCET_OK)
    return;
  fprintf(stderr, "error %d: %s\n", status, tercet_last_error());
  exit(1);
}

int main(int argc, char **argv) {
  size_t count = (size_t)argc - 1;
  int32_t *tokens = calloc(count, sizeof *tokens);
  for (size_t i = 0; i < count; ++i)
    tokens[i] = atoi(argv[i + 1]);

  tercet_model *model;
  tercet_model_info info;
  tercet_session *session;
  check(tercet_open(&model));
  check(tercet_get_info(model, &info));
  check(tercet_session_create(model, NULL, &session));

  float *logits = calloc(count * info.vocab_size, sizeof *logits);
  float *last = logits + (count - 1) * info.vocab_size;
  check(tercet_eval_all(session, 0, tokens, count - 1, logits));
  check(tercet_eval(session, 0, tokens + count - 1, 1, last));
  fwrite(logits, sizeof *logits, count * info.vocab_size, stdout);

  tercet_session_destroy(session);
  tercet_close(model);
  free(logits);
  free(tokens);
  return 0;
}
