/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "core/secret.h"
#include "engine/page.h"
#include "engine/queue_methods.h"
#include "engine/queues.h"
#include "engine/sessions.h"
#include "engine/turn.h"
#include "millrace/v1/admin_service.pb-c.h"
#include "store/format.h"

enum { TOKEN_BYTES = 32 };

static bool token_is_right(const struct session *session, const char *token) {
  uint8_t hash[SECRET_HASH_BYTES];
  secret_hash(token, strlen(token), hash);
  return secret_equal(hash, session->token_hash);
}

/* The session, or NULL with the request answered: a wrong token looks like no session. */
static struct session *find(struct turn *turn, struct request *request, const char *text, const char *token) {
  struct id id;
  struct session *session = id_parse(text, &id) ? session_find(turn->engine, &id) : NULL;
  if (session && (!token || token_is_right(session, token)))
    return session;
  reply_failure(turn, request, STATUS_NOT_FOUND, "session_id", "there is no session %s%s; register anew", text,
                token ? " with this token" : "");
  return NULL;
}

static char *token_new(struct turn *turn) {
  uint8_t bytes[TOKEN_BYTES];
  char *token = arena_alloc(turn->arena, 2 * TOKEN_BYTES + 1);
  engine_secret(turn->engine, bytes, sizeof bytes);
  for (size_t i = 0; i < sizeof bytes; i++)
    g_snprintf(token + 2 * i, 3, "%02x", bytes[i]);
  return token;
}

static Millrace__V1__RegisterResponse *welcome(struct turn *turn, const struct session *session, const char *token,
                                               bool resumed) {
  const struct engine_options *options = &turn->engine->options;
  struct arena *arena = turn->arena;
  Millrace__V1__RegisterResponse *response =
      MESSAGE(arena, Millrace__V1__RegisterResponse, millrace__v1__register_response__descriptor);
  response->session_id = id_text(arena, &session->id);
  response->session_token = (char *)token;
  response->resumed = resumed;
  response->scheme = (char *)(options->worker_scheme ? options->worker_scheme : "ws");
  response->host = (char *)(options->worker_host ? options->worker_host : protobuf_c_empty_string);
  response->port = options->worker_port;
  response->jobs_path = arena_printf(arena, "/sessions/%s/jobs", response->session_id);
  response->reports_path = "/reports";
  response->heartbeat_interval = duration_new(arena, options->heartbeat_ms);
  response->silence_timeout = duration_new(arena, MAX(options->session_timeout_ms, 3 * options->heartbeat_ms));
  response->session_timeout = duration_new(arena, options->session_timeout_ms);
  response->limits = MESSAGE(arena, Millrace__V1__WorkerLimits, millrace__v1__worker_limits__descriptor);
  response->limits->result_bytes_max = RESULT_BYTES_MAX;
  response->limits->reports_bytes_max = REPORTS_BYTES_MAX;
  response->limits->fragment_bytes_max = FRAGMENT_BYTES_MAX;
  response->limits->log_line_bytes_max = LOG_LINE_BYTES_MAX;
  response->limits->trace_bytes_max = ERROR_TRACE_BYTES_MAX;
  return response;
}

void register_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__RegisterRequest *message = (const void *)request->message;
  struct engine *engine = turn->engine;
  if (message->resume_session_id[0]) {
    struct session *session = find(turn, request, message->resume_session_id, message->resume_session_token);
    if (session)
      reply(turn, request, welcome(turn, session, message->resume_session_token, true));
    return;
  }
  if (g_hash_table_size(engine->sessions) >= SESSIONS_MAX) {
    reply_failure(turn, request, STATUS_RESOURCE_EXHAUSTED, NULL, "%d workers are registered already, the most that can be",
                  SESSIONS_MAX);
    return;
  }
  for (size_t i = 0; i < message->n_queues; i++) {
    struct error error;
    if (!queue_get(turn, message->queues[i]->name, &error)) {
      reply_error(turn, request, &error);
      return;
    }
  }
  struct id id = id_make_v7(turn->now_ms, 0, engine_random(engine));
  char *token = token_new(turn);
  uint8_t hash[SECRET_HASH_BYTES];
  secret_hash(token, strlen(token), hash);
  struct session *session = session_add(turn, &id, message, hash);
  engine_log(engine, 1, "worker registered", "session=%s queues=%zu tasks=%zu concurrency=%u", id_text(turn->arena, &id),
             message->n_queues, message->n_tasks, message->concurrency);
  reply(turn, request, welcome(turn, session, token, false));
}

void deregister_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__DeregisterRequest *message = (const void *)request->message;
  struct session *session = find(turn, request, message->session_id, message->session_token);
  if (!session)
    return;
  session_leave(turn, session);
  reply(turn, request, MESSAGE(turn->arena, Millrace__V1__DeregisterResponse, millrace__v1__deregister_response__descriptor));
}

