/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of ChainService and BatchService. */
#include "convert.h"
#include "fault.h"
#include "millrace/v1/batch_service.pb-c.h"
#include "millrace/v1/chain_service.pb-c.h"
#include "stream.h"
#include "wait.h"

#define CHAINS(name, stem) METHOD(ChainService, name, stem)
#define BATCHES(name, stem) METHOD(BatchService, name, stem)

/* ---- chains ---- */

static struct millrace_chain from_chain(const Millrace__V1__Chain *chain) {
  static const Millrace__V1__Chain none = MILLRACE__V1__CHAIN__INIT;
  if (!chain)
    chain = &none;
  return (struct millrace_chain){
      .id = chain->id,
      .state = convert_enum_name(&millrace__v1__chain_state__descriptor, (int)chain->state),
      .job_ids = (const char *const *)chain->job_ids,
      .job_count = chain->n_job_ids,
      .succeeded = chain->succeeded,
      .current_step = chain->current_step,
      .error = convert_from_job_error(chain->error),
      .on_failure_job_id = chain->on_failure_job_id,
      .created_at_ms = convert_from_time(chain->created_at),
      .finished_at_ms = convert_from_time(chain->finished_at),
      .result = convert_from_payload(chain->result),
  };
}

static struct millrace_chain *chain_lid(struct box *box, const Millrace__V1__Chain *message) {
  struct millrace_chain *chain = box_lid(box, sizeof *chain);
  *chain = from_chain(message);
  return chain;
}

enum millrace_code millrace_chain_create(struct millrace_client *client, const char *id, const struct millrace_job_spec *steps,
                                         size_t count, const struct millrace_job_spec *on_failure,
                                         struct millrace_chain **out_chain, struct millrace_error *error) {
  struct box *scratch = box_new();
  Millrace__V1__CreateChainRequest request = MILLRACE__V1__CREATE_CHAIN_REQUEST__INIT;
  request.id = convert_id(scratch, id);
  request.n_steps = count;
  request.steps = convert_specs(scratch, steps, count);
  request.on_failure = convert_spec(scratch, on_failure);
  struct box *box;
  Millrace__V1__CreateChainResponse *response;
  enum millrace_code code = call(client, CHAINS(CreateChain, create_chain), &request, 0, &box, &response, error);
  box_unref(scratch);
  if (code != MILLRACE_OK)
    return code;
  *out_chain = chain_lid(box, response->chain);
  (*out_chain)->existing = response->existing;
  return MILLRACE_OK;
}

enum millrace_code millrace_chain_get(struct millrace_client *client, const char *id, struct millrace_chain **out_chain,
                                      struct millrace_error *error) {
  Millrace__V1__GetChainRequest request = MILLRACE__V1__GET_CHAIN_REQUEST__INIT;
  request.id = convert_text(id);
  struct box *box;
  Millrace__V1__GetChainResponse *response;
  enum millrace_code code = call(client, CHAINS(GetChain, get_chain), &request, 0, &box, &response, error);
  if (code == MILLRACE_OK)
    *out_chain = chain_lid(box, response->chain);
  return code;
}

static bool chain_timed_out(const void *response) {
  return ((const Millrace__V1__WaitChainResponse *)response)->timed_out;
}

enum millrace_code millrace_chain_wait(struct millrace_client *client, const char *id, int64_t timeout_ms,
                                       struct millrace_chain **out_chain, struct millrace_error *error) {
  Millrace__V1__WaitChainRequest request = MILLRACE__V1__WAIT_CHAIN_REQUEST__INIT;
  Google__Protobuf__Duration slice;
  request.id = convert_text(id);
  request.timeout = &slice;
  struct box *box;
  Millrace__V1__WaitChainResponse *response;
  enum millrace_code code =
      wait_call(client, CHAINS(WaitChain, wait_chain), &request, &slice, timeout_ms, chain_timed_out, &box, &response, error);
  if (code != MILLRACE_OK)
    return code;
  *out_chain = chain_lid(box, response->chain);
  (*out_chain)->timed_out = response->timed_out;
  return MILLRACE_OK;
}

enum millrace_code millrace_chain_list(struct millrace_client *client, const struct millrace_page *page,
                                       struct millrace_chain_list **out_list, struct millrace_error *error) {
  Millrace__V1__ListChainsRequest request = MILLRACE__V1__LIST_CHAINS_REQUEST__INIT;
  request.page_size = page ? page->size : 0;
  request.page_token = convert_text(page ? page->token : NULL);
  struct box *box;
  Millrace__V1__ListChainsResponse *response;
  enum millrace_code code = call(client, CHAINS(ListChains, list_chains), &request, 0, &box, &response, error);
  if (code != MILLRACE_OK)
    return code;
  struct millrace_chain_list *list = box_lid(box, sizeof *list);
  struct millrace_chain *chains = box_alloc(box, response->n_chains * sizeof *chains);
  for (size_t i = 0; i < response->n_chains; i++)
    chains[i] = from_chain(response->chains[i]);
  *list = (struct millrace_chain_list){chains, response->n_chains, response->next_page_token};
  *out_list = list;
  return MILLRACE_OK;
}

