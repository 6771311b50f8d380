/* SPDX-License-Identifier: Apache-2.0 */
#include "client.h"

#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <string.h>
#include <unistd.h>

#include "call.h"
#include "fault.h"
#include "service_config.h"

enum {
  MESSAGE_BYTES_MAX = 8 * 1024 * 1024,
  RECONNECT_FIRST_MS = 100,
  RECONNECT_LAST_MS = 3000,
  CONNECT_MS = 10000,
  PING_AFTER_MS = 20000,
  PING_TIMEOUT_MS = 10000,
};

#ifdef __SANITIZE_THREAD__
/* The library between is not instrumented: tell the sanitizer that a completion follows its start. */
extern void __tsan_acquire(void *address);
extern void __tsan_release(void *address);
#define HAND_OVER(tag) __tsan_release(tag)
#define TAKE_OVER(tag) __tsan_acquire(tag)
#else
#define HAND_OVER(tag) ((void)(tag))
#define TAKE_OVER(tag) ((void)(tag))
#endif

static void *poll_queue(void *data) {
  grpc_completion_queue *queue = data;
  for (;;) {
    grpc_event event = grpc_completion_queue_next(queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    if (event.type == GRPC_QUEUE_SHUTDOWN)
      return NULL;
    TAKE_OVER(event.tag);
    struct operation *operation = event.tag;
    operation->completed(operation, event.success != 0);
  }
}

static grpc_arg integer_argument(const char *key, int value) {
  return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)key, .value.integer = value};
}

/* A unix socket never leaves the machine: its server does not encrypt it. */
static grpc_channel_credentials *credentials_new(const char *address, const struct tls *tls) {
  if (!tls->ca || g_str_has_prefix(address, "unix:"))
    return grpc_insecure_credentials_create();
  grpc_ssl_pem_key_cert_pair pair = {.private_key = tls->key, .cert_chain = tls->certificate};
  return grpc_ssl_credentials_create(tls->ca, tls->key ? &pair : NULL, NULL, NULL);
}

static grpc_channel *open_channel(const char *address, const struct tls *tls) {
  grpc_arg list[] = {
      integer_argument(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, MESSAGE_BYTES_MAX),
      integer_argument(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, RECONNECT_FIRST_MS),
      /* For this gRPC it is how long an attempt to connect may take, whatever its name says. */
      integer_argument(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, CONNECT_MS),
      integer_argument(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, RECONNECT_LAST_MS),
      /* A peer or a path that has died without a word would otherwise be waited for as long as TCP likes. */
      integer_argument(GRPC_ARG_KEEPALIVE_TIME_MS, PING_AFTER_MS),
      integer_argument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, PING_TIMEOUT_MS),
      integer_argument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0), /* a long wait has none */
      /* The largest request is 4 MiB; what is not kept can't be sent again. */
      integer_argument(GRPC_ARG_PER_RPC_RETRY_BUFFER_SIZE, MESSAGE_BYTES_MAX),
      /* Each client has a connection of its own, as its owner expects. */
      integer_argument(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1),
      {.type = GRPC_ARG_STRING, .key = (char *)GRPC_ARG_SERVICE_CONFIG, .value.string = (char *)service_config},
      {.type = GRPC_ARG_STRING,
       .key = (char *)GRPC_ARG_PRIMARY_USER_AGENT_STRING,
       .value.string = (char *)"millrace-c/" MILLRACE_VERSION},
  };
  grpc_channel_args arguments = {.num_args = G_N_ELEMENTS(list), .args = list};
  grpc_channel_credentials *credentials = credentials_new(address, tls);
  grpc_channel *channel = grpc_channel_create(address, credentials, &arguments);
  grpc_channel_credentials_release(credentials);
  return channel;
}

static bool address_is_plausible(const char *address) {
  if (g_str_has_prefix(address, "unix:"))
    return address[strlen("unix:")] != '\0';
  const char *colon = strrchr(address, ':');
  guint64 port = 0;
  return colon && colon > address && g_ascii_string_to_unsigned(colon + 1, 10, 1, 65535, &port, NULL);
}

