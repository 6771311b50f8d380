/* SPDX-License-Identifier: Apache-2.0 */
/* millrace chain … */
#include <stdio.h>

#include "cli.h"

#define CHAINS(name, stem) METHOD(ChainService, name, stem)

static struct {
  char *from, *on_failure, *timeout, *reason, *chain_id;
  gboolean wait, terminate, no_previous_result;
  int limit;
} set = {.limit = 100};

static const char *state_of(const Millrace__V1__Chain *chain) {
  return show_enum(&millrace__v1__chain_state__descriptor, (int)chain->state);
}

static void chain_print(struct cli *cli, const Millrace__V1__Chain *chain) {
  if (cli->json) {
    print_json(chain, true);
    return;
  }
  print_field("id", "%s", chain->id);
  print_field("state", "%s", state_of(chain));
  print_field("steps", "%u of %zu succeeded", chain->succeeded, chain->n_job_ids);
  print_field("created", "%s", show_time(chain->created_at));
  print_field("finished", "%s", show_time(chain->finished_at));
  if (chain->error)
    print_field("error", "step %u: %s: %s", chain->current_step, chain->error->type, chain->error->message);
  print_field("on failure", "%s", chain->on_failure_job_id);
  print_payload("result", chain->result);
  for (size_t i = 0; i < chain->n_job_ids; i++)
    print_field(i == 0 ? "jobs" : " ", "%s", chain->job_ids[i]);
}

static int wait_and_show(struct cli *cli, const char *id) {
  int64_t timeout_ms = 0;
  struct millrace_error error;
  struct millrace_chain *chain;
  if (!cli_wait_timeout("timeout", set.timeout, &timeout_ms))
    return CLI_USAGE;
  if (millrace_chain_wait(cli->client, id, timeout_ms, &chain, &error) != MILLRACE_OK)
    return cli_explain(&error);
  int code = chain->timed_out ? CLI_TIMED_OUT : strcmp(chain->state, "succeeded") == 0 ? CLI_OK : CLI_NOT_SUCCEEDED;
  millrace_free(chain);
  Millrace__V1__GetChainRequest request = MILLRACE__V1__GET_CHAIN_REQUEST__INIT;
  Millrace__V1__GetChainResponse *response;
  request.id = (char *)id;
  int answer = cli_call(cli, CHAINS(GetChain, get_chain), &request, &response);
  if (answer != CLI_OK)
    return answer;
  chain_print(cli, response->chain);
  return code;
}

struct steps {
  GPtrArray *list;
  struct box *box;
};

/* The specs of a chunk go away with it: keep copies. */
static int keep_steps(void *context, struct box *box, Millrace__V1__JobSpec **specs, size_t count) {
  struct steps *steps = context;
  (void)box;
  for (size_t i = 0; i < count; i++) {
    size_t bytes = millrace__v1__job_spec__get_packed_size(specs[i]);
    g_autofree uint8_t *packed = g_malloc(bytes);
    millrace__v1__job_spec__pack(specs[i], packed);
    g_ptr_array_add(steps->list, box_unpack(steps->box, &millrace__v1__job_spec__descriptor, packed, bytes));
  }
  return CLI_OK;
}

/* "fetch url=… then resize width:=300 then publish" */
static int steps_from_words(struct cli *cli, GPtrArray *list, int argc, char **argv) {
  for (int i = 0; i < argc;) {
    int end = i;
    while (end < argc && strcmp(argv[end], "then") != 0)
      end++;
    if (end == i)
      return cli_fail(CLI_USAGE, "a step is missing before or after 'then'");
    Millrace__V1__JobSpec *spec = spec_build(cli, argv[i], end - i - 1, argv + i + 1);
    if (!spec)
      return CLI_USAGE;
    spec->wants_previous_result = spec->wants_previous_result || (list->len > 0 && !set.no_previous_result);
    g_ptr_array_add(list, spec);
    i = end + 1;
    if (end < argc && i == argc)
      return cli_fail(CLI_USAGE, "a step is missing after 'then'");
  }
  return list->len > 0 ? CLI_OK : cli_fail(CLI_USAGE, "usage: millrace chain create TASK [KEY=VALUE…] [then TASK …]…");
}

static int run_create(struct cli *cli, int argc, char **argv) {
  struct steps steps = {g_ptr_array_new(), cli->box};
  int code = set.from ? spec_load(cli, set.from, keep_steps, &steps) : steps_from_words(cli, steps.list, argc, argv);
  Millrace__V1__CreateChainRequest request = MILLRACE__V1__CREATE_CHAIN_REQUEST__INIT;
  Millrace__V1__CreateChainResponse *response = NULL;
  if (code == CLI_OK && set.on_failure) {
    request.on_failure = spec_build(cli, set.on_failure, 0, NULL);
    if (request.on_failure)
      request.on_failure->wants_previous_result = true;
    else
      code = CLI_USAGE;
  }
  request.id = convert_id(cli->box, set.chain_id);
  request.n_steps = steps.list->len;
  request.steps = (Millrace__V1__JobSpec **)steps.list->pdata;
  if (code == CLI_OK)
    code = cli_call(cli, CHAINS(CreateChain, create_chain), &request, &response);
  g_ptr_array_unref(steps.list);
  if (code != CLI_OK)
    return code;
  if (set.wait)
    return wait_and_show(cli, response->chain->id);
  if (cli->json)
    print_json(response, true);
  else
    puts(response->chain->id);
  return CLI_OK;
}