enum millrace_code millrace_chain_cancel(struct millrace_client *client, const char *id, bool terminate, const char *reason,
                                         struct millrace_chain **out_chain, struct millrace_error *error) {
  Millrace__V1__CancelChainRequest request = MILLRACE__V1__CANCEL_CHAIN_REQUEST__INIT;
  request.id = convert_text(id);
  request.terminate = terminate;
  request.reason = convert_text(reason);
  struct box *box;
  Millrace__V1__CancelChainResponse *response;
  enum millrace_code code = call(client, CHAINS(CancelChain, cancel_chain), &request, 0, &box, &response, error);
  if (code != MILLRACE_OK)
    return code;
  *out_chain = chain_lid(box, response->chain);
  (*out_chain)->accepted = response->accepted;
  return MILLRACE_OK;
}

/* ---- batches ---- */

static struct millrace_batch from_batch(const Millrace__V1__Batch *batch) {
  static const Millrace__V1__Batch none = MILLRACE__V1__BATCH__INIT;
  if (!batch)
    batch = &none;
  return (struct millrace_batch){
      .id = batch->id,
      .state = convert_enum_name(&millrace__v1__batch_state__descriptor, (int)batch->state),
      .description = batch->description,
      .total = batch->total,
      .pending = batch->pending,
      .succeeded = batch->succeeded,
      .failed = batch->failed,
      .cancelled = batch->cancelled,
      .expired = batch->expired,
      .last_chunk = batch->last_chunk,
      .created_at_ms = convert_from_time(batch->created_at),
      .finished_at_ms = convert_from_time(batch->finished_at),
      .on_success_job_id = batch->on_success_job_id,
      .on_complete_job_id = batch->on_complete_job_id,
  };
}

static struct millrace_batch *batch_lid(struct box *box, const Millrace__V1__Batch *message) {
  struct millrace_batch *batch = box_lid(box, sizeof *batch);
  *batch = from_batch(message);
  return batch;
}

enum millrace_code millrace_batch_create(struct millrace_client *client, const struct millrace_batch_spec *spec,
                                         struct millrace_batch **out_batch, struct millrace_error *error) {
  struct box *scratch = box_new();
  Millrace__V1__CreateBatchRequest request = MILLRACE__V1__CREATE_BATCH_REQUEST__INIT;
  request.id = convert_id(scratch, spec->id);
  request.description = convert_text(spec->description);
  request.defaults = convert_spec(scratch, spec->defaults);
  request.on_success = convert_spec(scratch, spec->on_success);
  request.on_complete = convert_spec(scratch, spec->on_complete);
  request.n_items = spec->item_count;
  request.items = convert_specs(scratch, spec->items, spec->item_count);
  request.seal = spec->seal;
  struct box *box;
  Millrace__V1__CreateBatchResponse *response;
  enum millrace_code code = call(client, BATCHES(CreateBatch, create_batch), &request, 0, &box, &response, error);
  box_unref(scratch);
  if (code != MILLRACE_OK)
    return code;
  struct millrace_batch *batch = batch_lid(box, response->batch);
  batch->existing = response->existing;
  size_t answered = response->existing ? 0 : spec->item_count;
  code = convert_from_outcomes(box, response->outcomes, response->n_outcomes, answered, &batch->outcomes, error);
  if (code == MILLRACE_OK)
    *out_batch = batch;
  else
    box_unref(box);
  return code;
}

enum millrace_code millrace_batch_add(struct millrace_client *client, const char *id, uint32_t chunk,
                                      const struct millrace_job_spec *items, size_t count, bool last,
                                      struct millrace_outcomes **out_outcomes, struct millrace_error *error) {
  struct box *scratch = box_new();
  Millrace__V1__AddBatchItemsRequest request = MILLRACE__V1__ADD_BATCH_ITEMS_REQUEST__INIT;
  request.batch_id = convert_text(id);
  request.chunk = chunk;
  request.n_items = count;
  request.items = convert_specs(scratch, items, count);
  request.last = last;
  struct stream *stream = stream_open(client, BATCHES(AddBatchItems, add_batch_items), 0);
  struct box *box;
  Millrace__V1__AddBatchItemsResponse *response = NULL;
  enum millrace_code code = stream_write(stream, &request, error);
  if (code == MILLRACE_OK)
    code = stream_read(stream, &box, &response, error);
  if (code == MILLRACE_OK && !response)
    code = fault_set(error, MILLRACE_UNAVAILABLE, NULL, "the server has ended the stream");
  if (code == MILLRACE_OK && response)
    code = convert_give_outcomes(box, response->outcomes, response->n_outcomes, response->repeated_chunk ? 0 : count,
                                 out_outcomes, error);
  stream_free(stream);
  box_unref(scratch);
  return code;
}