enum millrace_code millrace_client_new(const struct millrace_client_options *options, struct millrace_client **out_client,
                                       struct millrace_error *error) {
  static const struct millrace_client_options none;
  if (!options)
    options = &none;
  const char *address = options->address && *options->address ? options->address : g_getenv("MILLRACE_ADDRESS");
  if (!address || !*address)
    address = "127.0.0.1:7070";
  if (!address_is_plausible(address))
    return fault_set(error, MILLRACE_INVALID_ARGUMENT, "address",
                     "'%s' is not an address: host:port or unix:/path (MILLRACE_ADDRESS)", address);
  g_autofree char *token = NULL;
  struct tls tls;
  enum millrace_code code = token_read(options, &token, error);
  if (code != MILLRACE_OK)
    return code;
  if (token && !grpc_header_nonbin_value_is_legal(grpc_slice_from_static_string(token)))
    return fault_set(error, MILLRACE_INVALID_ARGUMENT, "token",
                     "the token (MILLRACE_TOKEN) has characters that no header can carry");
  code = tls_read(options, &tls, error);
  if (code != MILLRACE_OK)
    return code;
  grpc_init();
  struct millrace_client *client = g_new0(struct millrace_client, 1);
  client->pid = getpid();
  client->address = g_strdup(address);
  client->tls = tls;
  client->has_token = token != NULL;
  g_autofree char *authorization = g_strconcat("Bearer ", token ? token : "", NULL);
  client->authorization = grpc_slice_from_copied_string(authorization);
  client->timeout_ms = options->timeout_ms > 0 ? options->timeout_ms : 30000;
  client->coalescer = options->without_coalescing ? NULL : coalescer_new(client, client->timeout_ms);
  pthread_mutex_init(&client->lock, NULL);
  pthread_cond_init(&client->idle, NULL);
  g_queue_init(&client->live);
  client->channel = open_channel(address, &tls);
  client->queue = grpc_completion_queue_create_for_next(NULL);
  if (pthread_create(&client->poller, NULL, poll_queue, client->queue))
    g_error("no thread left for a client");
  *out_client = client;
  return MILLRACE_OK;
}

void millrace_client_free(struct millrace_client *client) {
  if (!client || client_check_process(client, NULL) != MILLRACE_OK)
    return;
  pthread_mutex_lock(&client->lock);
  client->closing = true;
  for (GList *link = client->live.head; link; link = link->next)
    grpc_call_cancel(((struct live_call *)link->data)->call, NULL);
  while (!g_queue_is_empty(&client->live))
    pthread_cond_wait(&client->idle, &client->lock);
  pthread_mutex_unlock(&client->lock);
  grpc_completion_queue_shutdown(client->queue);
  pthread_join(client->poller, NULL);
  coalescer_free(client->coalescer);
  grpc_completion_queue_destroy(client->queue);
  grpc_channel_destroy(client->channel);
  pthread_mutex_destroy(&client->lock);
  pthread_cond_destroy(&client->idle);
  g_free(client->address);
  tls_fini(&client->tls);
  grpc_slice_unref(client->authorization);
  g_free(client);
  grpc_shutdown_blocking();
}

enum millrace_code client_check_process(const struct millrace_client *client, struct millrace_error *error) {
  if (client->pid == getpid())
    return MILLRACE_OK;
  return fault_set(error, MILLRACE_FAILED_PRECONDITION, NULL,
                   "the client was made before this process forked from its parent: make a new one");
}

const char *millrace_client_address(const struct millrace_client *client) {
  return client->address;
}

struct coalescer *client_coalescer(const struct millrace_client *client) {
  return client->coalescer;
}

const struct tls *client_tls(const struct millrace_client *client) {
  return &client->tls;
}

char *client_server_name(const struct millrace_client *client) {
  if (g_str_has_prefix(client->address, "unix:"))
    return g_strdup("localhost");
  const char *start = client->address + (client->address[0] == '[' ? 1 : 0);
  return g_strndup(start, strcspn(start, client->address[0] == '[' ? "]" : ":"));
}

char *client_dialled_host(const struct millrace_client *client) {
  if (g_str_has_prefix(client->address, "unix:") || g_str_has_prefix(client->address, "localhost:"))
    return g_strdup("127.0.0.1");
  return g_strndup(client->address, (gsize)(strrchr(client->address, ':') - client->address));
}

void client_begin(struct millrace_client *client, const char *path, int64_t timeout_ms, struct live_call *out_live) {
  gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_REALTIME);
  if (timeout_ms == 0)
    timeout_ms = client->timeout_ms;
  if (timeout_ms > 0)
    deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(timeout_ms, GPR_TIMESPAN));
  out_live->call = grpc_channel_create_call(client->channel, NULL, GRPC_PROPAGATE_DEFAULTS, client->queue,
                                            grpc_slice_from_static_string(path), NULL, deadline, NULL);
  out_live->link = (GList){.data = out_live};
  pthread_mutex_lock(&client->lock);
  g_queue_push_tail_link(&client->live, &out_live->link);
  if (client->closing)
    grpc_call_cancel(out_live->call, NULL);
  pthread_mutex_unlock(&client->lock);
}

void client_end(struct millrace_client *client, struct live_call *live) {
  /* First out of the list, so that millrace_client_free does not cancel a call that is being given up. */
  pthread_mutex_lock(&client->lock);
  g_queue_unlink(&client->live, &live->link);
  if (client->closing && g_queue_is_empty(&client->live))
    pthread_cond_broadcast(&client->idle);
  pthread_mutex_unlock(&client->lock);
  grpc_call_unref(live->call);
}

void client_start(const struct live_call *live, const grpc_op *ops, size_t count, struct operation *operation) {
  HAND_OVER(operation);
  grpc_call_error problem = grpc_call_start_batch(live->call, ops, count, operation, NULL);
  g_assert(problem == GRPC_CALL_OK);
}

size_t client_metadata(const struct millrace_client *client, grpc_metadata *out_entry) {
  if (!client->has_token)
    return 0;
  *out_entry = (grpc_metadata){.key = grpc_slice_from_static_string("authorization"), .value = client->authorization};
  return 1;
}
