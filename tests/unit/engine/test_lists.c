/* SPDX-License-Identifier: Apache-2.0 */
/* Which jobs a filter finds: in lists, in orders for many jobs, in watches. */
#include "harness.h"

#include "millrace/v1/job_service.pb-c.h"
#include "millrace/v1/queue_service.pb-c.h"

#define STATE(name) MILLRACE__V1__JOB_STATE__JOB_STATE_##name
#define LIST(...) list(harness, &(struct query){__VA_ARGS__})

static int set_up(void **state) {
  struct harness *harness = g_new0(struct harness, 1);
  harness_open(harness);
  *state = harness;
  return 0;
}

static int tear_down(void **state) {
  harness_close(*state);
  g_free(*state);
  return 0;
}

/* ---- helpers ---- */

struct recipe {
  char *queue;
  char *task;
  int priority;
  int64_t delay_s;
  char *label; /* value of the label "group" */
  char *concurrency_key;
  size_t payload_bytes;
};

/* The new job's id. */
static const char *create(struct harness *harness, struct recipe recipe) {
  Millrace__V1__JobSpec spec = MILLRACE__V1__JOB_SPEC__INIT;
  Google__Protobuf__Duration delay = GOOGLE__PROTOBUF__DURATION__INIT;
  Millrace__V1__JobSpec__LabelsEntry label = MILLRACE__V1__JOB_SPEC__LABELS_ENTRY__INIT;
  Millrace__V1__JobSpec__LabelsEntry *labels[] = {&label};
  Millrace__V1__ConcurrencyKey concurrency = MILLRACE__V1__CONCURRENCY_KEY__INIT;
  Millrace__V1__Payload payload = MILLRACE__V1__PAYLOAD__INIT;
  Millrace__V1__CreateJobRequest message = MILLRACE__V1__CREATE_JOB_REQUEST__INIT;
  spec.task = recipe.task ? recipe.task : "work";
  spec.queue = recipe.queue ? recipe.queue : (char *)protobuf_c_empty_string;
  spec.priority = (Millrace__V1__JobPriority)recipe.priority;
  if (recipe.delay_s) {
    delay.seconds = recipe.delay_s;
    spec.start_case = MILLRACE__V1__JOB_SPEC__START_DELAY;
    spec.delay = &delay;
  }
  if (recipe.label) {
    label.key = "group";
    label.value = recipe.label;
    spec.n_labels = 1;
    spec.labels = labels;
  }
  if (recipe.concurrency_key) {
    concurrency.key = recipe.concurrency_key;
    concurrency.limit = 1;
    spec.concurrency_key = &concurrency;
  }
  payload.content_case = MILLRACE__V1__PAYLOAD__CONTENT_DATA;
  payload.data = (ProtobufCBinaryData){recipe.payload_bytes, g_malloc0(recipe.payload_bytes + 1)};
  spec.payload = &payload;
  message.job = &spec;
  const Millrace__V1__CreateJobResponse *response = harness_call(harness, "JobService/CreateJob", &message.base);
  g_free(payload.data.data);
  assert_non_null(response);
  return response->job->id;
}

static void create_many(struct harness *harness, struct recipe recipe, int count) {
  for (int i = 0; i < count; i++)
    create(harness, recipe);
}

struct query {
  char *queue;
  char *task;
  int state;
  char *label;
  const char *id;
  uint32_t page_size;
  bool full;
};

struct filter_parts {
  char *queues[1];
  char *tasks[1];
  Millrace__V1__JobState states[1];
  char *ids[1];
  Millrace__V1__JobFilter__LabelsEntry label;
  Millrace__V1__JobFilter__LabelsEntry *labels[1];
};

static void fill(const struct query *query, struct filter_parts *parts, Millrace__V1__JobFilter *out_filter) {
  Millrace__V1__JobFilter filter = MILLRACE__V1__JOB_FILTER__INIT;
  *parts = (struct filter_parts){{query->queue},
                                 {query->task},
                                 {(Millrace__V1__JobState)query->state},
                                 {(char *)query->id},
                                 MILLRACE__V1__JOB_FILTER__LABELS_ENTRY__INIT,
                                 {&parts->label}};
  parts->label.key = "group";
  parts->label.value = query->label;
  filter.n_queues = query->queue != NULL;
  filter.queues = parts->queues;
  filter.n_tasks = query->task != NULL;
  filter.tasks = parts->tasks;
  filter.n_states = query->state != 0;
  filter.states = parts->states;
  filter.n_ids = query->id != NULL;
  filter.ids = parts->ids;
  filter.n_labels = query->label != NULL;
  filter.labels = parts->labels;
  *out_filter = filter;
}