static int run_get(struct cli *cli, int argc, char **argv) {
  (void)argc;
  Millrace__V1__GetChainRequest request = MILLRACE__V1__GET_CHAIN_REQUEST__INIT;
  Millrace__V1__GetChainResponse *response;
  request.id = argv[0];
  int code = cli_call(cli, CHAINS(GetChain, get_chain), &request, &response);
  if (code == CLI_OK)
    chain_print(cli, response->chain);
  return code;
}

static int run_wait(struct cli *cli, int argc, char **argv) {
  (void)argc;
  return wait_and_show(cli, argv[0]);
}

static int run_list(struct cli *cli, int argc, char **argv) {
  (void)argc;
  (void)argv;
  Millrace__V1__ListChainsRequest request = MILLRACE__V1__LIST_CHAINS_REQUEST__INIT;
  Millrace__V1__ListChainsResponse *response;
  uint32_t left = set.limit > 0 ? (uint32_t)set.limit : UINT32_MAX;
  struct table *table = table_new("id,state,succeeded,created,finished");
  int code;
  do {
    request.page_size = MIN(left, 1000);
    code = cli_call_page(cli, CHAINS(ListChains, list_chains), &request, &response);
    if (code != CLI_OK)
      break;
    for (size_t i = 0; i < response->n_chains; i++) {
      const Millrace__V1__Chain *chain = response->chains[i];
      char steps[32];
      g_snprintf(steps, sizeof steps, "%u of %zu", chain->succeeded, chain->n_job_ids);
      if (cli->json)
        print_json(chain, false);
      else
        table_row(table, chain->id, state_of(chain), steps, show_age(chain->created_at), show_age(chain->finished_at));
    }
    left -= (uint32_t)MIN(response->n_chains, left);
    request.page_token = response->next_page_token;
  } while (*request.page_token && left > 0 && table_print_rows(table));
  table_print(table);
  return code;
}

static int run_cancel(struct cli *cli, int argc, char **argv) {
  (void)argc;
  Millrace__V1__CancelChainRequest request = MILLRACE__V1__CANCEL_CHAIN_REQUEST__INIT;
  Millrace__V1__CancelChainResponse *response;
  request.id = argv[0];
  request.terminate = set.terminate;
  request.reason = convert_text(set.reason);
  int code = cli_call(cli, CHAINS(CancelChain, cancel_chain), &request, &response);
  if (code == CLI_OK && cli->json)
    print_json(response, true);
  else if (code == CLI_OK)
    printf("%s  %s%s\n", argv[0], state_of(response->chain),
           response->accepted ? "  (cancelling what has not ended)" : "  (had ended already)");
  return code;
}

#define END                                                                                                                      \
  { NULL, 0, 0, 0, NULL, NULL, NULL }
static const GOptionEntry create_options[] = {
    {"from", 'f', 0, G_OPTION_ARG_STRING, &set.from, "The steps: a file of JSON lines, - for standard input", "FILE"},
    {"on-failure", 0, 0, G_OPTION_ARG_STRING, &set.on_failure, "Task created once when a step does not succeed", "TASK"},
    {"chain-id", 0, 0, G_OPTION_ARG_STRING, &set.chain_id, "The chain's UUID (default: a fresh one)", "UUID"},
    {"no-previous-result", 0, 0, G_OPTION_ARG_NONE, &set.no_previous_result, "Don't hand results to the next step", NULL},
    {"wait", 'w', 0, G_OPTION_ARG_NONE, &set.wait, "Wait for its end and show it", NULL},
    {"wait-timeout", 0, 0, G_OPTION_ARG_STRING, &set.timeout, "But not longer than that", "DURATION"},
    END};
static const GOptionEntry wait_options[] = {{"timeout", 0, 0, G_OPTION_ARG_STRING, &set.timeout,
                                             "Give up after; 0s: only look (default: wait as long as it takes)", "DURATION"},
                                            END};
static const GOptionEntry list_options[] = {
    {"limit", 'n', 0, G_OPTION_ARG_INT, &set.limit, "At most so many, 0: all (default: 100)", "N"}, END};
static const GOptionEntry cancel_options[] = {
    {"terminate", 0, 0, G_OPTION_ARG_NONE, &set.terminate, "Stop the running step by force", NULL},
    {"reason", 0, 0, G_OPTION_ARG_STRING, &set.reason, "Kept with the jobs", "TEXT"},
    END};

const struct command chain_commands[] = {
    {"chain", "create", "TASK [KEY=VALUE…] [then TASK …]…", "Create jobs that run one after the other",
     "The other options apply to each step. Each step gets the result of the one before:\n"
     "  millrace chain create reserve order:=17 then charge amount:=2999 then ship --on-failure refund",
     create_options, spec_options, 0, -1, false, run_create},
    {"chain", "get", "ID", "Show a chain", NULL, NULL, NULL, 1, 1, false, run_get},
    {"chain", "wait", "ID", "Wait until a chain has ended, and show it", "Exit code 0 only if it succeeded.", wait_options, NULL,
     1, 1, false, run_wait},
    {"chain", "list", NULL, "List chains", NULL, list_options, NULL, 0, 0, false, run_list},
    {"chain", "cancel", "ID", "Cancel the steps that have not ended", NULL, cancel_options, NULL, 1, 1, false, run_cancel},
    {0}};