static Millrace__V1__Worker *answer(struct turn *turn, const struct session *session) {
  struct arena *arena = turn->arena;
  const Millrace__V1__RegisterRequest *registration = session->registration;
  Millrace__V1__Worker *worker = MESSAGE(arena, Millrace__V1__Worker, millrace__v1__worker__descriptor);
  worker->session_id = id_text(arena, &session->id);
  worker->state = !session->synced ? MILLRACE__V1__WORKER_STATE__WORKER_STATE_DISCONNECTED
                  : session->quiet ? MILLRACE__V1__WORKER_STATE__WORKER_STATE_QUIET
                                   : MILLRACE__V1__WORKER_STATE__WORKER_STATE_ACTIVE;
  /* Packed and read back, since the session may be gone before the answer leaves. */
  size_t bytes = millrace__v1__register_request__get_packed_size(registration);
  uint8_t *packed = arena_alloc(arena, bytes + 1);
  millrace__v1__register_request__pack(registration, packed);
  Millrace__V1__RegisterRequest *copy = millrace__v1__register_request__unpack(arena_protobuf(arena), bytes, packed);
  worker->n_queues = copy->n_queues;
  worker->queues = copy->queues;
  worker->n_tasks = copy->n_tasks;
  worker->tasks = arena_alloc(arena, (copy->n_tasks + 1) * sizeof *worker->tasks);
  for (size_t i = 0; i < copy->n_tasks; i++)
    worker->tasks[i] = copy->tasks[i]->name;
  worker->concurrency = copy->concurrency;
  worker->running = session->live;
  worker->hostname = copy->hostname;
  worker->pid = copy->pid;
  worker->n_labels = copy->n_labels;
  worker->labels = (void *)copy->labels; /* entries of maps all have one form */
  for (size_t i = 0; i < copy->n_labels; i++)
    worker->labels[i]->base.descriptor = &millrace__v1__worker__labels_entry__descriptor;
  worker->sdk = copy->sdk;
  worker->registered_at = timestamp_new(arena, session->registered_ms);
  worker->last_seen_at = timestamp_new(arena, session->last_seen_ms);
  worker->transport = (char *)(session->transport && !session->ends_ms ? session->transport : protobuf_c_empty_string);
  return worker;
}

static bool serves(const struct session *session, const char *queue) {
  if (!*queue)
    return true;
  for (guint i = 0; i < session->subscriptions->len; i++)
    if (strcmp(((struct subscription *)g_ptr_array_index(session->subscriptions, i))->queue->name, queue) == 0)
      return true;
  return false;
}

static int by_id(const void *a, const void *b) {
  return id_compare(&(*(struct session *const *)a)->id, &(*(struct session *const *)b)->id);
}

void list_workers_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__ListWorkersRequest *message = (const void *)request->message;
  struct key from;
  struct error error;
  if (!page_start(message->page_token, &from, &error)) {
    reply_error(turn, request, &error);
    return;
  }
  GPtrArray *all = g_ptr_array_new();
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, turn->engine->sessions);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    const struct session *session = value;
    bool after = from.length == 0 || memcmp(session->id.bytes, from.bytes, MIN(from.length, (size_t)ID_BYTES)) > 0;
    if (after && serves(session, message->queue))
      g_ptr_array_add(all, value);
  }
  g_ptr_array_sort(all, by_id);
  Millrace__V1__ListWorkersResponse *response =
      MESSAGE(turn->arena, Millrace__V1__ListWorkersResponse, millrace__v1__list_workers_response__descriptor);
  size_t most = page_size(message->page_size);
  response->workers = arena_alloc(turn->arena, (MIN(most, all->len) + 1) * sizeof *response->workers);
  size_t bytes = 0;
  while (response->n_workers < MIN(most, all->len) && bytes < RESPONSE_BYTES_MAX / 2) {
    Millrace__V1__Worker *worker = answer(turn, g_ptr_array_index(all, response->n_workers));
    bytes += millrace__v1__worker__get_packed_size(worker);
    response->workers[response->n_workers++] = worker;
  }
  if (response->n_workers < all->len) {
    const struct session *last = g_ptr_array_index(all, response->n_workers - 1);
    response->next_page_token = page_token(turn->arena, (struct slice){last->id.bytes, ID_BYTES});
  }
  g_ptr_array_free(all, TRUE);
  reply(turn, request, response);
}

void quiet_worker_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__QuietWorkerRequest *message = (const void *)request->message;
  struct session *session = find(turn, request, message->session_id, NULL);
  if (!session)
    return;
  for (guint i = 0; i < session->subscriptions->len; i++) {
    const struct subscription *subscription = g_ptr_array_index(session->subscriptions, i);
    if (!reply_unless_granted(turn, request, subscription->queue->name))
      return;
  }
  session_quiet(turn, session, message->drain);
  Millrace__V1__QuietWorkerResponse *response =
      MESSAGE(turn->arena, Millrace__V1__QuietWorkerResponse, millrace__v1__quiet_worker_response__descriptor);
  response->worker = answer(turn, session);
  reply(turn, request, response);
}

/* ---- administration ---- */

void get_server_info_apply(struct turn *turn, struct request *request) {
  struct engine *engine = turn->engine;
  struct arena *arena = turn->arena;
  struct store_statistics store;
  store_statistics(engine->store, &store);
  Millrace__V1__GetServerInfoResponse *response =
      MESSAGE(arena, Millrace__V1__GetServerInfoResponse, millrace__v1__get_server_info_response__descriptor);
  response->version = MILLRACE_VERSION;
  response->durability = (Millrace__V1__Durability)engine->options.durability;
  if (engine->options.durability == DURABILITY_INTERVAL)
    response->durability_interval = duration_new(arena, engine->options.durability_interval_ms);
  response->started_at = timestamp_new(arena, engine->started_wall_ms);
  response->store_format = STORE_FORMAT;
  response->store_backend = (char *)store.backend;
  response->queues = g_hash_table_size(engine->queues_by_name);
  response->sessions = g_hash_table_size(engine->sessions);
  response->jobs_running = g_hash_table_size(engine->running);
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, engine->queues_by_name);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    response->jobs_waiting += queue_length(value);
  response->jobs_waiting -= response->jobs_running;
  response->now = timestamp_new(arena, turn->now_ms);
  reply(turn, request, response);
}