static const Millrace__V1__ListJobsResponse *list_page(struct harness *harness, const struct query *query, const char *token) {
  struct filter_parts parts;
  Millrace__V1__JobFilter filter;
  fill(query, &parts, &filter);
  Millrace__V1__ListJobsRequest message = MILLRACE__V1__LIST_JOBS_REQUEST__INIT;
  message.filter = &filter;
  message.page_size = query->page_size;
  message.page_token = (char *)token;
  message.view = query->full ? MILLRACE__V1__VIEW__VIEW_FULL : MILLRACE__V1__VIEW__VIEW_BASIC;
  return harness_call(harness, "JobService/ListJobs", &message.base);
}

/* Goes through all pages; how many different jobs there are. None comes twice. */
static size_t list(struct harness *harness, const struct query *query) {
  GHashTable *seen = g_hash_table_new(g_str_hash, g_str_equal);
  const char *token = "";
  do {
    const Millrace__V1__ListJobsResponse *page = list_page(harness, query, token);
    assert_non_null(page);
    assert_true(protobuf_c_message_get_packed_size(&page->base) <= 3 << 20);
    assert_true(page->n_jobs <= (query->page_size ? query->page_size : 100));
    for (size_t i = 0; i < page->n_jobs; i++) {
      assert_true(g_hash_table_add(seen, page->jobs[i]->id));
      if (query->state)
        assert_int_equal(page->jobs[i]->state, query->state);
      if (query->queue)
        assert_string_equal(page->jobs[i]->queue, query->queue);
      assert_int_equal(page->jobs[i]->payload != NULL, query->full);
    }
    token = page->next_page_token;
  } while (*token);
  const size_t count = g_hash_table_size(seen);
  g_hash_table_destroy(seen);
  return count;
}

/* ---- lists ---- */

static void finds_by_state_and_queue(void **state) {
  struct harness *harness = *state;
  assert_int_equal(LIST(0), 0);
  create_many(harness, (struct recipe){.queue = "a"}, 5);
  create_many(harness, (struct recipe){.queue = "b"}, 3);
  create_many(harness, (struct recipe){.queue = "b", .delay_s = 3600}, 2);
  assert_int_equal(LIST(0), 10);
  assert_int_equal(LIST(.queue = "a"), 5);
  assert_int_equal(LIST(.queue = "b"), 5);
  assert_int_equal(LIST(.queue = "unknown"), 0);
  assert_int_equal(LIST(.state = STATE(PENDING)), 8);
  assert_int_equal(LIST(.state = STATE(SCHEDULED)), 2);
  assert_int_equal(LIST(.state = STATE(SCHEDULED), .queue = "a"), 0);
  assert_int_equal(LIST(.state = STATE(BLOCKED)), 0);
  assert_int_equal(LIST(.state = STATE(FAILED)), 0);
}

static void finds_by_task_label_and_id(void **state) {
  struct harness *harness = *state;
  create_many(harness, (struct recipe){.queue = "a", .task = "x", .label = "one"}, 4);
  create_many(harness, (struct recipe){.queue = "b", .task = "x", .label = "two"}, 3);
  const char *id = create(harness, (struct recipe){.queue = "b", .task = "y", .label = "one"});
  assert_int_equal(LIST(.task = "x"), 7);
  assert_int_equal(LIST(.task = "x", .state = STATE(PENDING)), 7);
  assert_int_equal(LIST(.task = "x", .queue = "b", .state = STATE(PENDING)), 3);
  assert_int_equal(LIST(.task = "z"), 0);
  assert_int_equal(LIST(.label = "one"), 5);
  assert_int_equal(LIST(.label = "one", .queue = "b"), 1);
  assert_int_equal(LIST(.label = "one", .state = STATE(RUNNING)), 0);
  assert_int_equal(LIST(.label = "on"), 0);
  assert_int_equal(LIST(.id = id), 1);
  assert_int_equal(LIST(.id = id, .queue = "a"), 0);
  assert_int_equal(LIST(.id = "01890000-0000-7000-8000-000000000000"), 0);
}

static void await_running(struct harness *harness, char *queue, size_t count) {
  const gint64 until = g_get_monotonic_time() + 60 * (gint64)G_USEC_PER_SEC;
  while (LIST(.queue = queue, .state = STATE(RUNNING)) != count) {
    assert_true(g_get_monotonic_time() < until);
    g_usleep(1000);
  }
}

