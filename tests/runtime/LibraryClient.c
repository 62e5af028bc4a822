/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * A program in C against a model compiled with --emit=lib: continues a text
 * greedily, as README's example does. */

#include "tercet/tercet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check(int status) {
  if (status != TERCET_OK) {
    fprintf(stderr, "error: %s\n", tercet_last_error());
    exit(1);
  }
  return status;
}

int main(int argc, char **argv) {
  const char *text = argc > 1 ? argv[1] : "abc";
  tercet_model *model;
  tercet_session *session;
  tercet_model_info info;
  int32_t tokens[64];
  size_t count;
  check(tercet_open(&model));
  check(tercet_get_info(model, &info));
  check(tercet_session_create(model, NULL, &session));
  check(tercet_tokenize(model, text, strlen(text), TERCET_ADD_SPECIAL, tokens,
                        64, &count));
  float *logits = malloc(info.vocab_size * sizeof(float));
  for (int i = 0; i < 5; ++i) {
    check(tercet_eval(session, 0, tokens, count, logits));
    int32_t best = 0;
    for (uint32_t id = 1; id < info.vocab_size; ++id)
      if (logits[id] > logits[best])
        best = (int32_t)id;
    char piece[16];
    size_t size;
    check(tercet_detokenize(model, &best, 1, 0, piece, sizeof piece, &size));
    fwrite(piece, 1, size, stdout);
    tokens[0] = best;
    count = 1;
  }
  puts("");
  free(logits);
  tercet_session_destroy(session);
  tercet_close(model);
  return 0;
}
