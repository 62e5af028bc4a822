// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// tercet.h over the runtime's own classes. Arguments are checked here, because
// the caller is not us.

#include "runtime/src/PromptCache.h"
#include "runtime/src/Session.h"
#include "runtime/src/Tokenizer.h"
#include "tercet/tercet.h"

#include <algorithm>
#include <cstring>
#include <vector>

using namespace tercet;

struct tercet_model {
  Model model;
  std::unique_ptr<Tokenizer> tokenizer; // Null when compiled without.
};

struct tercet_session {
  const Artifact *artifact;
  std::unique_ptr<Session> session;
};

static thread_local std::string lastError;

static int fail(tercet_status status, std::string message) {
  lastError = std::move(message);
  return status;
}

static int failNull() {
  return fail(TERCET_ERROR_ARGUMENT, "a required pointer is null");
}

const char *tercet_last_error(void) { return lastError.c_str(); }

//===----------------------------------------------------------------------===//
// Model
//===----------------------------------------------------------------------===//

int tercet_open(tercet_model **result) {
  if (!result)
    return failNull();
  auto opened = std::make_unique<tercet_model>();
  if (Error error = Model::open(opened->model))
    return fail(TERCET_ERROR_ARTIFACT, error.message());
  if (Error error = opened->model.load({}))
    return fail(TERCET_ERROR_MEMORY, error.message());
  std::string_view blob =
      opened->model.artifact().section(TERCET_SECTION_TOKENIZER);
  if (!blob.empty())
    if (Error error = Tokenizer::create(
            {reinterpret_cast<const uint8_t *>(blob.data()), blob.size()},
            opened->tokenizer))
      return fail(TERCET_ERROR_ARTIFACT, error.message());
  *result = opened.release();
  return TERCET_OK;
}

void tercet_close(tercet_model *model) { delete model; }

int tercet_get_info(const tercet_model *model, tercet_model_info *info) {
  if (!model || !info)
    return failNull();
  const Artifact &artifact = model->model.artifact();
  const tercet_blob_header &header = artifact.header();
  const tercet_generation &generation = artifact.generation();
  std::string_view json = artifact.section(TERCET_SECTION_INFO);
  *info = {.vocab_size = header.vocab_size,
           .context = header.context,
           .num_layers = header.num_layers,
           .kv_size = header.kv_slot_size,
           .weights_size = artifact.weights().size(),
           .bos_token = generation.bos_token,
           .num_eos_tokens = generation.num_eos,
           .eos_tokens = generation.eos_tokens,
           .target = artifact.target(),
           .json = json.data(),
           .json_size = json.size()};
  return TERCET_OK;
}

//===----------------------------------------------------------------------===//
// Text
//===----------------------------------------------------------------------===//

/// Hands out a result of unknown size by the rule of the header.
template <typename Range, typename Element>
static int copyOut(const Range &from, Element *to, size_t capacity,
                   size_t *count) {
  *count = from.size();
  if (from.size() > capacity)
    return fail(TERCET_ERROR_CAPACITY,
                format("the result has %zu elements and the buffer %zu",
                       from.size(), capacity));
  std::copy(from.begin(), from.end(), to);
  return TERCET_OK;
}

static int failNoTokenizer() {
  return fail(TERCET_ERROR_TOKENIZER,
              "this model was compiled without a tokenizer");
}

int tercet_tokenize(const tercet_model *model, const char *text, size_t size,
                    uint32_t flags, int32_t *tokens, size_t capacity,
                    size_t *count) {
  if (!model || (!text && size) || (!tokens && capacity) || !count)
    return failNull();
  if (!model->tokenizer)
    return failNoTokenizer();
  EncodeOptions options;
  options.addSpecial = flags & TERCET_ADD_SPECIAL;
  options.allowSpecial = flags & TERCET_ALLOW_SPECIAL;
  std::vector<int32_t> ids;
  if (Error error = model->tokenizer->encode({text, size}, options, ids))
    return fail(TERCET_ERROR_TOKENIZER, error.message());
  return copyOut(ids, tokens, capacity, count);
}