static void finds_running_jobs(void **state) {
  struct harness *harness = *state;
  create_many(harness, (struct recipe){.queue = "a", .label = "one"}, 8);
  const char *urgent =
      create(harness, (struct recipe){.queue = "a", .priority = MILLRACE__V1__JOB_PRIORITY__JOB_PRIORITY_CRITICAL});
  create_many(harness, (struct recipe){.queue = "b"}, 2);
  harness_add_worker(harness, "a", 5);
  await_running(harness, "a", 5);
  assert_int_equal(LIST(.state = STATE(RUNNING)), 5);
  assert_int_equal(LIST(.state = STATE(RUNNING), .page_size = 2), 5);
  assert_int_equal(LIST(.queue = "a", .state = STATE(PENDING)), 4);
  assert_int_equal(LIST(.queue = "a"), 9);
  assert_int_equal(LIST(.label = "one", .state = STATE(RUNNING)), 4);
  assert_int_equal(LIST(.label = "one", .state = STATE(PENDING)), 4);
  assert_int_equal(LIST(.id = urgent, .state = STATE(RUNNING)), 1);
  assert_int_equal(LIST(0), 11);
}

static void shows_parked_jobs_as_pending(void **state) {
  struct harness *harness = *state;
  create_many(harness, (struct recipe){.queue = "a", .concurrency_key = "k"}, 6);
  harness_add_worker(harness, "a", 4);
  await_running(harness, "a", 1);
  assert_int_equal(LIST(.queue = "a", .state = STATE(PENDING), .page_size = 2), 5);
  assert_int_equal(LIST(.queue = "a"), 6);
}

static void pages_lose_and_repeat_nothing(void **state) {
  struct harness *harness = *state;
  static const int priorities[] = {1, 5, 8, 10};
  for (int i = 0; i < 400; i++) {
    char queue[] = {(char)('a' + i % 3), 0}, task[] = {(char)('t' + i % 5), 0};
    create(harness, (struct recipe){.queue = queue, .task = task, .priority = priorities[i % 4], .delay_s = i % 7 ? 0 : 60});
  }
  for (uint32_t size = 1; size <= 64; size *= 4) {
    assert_int_equal(LIST(.page_size = size), 400);
    assert_int_equal(LIST(.page_size = size, .state = STATE(PENDING)), 342);
    assert_int_equal(LIST(.page_size = size, .queue = "a") + LIST(.page_size = size, .queue = "b") +
                         LIST(.page_size = size, .queue = "c"),
                     400);
    assert_int_equal(LIST(.page_size = size, .task = "v", .state = STATE(PENDING)) +
                         LIST(.page_size = size, .task = "v", .state = STATE(SCHEDULED)),
                     80);
  }
}

static void refuses_foreign_tokens(void **state) {
  struct harness *harness = *state;
  create_many(harness, (struct recipe){.queue = "a"}, 5);
  const struct query first = {.queue = "a", .page_size = 2}, other = {.queue = "b", .page_size = 2};
  const Millrace__V1__ListJobsResponse *page = list_page(harness, &first, "");
  assert_non_null(page);
  assert_string_not_equal(page->next_page_token, "");
  assert_non_null(list_page(harness, &first, page->next_page_token));
  const char *bad[] = {page->next_page_token, "AAAA", "!", "AAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    assert_null(list_page(harness, &other, bad[i]));
    assert_int_equal(harness->error.status, STATUS_INVALID_ARGUMENT);
    assert_string_equal(harness->error.field, "page_token");
  }
}

/* Whatever stands behind the filter's hash, the pages that follow hold only what the filter asks for. */
static void survives_forged_positions(void **state) {
  struct harness *harness = *state;
  create_many(harness, (struct recipe){.queue = "a"}, 3);
  create_many(harness, (struct recipe){.queue = "b"}, 3);
  const struct query query = {.queue = "a", .page_size = 1};
  const Millrace__V1__ListJobsResponse *page = list_page(harness, &query, "");
  gsize length;
  guchar *bytes = g_base64_decode(page->next_page_token, &length);
  GRand *random = g_rand_new_with_seed(7);
  for (int round = 0; round < 500; round++) {
    guchar forged[64];
    memcpy(forged, bytes, length);
    for (int i = g_rand_int_range(random, 1, 4); i > 0; i--)
      forged[g_rand_int_range(random, 8, (gint32)length)] = (guchar)g_rand_int(random);
    gchar *token = g_base64_encode(forged, (gsize)g_rand_int_range(random, 9, (gint32)length + 1));
    const Millrace__V1__ListJobsResponse *next = list_page(harness, &query, token);
    if (!next)
      assert_string_equal(harness->error.field, "page_token");
    for (size_t i = 0; next && i < next->n_jobs; i++)
      assert_string_equal(next->jobs[i]->queue, "a");
    g_free(token);
  }
  g_rand_free(random);
  g_free(bytes);
}

