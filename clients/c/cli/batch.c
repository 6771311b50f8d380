/* SPDX-License-Identifier: Apache-2.0 */
/* millrace batch … */
#include <stdio.h>
#include <unistd.h>

#include "cli.h"
#include "stream.h"

#define BATCHES(name, stem) METHOD(BatchService, name, stem)

enum { LOOK_EVERY_MS = 500 };

static struct {
  char *from, *description, *task, *on_success, *on_complete, *timeout, *reason, *batch_id;
  gboolean seal, wait, terminate;
  int limit;
} set = {.limit = 100};

static const char *state_of(const Millrace__V1__Batch *batch) {
  return show_enum(&millrace__v1__batch_state__descriptor, (int)batch->state);
}

static bool has_ended(const Millrace__V1__Batch *batch) {
  return batch->state >= MILLRACE__V1__BATCH_STATE__BATCH_STATE_SUCCEEDED;
}

static void batch_print(struct cli *cli, const Millrace__V1__Batch *batch) {
  if (cli->json) {
    print_json(batch, true);
    return;
  }
  print_field("id", "%s", batch->id);
  print_field("description", "%s", batch->description);
  print_field("state", "%s", state_of(batch));
  print_field("members", "%s", show_number(batch->total));
  print_field("pending", "%s", show_number(batch->pending));
  print_field("succeeded", "%s", show_number(batch->succeeded));
  print_field("failed", "%s", show_number(batch->failed));
  print_field("cancelled", "%s", show_number(batch->cancelled));
  print_field("expired", "%s", show_number(batch->expired));
  print_field("created", "%s", show_time(batch->created_at));
  print_field("finished", "%s", show_time(batch->finished_at));
  print_field("on success", "%s", batch->on_success_job_id);
  print_field("on complete", "%s", batch->on_complete_job_id);
}

static int get_batch(struct cli *cli, const char *id, const Millrace__V1__Batch **out_batch) {
  Millrace__V1__GetBatchRequest request = MILLRACE__V1__GET_BATCH_REQUEST__INIT;
  Millrace__V1__GetBatchResponse *response;
  request.id = (char *)id;
  int code = cli_call(cli, BATCHES(GetBatch, get_batch), &request, &response);
  if (code == CLI_OK)
    *out_batch = response->batch;
  return code;
}

/* On a terminal in short waits, so that the bar moves. */
static int wait_and_show(struct cli *cli, const char *id) {
  int64_t timeout_ms = 0;
  if (!cli_wait_timeout("timeout", set.timeout, &timeout_ms))
    return CLI_USAGE;
  int64_t end_us = timeout_ms ? g_get_monotonic_time() + timeout_ms * 1000 : INT64_MAX;
  for (;;) {
    struct millrace_error error;
    struct millrace_batch *batch;
    int64_t left_ms = timeout_ms ? MAX(1, (end_us - g_get_monotonic_time()) / 1000) : 0;
    if (isatty(STDERR_FILENO))
      left_ms = left_ms ? MIN(left_ms, LOOK_EVERY_MS) : LOOK_EVERY_MS;
    if (millrace_batch_wait(cli->client, id, left_ms, &batch, &error) != MILLRACE_OK) {
      progress_end();
      return cli_explain(&error);
    }
    progress_show("ended", batch->total - batch->pending, batch->total);
    bool goes_on = batch->timed_out && g_get_monotonic_time() < end_us;
    millrace_free(batch);
    if (!goes_on)
      break;
  }
  progress_end();
  const Millrace__V1__Batch *batch;
  int code = get_batch(cli, id, &batch);
  if (code != CLI_OK)
    return code;
  batch_print(cli, batch);
  return !has_ended(batch)                                                  ? CLI_TIMED_OUT
         : batch->state == MILLRACE__V1__BATCH_STATE__BATCH_STATE_SUCCEEDED ? CLI_OK
                                                                            : CLI_NOT_SUCCEEDED;
}

/* ---- adding ---- */

enum { ANSWERS_BEHIND = 4 };

struct load {
  struct cli *cli;
  const char *id;
  struct stream *stream;
  uint32_t chunk;
  unsigned behind;
  uint64_t added, refused;
  uint64_t repeated; /* chunks that the batch had already */
};

static int take_answer(struct load *load) {
  struct millrace_error error;
  struct box *box;
  Millrace__V1__AddBatchItemsResponse *response;
  if (stream_read(load->stream, &box, &response, &error) != MILLRACE_OK)
    return cli_explain(&error);
  if (!response)
    return cli_fail(CLI_FAILED, "the server has ended the stream");
  load->behind--;
  load->added += response->n_outcomes;
  load->repeated += response->repeated_chunk;
  for (size_t i = 0; i < response->n_outcomes; i++)
    if (response->outcomes[i]->error) {
      load->refused++;
      cli_explain_outcome(response->outcomes[i]);
    }
  progress_show("added", load->added - load->refused, 0);
  box_unref(box);
  return CLI_OK;
}