enum millrace_code millrace_batch_seal(struct millrace_client *client, const char *id, struct millrace_batch **out_batch,
                                       struct millrace_error *error) {
  Millrace__V1__SealBatchRequest request = MILLRACE__V1__SEAL_BATCH_REQUEST__INIT;
  request.id = convert_text(id);
  struct box *box;
  Millrace__V1__SealBatchResponse *response;
  enum millrace_code code = call(client, BATCHES(SealBatch, seal_batch), &request, 0, &box, &response, error);
  if (code == MILLRACE_OK)
    *out_batch = batch_lid(box, response->batch);
  return code;
}

enum millrace_code millrace_batch_get(struct millrace_client *client, const char *id, struct millrace_batch **out_batch,
                                      struct millrace_error *error) {
  Millrace__V1__GetBatchRequest request = MILLRACE__V1__GET_BATCH_REQUEST__INIT;
  request.id = convert_text(id);
  struct box *box;
  Millrace__V1__GetBatchResponse *response;
  enum millrace_code code = call(client, BATCHES(GetBatch, get_batch), &request, 0, &box, &response, error);
  if (code == MILLRACE_OK)
    *out_batch = batch_lid(box, response->batch);
  return code;
}

static bool batch_timed_out(const void *response) {
  return ((const Millrace__V1__WaitBatchResponse *)response)->timed_out;
}

enum millrace_code millrace_batch_wait(struct millrace_client *client, const char *id, int64_t timeout_ms,
                                       struct millrace_batch **out_batch, struct millrace_error *error) {
  Millrace__V1__WaitBatchRequest request = MILLRACE__V1__WAIT_BATCH_REQUEST__INIT;
  Google__Protobuf__Duration slice;
  request.id = convert_text(id);
  request.timeout = &slice;
  struct box *box;
  Millrace__V1__WaitBatchResponse *response;
  enum millrace_code code =
      wait_call(client, BATCHES(WaitBatch, wait_batch), &request, &slice, timeout_ms, batch_timed_out, &box, &response, error);
  if (code != MILLRACE_OK)
    return code;
  *out_batch = batch_lid(box, response->batch);
  (*out_batch)->timed_out = response->timed_out;
  return MILLRACE_OK;
}

enum millrace_code millrace_batch_list(struct millrace_client *client, const struct millrace_page *page,
                                       struct millrace_batch_list **out_list, struct millrace_error *error) {
  Millrace__V1__ListBatchesRequest request = MILLRACE__V1__LIST_BATCHES_REQUEST__INIT;
  request.page_size = page ? page->size : 0;
  request.page_token = convert_text(page ? page->token : NULL);
  struct box *box;
  Millrace__V1__ListBatchesResponse *response;
  enum millrace_code code = call(client, BATCHES(ListBatches, list_batches), &request, 0, &box, &response, error);
  if (code != MILLRACE_OK)
    return code;
  struct millrace_batch_list *list = box_lid(box, sizeof *list);
  struct millrace_batch *batches = box_alloc(box, response->n_batches * sizeof *batches);
  for (size_t i = 0; i < response->n_batches; i++)
    batches[i] = from_batch(response->batches[i]);
  *list = (struct millrace_batch_list){batches, response->n_batches, response->next_page_token};
  *out_list = list;
  return MILLRACE_OK;
}

enum millrace_code millrace_batch_cancel(struct millrace_client *client, const char *id, bool terminate, const char *reason,
                                         struct millrace_batch **out_batch, struct millrace_error *error) {
  Millrace__V1__CancelBatchRequest request = MILLRACE__V1__CANCEL_BATCH_REQUEST__INIT;
  request.id = convert_text(id);
  request.terminate = terminate;
  request.reason = convert_text(reason);
  struct box *box;
  Millrace__V1__CancelBatchResponse *response;
  enum millrace_code code = call(client, BATCHES(CancelBatch, cancel_batch), &request, 0, &box, &response, error);
  if (code != MILLRACE_OK)
    return code;
  *out_batch = batch_lid(box, response->batch);
  (*out_batch)->accepted = response->accepted;
  return MILLRACE_OK;
}