static void keeps_pages_below_the_response_limit(void **state) {
  struct harness *harness = *state;
  create_many(harness, (struct recipe){.queue = "a", .payload_bytes = 1 << 20}, 7);
  create_many(harness, (struct recipe){.queue = "a", .payload_bytes = 2 << 20}, 2);
  assert_int_equal(LIST(.queue = "a", .full = true), 9);
  const struct query query = {.queue = "a"};
  const Millrace__V1__ListJobsResponse *page = list_page(harness, &query, "");
  assert_int_equal(page->n_jobs, 9);
  assert_string_equal(page->next_page_token, "");
}

/* ---- orders for many ---- */

static const Millrace__V1__CancelJobsResponse *cancel(struct harness *harness, const struct query *query) {
  struct filter_parts parts;
  Millrace__V1__JobFilter filter;
  fill(query, &parts, &filter);
  Millrace__V1__CancelJobsRequest message = MILLRACE__V1__CANCEL_JOBS_REQUEST__INIT;
  message.filter = &filter;
  message.reason = "not wanted";
  return harness_call(harness, "JobService/CancelJobs", &message.base);
}

static const Millrace__V1__RetryJobsResponse *retry(struct harness *harness, const struct query *query) {
  struct filter_parts parts;
  Millrace__V1__JobFilter filter;
  fill(query, &parts, &filter);
  Millrace__V1__RetryJobsRequest message = MILLRACE__V1__RETRY_JOBS_REQUEST__INIT;
  message.filter = &filter;
  return harness_call(harness, "JobService/RetryJobs", &message.base);
}

static void cancels_and_retries_by_filter(void **state) {
  struct harness *harness = *state;
  create_many(harness, (struct recipe){.queue = "a", .label = "one"}, 600);
  create_many(harness, (struct recipe){.queue = "a", .label = "two"}, 3);
  create_many(harness, (struct recipe){.queue = "b", .label = "one", .delay_s = 60}, 20);
  const Millrace__V1__CancelJobsResponse *cancelled = cancel(harness, &(struct query){.label = "one"});
  assert_int_equal(cancelled->cancelled, 620);
  assert_false(cancelled->more);
  assert_int_equal(LIST(.state = STATE(CANCELLED)), 620);
  assert_int_equal(LIST(.state = STATE(PENDING)), 3);
  assert_int_equal(cancel(harness, &(struct query){.label = "one"})->cancelled, 0);
  assert_int_equal(retry(harness, &(struct query){.label = "one"})->retried, 0); /* none is FAILED */
  const Millrace__V1__RetryJobsResponse *retried = retry(harness, &(struct query){.queue = "a", .state = STATE(CANCELLED)});
  assert_int_equal(retried->retried, 600);
  assert_int_equal(retried->refused, 0);
  assert_int_equal(LIST(.queue = "a", .state = STATE(PENDING)), 603);
}

static void cancels_running_jobs_once(void **state) {
  struct harness *harness = *state;
  create_many(harness, (struct recipe){.queue = "a"}, 7);
  harness_add_worker(harness, "a", 4);
  await_running(harness, "a", 4);
  assert_int_equal(cancel(harness, &(struct query){.queue = "a"})->cancelled, 7);
  assert_int_equal(cancel(harness, &(struct query){.queue = "a"})->cancelled, 0);
  assert_int_equal(LIST(.queue = "a", .state = STATE(RUNNING)), 4);
  assert_int_equal(LIST(.queue = "a", .state = STATE(CANCELLED)), 3);
}