int tercet_detokenize(const tercet_model *model, const int32_t *tokens,
                      size_t count, uint32_t flags, char *text, size_t capacity,
                      size_t *size) {
  if (!model || (!tokens && count) || (!text && capacity) || !size)
    return failNull();
  if (!model->tokenizer)
    return failNoTokenizer();
  bool skipSpecial = !(flags & TERCET_ALLOW_SPECIAL);
  return copyOut(model->tokenizer->decode({tokens, count}, skipSpecial), text,
                 capacity, size);
}

//===----------------------------------------------------------------------===//
// Evaluation
//===----------------------------------------------------------------------===//

int tercet_session_create(const tercet_model *model,
                          const tercet_session_options *options,
                          tercet_session **result) {
  if (!model || !result)
    return failNull();
  Session::Options wanted;
  if (options) {
    wanted.numThreads = static_cast<int>(std::min(options->num_threads, 1024u));
    wanted.context = options->context;
    wanted.numSlots = std::max(options->num_sequences, 1u);
  }
  if (wanted.context > model->model.header().context)
    return fail(TERCET_ERROR_ARGUMENT,
                format("a context of %u tokens, but the model was compiled "
                       "for %u",
                       wanted.context, model->model.header().context));
  auto created = std::make_unique<tercet_session>();
  created->artifact = &model->model.artifact();
  if (Error error = Session::create(model->model, wanted, created->session))
    return fail(TERCET_ERROR_MEMORY, error.message());
  *result = created.release();
  return TERCET_OK;
}

void tercet_session_destroy(tercet_session *session) { delete session; }

static int checkSequence(const Session &session, int64_t sequence) {
  if (sequence >= 0 && sequence < session.numSlots())
    return TERCET_OK;
  return fail(TERCET_ERROR_ARGUMENT,
              format("sequence %lld, but the session has %u",
                     static_cast<long long>(sequence), session.numSlots()));
}

/// The session's own checks find what is wrong; only the code is decided here.
static int failAppend(const Error &error, bool fits) {
  return fail(fits ? TERCET_ERROR_ARGUMENT : TERCET_ERROR_CONTEXT,
              error.message());
}

static int append(tercet_session *handle, uint32_t sequence,
                  const int32_t *tokens, size_t count, Session::Logits wanted,
                  float *logits) {
  if (!handle || (!tokens && count))
    return failNull();
  Session &session = *handle->session;
  if (int status = checkSequence(session, sequence))
    return status;
  if (Error error = session.append(sequence, {tokens, count}, wanted, logits))
    return failAppend(error, count <= session.room(sequence));
  return TERCET_OK;
}

int tercet_eval(tercet_session *session, uint32_t sequence,
                const int32_t *tokens, size_t count, float *logits) {
  if (logits && count == 0)
    return fail(TERCET_ERROR_ARGUMENT, "no token to have logits after");
  return append(session, sequence, tokens, count,
                logits ? Session::Logits::Last : Session::Logits::None, logits);
}

int tercet_eval_all(tercet_session *session, uint32_t sequence,
                    const int32_t *tokens, size_t count, float *logits) {
  if (!logits)
    return failNull();
  return append(session, sequence, tokens, count, Session::Logits::All, logits);
}

int tercet_eval_sample(tercet_session *session, uint32_t sequence,
                       const int32_t *tokens, size_t count,
                       const tercet_sampling *sampling, int32_t *token) {
  if (!token)
    return failNull();
  if (count == 0)
    return fail(TERCET_ERROR_ARGUMENT, "no token to choose a successor of");
  if (int status = append(session, sequence, tokens, count,
                          Session::Logits::Sample, nullptr))
    return status;
  SamplerOptions options;
  if (sampling)
    options = {.temperature = sampling->temperature,
               .topP = sampling->top_p == 0 ? 1 : sampling->top_p,
               .topK = sampling->top_k,
               .seed = sampling->seed,
               .draw = sampling->draw};
  Sampler sampler(options);
  *token = session->session->sample(sampler);
  return TERCET_OK;
}