static int send_chunk(void *context, struct box *box, Millrace__V1__JobSpec **specs, size_t count) {
  struct load *load = context;
  struct millrace_error error;
  Millrace__V1__AddBatchItemsRequest request = MILLRACE__V1__ADD_BATCH_ITEMS_REQUEST__INIT;
  for (size_t i = 0; i < count; i++)
    specs[i]->id = convert_id(box, specs[i]->id);
  request.batch_id = (char *)load->id;
  request.chunk = ++load->chunk;
  request.n_items = count;
  request.items = specs;
  if (stream_write(load->stream, &request, &error) != MILLRACE_OK)
    return cli_explain(&error);
  load->behind++;
  return load->behind > ANSWERS_BEHIND ? take_answer(load) : CLI_OK;
}

static int seal(struct cli *cli, const char *id) {
  Millrace__V1__SealBatchRequest request = MILLRACE__V1__SEAL_BATCH_REQUEST__INIT;
  Millrace__V1__SealBatchResponse *response;
  request.id = (char *)id;
  return cli_call(cli, BATCHES(SealBatch, seal_batch), &request, &response);
}

static int add_from_file(struct cli *cli, const char *id, uint32_t last_chunk) {
  struct load load = {.cli = cli, .id = id, .chunk = last_chunk};
  load.stream = stream_open(cli->client, BATCHES(AddBatchItems, add_batch_items), -1);
  int code = spec_load(cli, set.from, send_chunk, &load);
  while (load.behind > 0 && code == CLI_OK)
    code = take_answer(&load);
  progress_end();
  stream_free(load.stream);
  if (!cli->json)
    fprintf(stderr, "%s added, %s refused\n", show_number(load.added - load.refused), show_number(load.refused));
  if (!cli->json && load.repeated > 0)
    fprintf(stderr, "chunks of the file that were there already: %s\n", show_number(load.repeated));
  if (code == CLI_OK && set.seal)
    code = seal(cli, id);
  return code == CLI_OK && load.refused > 0 ? CLI_FAILED : code;
}

static int finish(struct cli *cli, const char *id, int code) {
  if (code != CLI_OK)
    return code;
  if (set.wait)
    return wait_and_show(cli, id);
  const Millrace__V1__Batch *batch;
  if (!cli->json) {
    puts(id);
    return CLI_OK;
  }
  code = get_batch(cli, id, &batch);
  if (code == CLI_OK)
    batch_print(cli, batch);
  return code;
}

static int run_create(struct cli *cli, int argc, char **argv) {
  (void)argc;
  (void)argv;
  Millrace__V1__CreateBatchRequest request = MILLRACE__V1__CREATE_BATCH_REQUEST__INIT;
  Millrace__V1__CreateBatchResponse *response;
  request.id = convert_id(cli->box, set.batch_id);
  request.description = convert_text(set.description);
  if (set.task && !(request.defaults = spec_build(cli, set.task, 0, NULL)))
    return CLI_USAGE;
  if (set.on_success && !(request.on_success = spec_build(cli, set.on_success, 0, NULL)))
    return CLI_USAGE;
  if (set.on_complete && !(request.on_complete = spec_build(cli, set.on_complete, 0, NULL)))
    return CLI_USAGE;
  request.seal = set.seal && !set.from;
  int code = cli_call(cli, BATCHES(CreateBatch, create_batch), &request, &response);
  /* From the first chunk on also when the batch was there: who repeats the command sends the same file again. */
  if (code == CLI_OK && set.from)
    code = add_from_file(cli, request.id, 0);
  return finish(cli, request.id, code);
}

static int run_add(struct cli *cli, int argc, char **argv) {
  (void)argc;
  const Millrace__V1__Batch *batch;
  if (!set.from)
    return cli_fail(CLI_USAGE, "--from FILE names the items: JSON lines, - for standard input");
  int code = get_batch(cli, argv[0], &batch);
  if (code == CLI_OK)
    code = add_from_file(cli, argv[0], batch->last_chunk);
  return finish(cli, argv[0], code);
}

static int run_seal(struct cli *cli, int argc, char **argv) {
  (void)argc;
  return finish(cli, argv[0], seal(cli, argv[0]));
}

static int run_get(struct cli *cli, int argc, char **argv) {
  (void)argc;
  const Millrace__V1__Batch *batch;
  int code = get_batch(cli, argv[0], &batch);
  if (code == CLI_OK)
    batch_print(cli, batch);
  return code;
}

static int run_wait(struct cli *cli, int argc, char **argv) {
  (void)argc;
  return wait_and_show(cli, argv[0]);
}