static void does_at_most_a_limit_at_once(void **state) {
  struct harness *harness = *state;
  Millrace__V1__JobSpec spec = MILLRACE__V1__JOB_SPEC__INIT;
  Millrace__V1__JobSpec *jobs[1000];
  Millrace__V1__CreateJobsRequest message = MILLRACE__V1__CREATE_JOBS_REQUEST__INIT;
  spec.task = "work";
  for (int i = 0; i < 1000; i++)
    jobs[i] = &spec;
  message.n_jobs = 1000;
  message.jobs = jobs;
  for (int i = 0; i < 10; i++)
    assert_non_null(harness_call(harness, "JobService/CreateJobs", &message.base));
  message.n_jobs = 5;
  assert_non_null(harness_call(harness, "JobService/CreateJobs", &message.base));
  const Millrace__V1__CancelJobsResponse *first = cancel(harness, &(struct query){.task = "work"});
  assert_int_equal(first->cancelled, 10000);
  assert_true(first->more);
  const Millrace__V1__CancelJobsResponse *second = cancel(harness, &(struct query){.task = "work"});
  assert_int_equal(second->cancelled, 5);
  assert_false(second->more);
}

static void purges_what_is_pending(void **state) {
  struct harness *harness = *state;
  create_many(harness, (struct recipe){.queue = "a", .concurrency_key = "k"}, 300);
  create_many(harness, (struct recipe){.queue = "a", .delay_s = 60}, 4);
  create_many(harness, (struct recipe){.queue = "b"}, 5);
  harness_add_worker(harness, "a", 10);
  await_running(harness, "a", 1);
  Millrace__V1__PurgeQueueRequest message = MILLRACE__V1__PURGE_QUEUE_REQUEST__INIT;
  message.name = "a";
  const Millrace__V1__PurgeQueueResponse *purged = harness_call(harness, "QueueService/PurgeQueue", &message.base);
  assert_int_equal(purged->purged, 299);
  assert_int_equal(LIST(.queue = "a", .state = STATE(PENDING)), 0);
  assert_int_equal(LIST(.queue = "a", .state = STATE(CANCELLED)), 299);
  assert_int_equal(LIST(.queue = "a", .state = STATE(RUNNING)), 1);
  assert_int_equal(LIST(.queue = "a", .state = STATE(SCHEDULED)), 4);
  assert_int_equal(LIST(.queue = "b"), 5);
  const struct query query = {.queue = "a", .state = STATE(CANCELLED), .page_size = 1};
  assert_string_equal(list_page(harness, &query, "")->jobs[0]->error->type, "PURGED");
  message.name = "unknown";
  purged = harness_call(harness, "QueueService/PurgeQueue", &message.base);
  assert_int_equal(purged->purged, 0);
}

/* ---- watches ---- */

static void watches_names_that_come_later(void **state) {
  struct harness *harness = *state;
  const char *before = create(harness, (struct recipe){.queue = "a", .label = "one"});
  create(harness, (struct recipe){.queue = "a", .label = "two"});
  struct filter_parts parts;
  Millrace__V1__JobFilter filter;
  fill(&(struct query){.label = "one"}, &parts, &filter);
  Millrace__V1__WatchJobsRequest message = MILLRACE__V1__WATCH_JOBS_REQUEST__INIT;
  message.filter = &filter;
  struct harness_stream *old = harness_stream_open(harness, "JobService/WatchJobs", &message.base);
  const Millrace__V1__WatchJobsResponse *event = harness_stream_next(old);
  assert_string_equal(event->job->id, before);
  event = harness_stream_next(old);
  assert_true(event->initial_done);

  fill(&(struct query){.queue = "later", .task = "new"}, &parts, &filter);
  struct harness_stream *late = harness_stream_open(harness, "JobService/WatchJobs", &message.base);
  event = harness_stream_next(late);
  assert_true(event->initial_done);
  create(harness, (struct recipe){.queue = "later", .task = "other"});
  const char *after = create(harness, (struct recipe){.queue = "later", .task = "new", .label = "one"});
  event = harness_stream_next(late);
  assert_string_equal(event->job->id, after);
  event = harness_stream_next(old);
  assert_string_equal(event->job->id, after);
  harness_stream_close(harness, late);
  harness_stream_close(harness, old);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(finds_by_state_and_queue),      TEST(finds_by_task_label_and_id),           TEST(finds_running_jobs),
      TEST(shows_parked_jobs_as_pending),  TEST(pages_lose_and_repeat_nothing),        TEST(refuses_foreign_tokens),
      TEST(survives_forged_positions),     TEST(keeps_pages_below_the_response_limit), TEST(cancels_and_retries_by_filter),
      TEST(cancels_running_jobs_once),     TEST(does_at_most_a_limit_at_once),         TEST(purges_what_is_pending),
      TEST(watches_names_that_come_later),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