int tercet_eval_batch(tercet_session *handle, const int32_t *sequences,
                      const int32_t *tokens, size_t count, const int32_t *rows,
                      size_t numRows, float *logits) {
  if (!handle || ((!sequences || !tokens) && count) ||
      ((!rows || !logits) && numRows))
    return failNull();
  Session &session = *handle->session;
  for (size_t i = 0; i < count; ++i)
    if (int status = checkSequence(session, sequences[i]))
      return status;
  for (size_t r = 0; r < numRows; ++r)
    if (rows[r] <= (r ? rows[r - 1] : -1) ||
        static_cast<size_t>(rows[r]) >= count)
      return fail(TERCET_ERROR_ARGUMENT,
                  format("row %zu is token %d: rows are ascending, from 0 to "
                         "below the %zu tokens of the batch",
                         r, rows[r], count));
  Batch batch = {{tokens, count}, {sequences, count}, {rows, numRows}};
  if (Error error = session.append(batch, logits))
    return failAppend(error, session.fits(batch.slots));
  return TERCET_OK;
}

int tercet_get_tokens(const tercet_session *session, uint32_t sequence,
                      int32_t *tokens, size_t capacity, size_t *count) {
  if (!session || (!tokens && capacity) || !count)
    return failNull();
  if (int status = checkSequence(*session->session, sequence))
    return status;
  return copyOut(session->session->tokens(sequence), tokens, capacity, count);
}

int tercet_copy(tercet_session *session, uint32_t from, uint32_t to) {
  if (!session)
    return failNull();
  for (uint32_t sequence : {from, to})
    if (int status = checkSequence(*session->session, sequence))
      return status;
  session->session->copy(from, to);
  return TERCET_OK;
}

int tercet_save(tercet_session *session, uint32_t sequence, const char *path) {
  if (!session || !path)
    return failNull();
  if (int status = checkSequence(*session->session, sequence))
    return status;
  if (Error error = PromptCache::save(path, *session->artifact,
                                      *session->session, sequence))
    return fail(TERCET_ERROR_FILE, error.message());
  return TERCET_OK;
}

int tercet_load(tercet_session *session, uint32_t sequence, const char *path) {
  if (!session || !path)
    return failNull();
  if (int status = checkSequence(*session->session, sequence))
    return status;
  PromptCache cache;
  if (Error error = cache.open(path, *session->artifact))
    return fail(TERCET_ERROR_FILE, error.message());
  size_t length = cache.tokens().size();
  if (length > session->session->context())
    return fail(TERCET_ERROR_CONTEXT,
                format("%s holds %zu tokens and the context is %u", path,
                       length, session->session->context()));
  if (Error error = cache.load(*session->session, sequence, length))
    return fail(TERCET_ERROR_FILE, error.message());
  return TERCET_OK;
}

int tercet_length(const tercet_session *session, uint32_t sequence,
                  uint32_t *length) {
  if (!session || !length)
    return failNull();
  if (int status = checkSequence(*session->session, sequence))
    return status;
  *length = session->session->length(sequence);
  return TERCET_OK;
}

int tercet_truncate(tercet_session *session, uint32_t sequence,
                    uint32_t length) {
  if (!session)
    return failNull();
  if (int status = checkSequence(*session->session, sequence))
    return status;
  if (length > session->session->length(sequence))
    return fail(TERCET_ERROR_ARGUMENT,
                format("cannot cut a sequence of %u tokens to %u",
                       session->session->length(sequence), length));
  session->session->truncate(sequence, length);
  return TERCET_OK;
}