static int run_list(struct cli *cli, int argc, char **argv) {
  (void)argc;
  (void)argv;
  Millrace__V1__ListBatchesRequest request = MILLRACE__V1__LIST_BATCHES_REQUEST__INIT;
  Millrace__V1__ListBatchesResponse *response;
  uint32_t left = set.limit > 0 ? (uint32_t)set.limit : UINT32_MAX;
  struct table *table = table_new("id,state,members,pending,succeeded,failed,created,description");
  int code;
  do {
    request.page_size = MIN(left, 1000);
    code = cli_call_page(cli, BATCHES(ListBatches, list_batches), &request, &response);
    if (code != CLI_OK)
      break;
    for (size_t i = 0; i < response->n_batches; i++) {
      const Millrace__V1__Batch *batch = response->batches[i];
      if (cli->json)
        print_json(batch, false);
      else
        table_row(table, batch->id, state_of(batch), show_number(batch->total), show_number(batch->pending),
                  show_number(batch->succeeded), show_number(batch->failed), show_age(batch->created_at), batch->description);
    }
    left -= (uint32_t)MIN(response->n_batches, left);
    request.page_token = response->next_page_token;
  } while (*request.page_token && left > 0 && table_print_rows(table));
  table_print(table);
  return code;
}

static int run_cancel(struct cli *cli, int argc, char **argv) {
  (void)argc;
  Millrace__V1__CancelBatchRequest request = MILLRACE__V1__CANCEL_BATCH_REQUEST__INIT;
  Millrace__V1__CancelBatchResponse *response;
  request.id = argv[0];
  request.terminate = set.terminate;
  request.reason = convert_text(set.reason);
  int code = cli_call(cli, BATCHES(CancelBatch, cancel_batch), &request, &response);
  if (code == CLI_OK && cli->json)
    print_json(response, true);
  else if (code == CLI_OK)
    printf("%s  %s%s\n", argv[0], state_of(response->batch),
           response->accepted ? "  (cancelling what has not ended)" : "  (had ended already)");
  return code;
}

#define END                                                                                                                      \
  { NULL, 0, 0, 0, NULL, NULL, NULL }
#define FROM                                                                                                                     \
  { "from", 'f', 0, G_OPTION_ARG_STRING, &set.from, "The items: a file of JSON lines, - for standard input", "FILE" }
#define SEAL                                                                                                                     \
  { "seal", 0, 0, G_OPTION_ARG_NONE, &set.seal, "No more items will come", NULL }
#define WAIT                                                                                                                     \
  {"wait", 'w', 0, G_OPTION_ARG_NONE, &set.wait, "Wait for its end and show it", NULL}, {                                        \
    "wait-timeout", 0, 0, G_OPTION_ARG_STRING, &set.timeout, "But not longer than that", "DURATION"                              \
  }

static const GOptionEntry create_options[] = {
    FROM,
    SEAL,
    WAIT,
    {"batch-id", 0, 0, G_OPTION_ARG_STRING, &set.batch_id,
     "The batch's UUID (default: a fresh one); with the same file, what broke off goes on", "UUID"},
    {"description", 0, 0, G_OPTION_ARG_STRING, &set.description, "For people", "TEXT"},
    {"task", 0, 0, G_OPTION_ARG_STRING, &set.task, "What items that name no task do", "TASK"},
    {"on-success", 0, 0, G_OPTION_ARG_STRING, &set.on_success, "Task created when all members have succeeded", "TASK"},
    {"on-complete", 0, 0, G_OPTION_ARG_STRING, &set.on_complete, "Task created when all members have ended", "TASK"},
    END};
static const GOptionEntry add_options[] = {FROM, SEAL, WAIT, END};
static const GOptionEntry wait_options[] = {{"timeout", 0, 0, G_OPTION_ARG_STRING, &set.timeout,
                                             "Give up after; 0s: only look (default: wait as long as it takes)", "DURATION"},
                                            END};
static const GOptionEntry list_options[] = {
    {"limit", 'n', 0, G_OPTION_ARG_INT, &set.limit, "At most so many, 0: all (default: 100)", "N"}, END};
static const GOptionEntry cancel_options[] = {
    {"terminate", 0, 0, G_OPTION_ARG_NONE, &set.terminate, "Stop running members by force", NULL},
    {"reason", 0, 0, G_OPTION_ARG_STRING, &set.reason, "Kept with the jobs", "TEXT"},
    END};

static const char from_more[] = "A file of JSON lines has an item in each, with the names of the API:\n"
                                "  {\"task\": \"mail\", \"payload\": {\"json\": {\"to\": \"a@example.org\"}}}\n"
                                "The other options fill in what a line leaves out.";

const struct command batch_commands[] = {
    {"batch", "create", NULL, "Create many jobs that are counted together", from_more, create_options, spec_options, 0, 0, false,
     run_create},
    {"batch", "add", "ID", "Add items to a batch", from_more, add_options, spec_options, 1, 1, false, run_add},
    {"batch", "seal", "ID", "Say that no more items will come", NULL, NULL, NULL, 1, 1, false, run_seal},
    {"batch", "get", "ID", "Show a batch", NULL, NULL, NULL, 1, 1, false, run_get},
    {"batch", "wait", "ID", "Wait until a batch has ended, and show it", "Exit code 0 only if all members succeeded.",
     wait_options, NULL, 1, 1, false, run_wait},
    {"batch", "list", NULL, "List batches", NULL, list_options, NULL, 0, 0, false, run_list},
    {"batch", "cancel", "ID", "Seal a batch and cancel its members", NULL, cancel_options, NULL, 1, 1, false, run_cancel},
    {0}};
