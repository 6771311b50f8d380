/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/scaler.h"

#include <string.h>
#include <time.h>

#include "keda/externalscaler.pb-c.h"
#include "millrace/v1/queue_service.pb-c.h"
#include "rpc/codec.h"
#include "rpc/scope.h"
#include "rpc/stream.h"

enum {
  ARENA_BYTES_MAX = 64 << 10,
  QUEUES_MAX_ASKED = 100,
  TARGET_DEFAULT = 10, /* as many as a worker runs at a time unless told otherwise */
  TARGET_MAX = 1000 * 1000,
  WATCHES_MAX = 1000,
  WATCH_INTERVAL_S = 1
};

static const char metric[] = "backlog";
static const char queue_path[] = "/millrace.v1.QueueService/GetQueue";

struct scaler {
  const struct method *get_queue;
  GThread *thread;
  pthread_mutex_t lock; /* of what follows, and of the watches' `link`, `asking` */
  pthread_cond_t changed;
  GQueue watches; /* of struct scaling */
  bool closing;
};

/* One call. */
struct scaling {
  struct stream stream;
  struct arena *arena; /* of the request */
  char **queues;       /* asked one after the other */
  size_t next;
  uint64_t work; /* of those asked so far */
  unsigned target;
  void (*told)(struct scaling *scaling, const struct error *error); /* all have answered, or one failed */
  /* StreamIsActive: */
  GList link;
  bool watches;
  bool asking;
  bool was_told; /* and what: */
  bool was_active;
};

static struct scaler *scaler_of(const struct scaling *scaling) {
  return scaling->stream.call.route->server->scaler;
}

/* ---- how much work there is ---- */

static void ask_next(struct scaling *scaling);

static uint64_t work_of(const Millrace__V1__Queue *queue) {
  uint64_t work = queue->counts->running + (queue->paused ? 0 : queue->counts->pending);
  const Google__Protobuf__UInt32Value *limit = queue->settings->max_running;
  if (limit && limit->value > 0)
    work = MIN(work, MAX(limit->value, queue->counts->running));
  return work;
}

static void queue_told(struct request *request, const struct error *error, const ProtobufCMessage *response) {
  struct scaling *scaling = request->context;
  if (error) {
    scaling->told(scaling, error);
    return;
  }
  scaling->work += work_of(((const Millrace__V1__GetQueueResponse *)response)->queue);
  scaling->next++;
  ask_next(scaling);
}

static void ask_next(struct scaling *scaling) {
  const char *name = scaling->queues[scaling->next];
  if (!name) {
    scaling->told(scaling, NULL);
    return;
  }
  g_assert(scaler_of(scaling)->get_queue);
  struct request *request = request_new(scaler_of(scaling)->get_queue, ARENA_BYTES_MAX);
  Millrace__V1__GetQueueRequest *message = arena_alloc(request->arena, sizeof *message);
  millrace__v1__get_queue_request__init(message);
  message->name = arena_strdup(request->arena, name);
  request->message = &message->base;
  request->done = queue_told;
  request->context = scaling;
  const struct grant *grant = scaling->stream.call.grant;
  struct error error;
  if (grant && grant->queues && scope_check(grant, request, &error))
    scaling->told(scaling, &error);
  else
    engine_submit(scaling->stream.call.route->server->engine, request);
  request_unref(request);
}

/* `told` is called once, and gives back the reference that the question has. */
static void ask(struct scaling *scaling) {
  stream_ref(&scaling->stream);
  scaling->next = 0;
  scaling->work = 0;
  ask_next(scaling);
}

/* ---- what is asked ---- */

static const char *find_metadata(const Externalscaler__ScaledObjectRef *ref, const char *key) {
  for (size_t i = 0; i < ref->n_scalermetadata; i++) {
    if (strcmp(ref->scalermetadata[i]->key, key) == 0)
      return ref->scalermetadata[i]->value;
  }
  return NULL;
}

static enum status read_queues(struct scaling *scaling, const Externalscaler__ScaledObjectRef *ref, struct error *error) {
  static const char field[] = "scalerMetadata.queues";
  const char *names = find_metadata(ref, "queues");
  if (!names || names[0] == '\0')
    return error_set(error, STATUS_INVALID_ARGUMENT, field, "the trigger's metadata must name its queues: \"emails,reports\"");
  scaling->queues = g_strsplit(names, ",", QUEUES_MAX_ASKED + 1);
  for (char **name = scaling->queues; *name; name++) {
    if (g_strstrip(*name)[0] == '\0')
      return error_set(error, STATUS_INVALID_ARGUMENT, field, "a name is empty in '%.200s'", names);
    for (char **before = scaling->queues; before < name; before++) {
      if (strcmp(*before, *name) == 0) /* its work would count twice */
        return error_set(error, STATUS_INVALID_ARGUMENT, field, "'%.128s' is named twice", *name);
    }
  }
  if (g_strv_length(scaling->queues) > QUEUES_MAX_ASKED)
    return error_set(error, STATUS_INVALID_ARGUMENT, field, "one trigger can name %d queues at most", QUEUES_MAX_ASKED);
  return STATUS_OK;
}

static enum status read_target(struct scaling *scaling, const Externalscaler__ScaledObjectRef *ref, struct error *error) {
  const char *text = find_metadata(ref, "targetBacklogPerWorker");
  guint64 target = TARGET_DEFAULT;
  if (text && !g_ascii_string_to_unsigned(text, 10, 1, TARGET_MAX, &target, NULL))
    return error_set(error, STATUS_INVALID_ARGUMENT, "scalerMetadata.targetBacklogPerWorker",
                     "'%.100s' is no number from 1 to %d", text, TARGET_MAX);
  scaling->target = (unsigned)target;
  return STATUS_OK;
}

static enum status check_metric(const char *name, struct error *error) {
  if (strcmp(name, metric) == 0)
    return STATUS_OK;
  return error_set(error, STATUS_INVALID_ARGUMENT, "metricName", "there is no metric '%.100s'; there is '%s'", name, metric);
}

static enum status read_request(struct scaling *scaling, const ProtobufCMessageDescriptor *type, struct error *error) {
  static const Externalscaler__ScaledObjectRef nothing = EXTERNALSCALER__SCALED_OBJECT_REF__INIT;
  ProtobufCMessage *message;
  scaling->arena = arena_new(ARENA_BYTES_MAX);
  enum status status = codec_unpack(scaling->stream.call.payload, type, scaling->arena, &message, error);
  if (status)
    return status;
  const Externalscaler__ScaledObjectRef *ref = (const void *)message;
  if (type == &externalscaler__get_metrics_request__descriptor) {
    const Externalscaler__GetMetricsRequest *request = (const void *)message;
    status = check_metric(request->metricname, error);
    ref = request->scaledobjectref ? request->scaledobjectref : &nothing;
  }
  if (!status)
    status = read_queues(scaling, ref, error);
  return status ? status : read_target(scaling, ref, error);
}

/* ---- answers ---- */

static void send_active(struct scaling *scaling, bool active) {
  Externalscaler__IsActiveResponse message = EXTERNALSCALER__IS_ACTIVE_RESPONSE__INIT;
  message.result = active;
  stream_send(&scaling->stream, codec_pack(&message.base));
}

static void tell_active(struct scaling *scaling, const struct error *error) {
  if (!error)
    send_active(scaling, scaling->work > 0);
  stream_end(&scaling->stream, error);
  stream_unref(&scaling->stream);
}

static void tell_value(struct scaling *scaling, const struct error *error) {
  Externalscaler__MetricValue value = EXTERNALSCALER__METRIC_VALUE__INIT;
  Externalscaler__MetricValue *values[] = {&value};
  Externalscaler__GetMetricsResponse message = EXTERNALSCALER__GET_METRICS_RESPONSE__INIT;
  value.metricname = (char *)metric;
  value.metricvalue = (int64_t)MIN(scaling->work, (uint64_t)INT64_MAX);
  value.metricvaluefloat = (double)scaling->work;
  message.metricvalues = values;
  message.n_metricvalues = G_N_ELEMENTS(values);
  if (!error)
    stream_send(&scaling->stream, codec_pack(&message.base));
  stream_end(&scaling->stream, error);
  stream_unref(&scaling->stream);
}

static void send_spec(struct scaling *scaling) {
  Externalscaler__MetricSpec spec = EXTERNALSCALER__METRIC_SPEC__INIT;
  Externalscaler__MetricSpec *specs[] = {&spec};
  Externalscaler__GetMetricSpecResponse message = EXTERNALSCALER__GET_METRIC_SPEC_RESPONSE__INIT;
  spec.metricname = (char *)metric;
  spec.targetsize = scaling->target;
  spec.targetsizefloat = scaling->target;
  message.metricspecs = specs;
  message.n_metricspecs = G_N_ELEMENTS(specs);
  stream_send(&scaling->stream, codec_pack(&message.base));
  stream_end(&scaling->stream, NULL);
}

/* ---- watching ---- */

static void tell_change(struct scaling *scaling, const struct error *error) {
  struct scaler *scaler = scaler_of(scaling);
  bool active = scaling->work > 0;
  if (error) {
    stream_end(&scaling->stream, error);
  } else if (!scaling->was_told || active != scaling->was_active) {
    scaling->was_told = true;
    scaling->was_active = active;
    send_active(scaling, active);
  }
  pthread_mutex_lock(&scaler->lock);
  scaling->asking = false;
  pthread_mutex_unlock(&scaler->lock);
  stream_unref(&scaling->stream);
}

static enum status begin_to_watch(struct scaling *scaling, struct error *error) {
  struct scaler *scaler = scaler_of(scaling);
  enum status status = STATUS_OK;
  pthread_mutex_lock(&scaler->lock);
  if (scaler->watches.length >= WATCHES_MAX) {
    status = error_set(error, STATUS_RESOURCE_EXHAUSTED, NULL, "%d triggers watch already", WATCHES_MAX);
  } else {
    scaling->link.data = scaling;
    scaling->watches = true;
    scaling->asking = true;
    g_queue_push_tail_link(&scaler->watches, &scaling->link);
    pthread_cond_signal(&scaler->changed);
  }
  pthread_mutex_unlock(&scaler->lock);
  return status;
}

/* Those who watch and do not wait for an answer, each with a reference. Called with the lock held. */
static GPtrArray *take_watches(struct scaler *scaler) {
  GPtrArray *taken = g_ptr_array_new();
  for (GList *link = scaler->watches.head; link; link = link->next) {
    struct scaling *scaling = link->data;
    if (!scaling->asking) {
      scaling->asking = true;
      stream_ref(&scaling->stream);
      g_ptr_array_add(taken, scaling);
    }
  }
  return taken;
}

static gpointer watch(gpointer context) {
  struct scaler *scaler = context;
  pthread_mutex_lock(&scaler->lock);
  while (!scaler->closing) {
    if (scaler->watches.length == 0) {
      pthread_cond_wait(&scaler->changed, &scaler->lock);
      continue;
    }
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WATCH_INTERVAL_S;
    pthread_cond_clockwait(&scaler->changed, &scaler->lock, CLOCK_MONOTONIC, &until);
    GPtrArray *taken = take_watches(scaler);
    pthread_mutex_unlock(&scaler->lock);
    for (guint i = 0; i < taken->len; i++) {
      struct scaling *scaling = taken->pdata[i];
      ask(scaling);
      stream_unref(&scaling->stream);
    }
    g_ptr_array_free(taken, TRUE);
    pthread_mutex_lock(&scaler->lock);
  }
  pthread_mutex_unlock(&scaler->lock);
  return NULL;
}

/* ---- calls ---- */

static void scaling_left(struct stream *stream) {
  struct scaling *scaling = (struct scaling *)stream;
  struct scaler *scaler = scaler_of(scaling);
  if (scaling->watches) {
    pthread_mutex_lock(&scaler->lock);
    g_queue_unlink(&scaler->watches, &scaling->link);
    pthread_mutex_unlock(&scaler->lock);
  }
  stream_unref(stream);
}

static void scaling_freed(struct stream *stream) {
  struct scaling *scaling = (struct scaling *)stream;
  g_strfreev(scaling->queues);
  arena_free(scaling->arena);
}

static const struct stream_events events = {.left = scaling_left, .freed = scaling_freed};

/* Opens the call. False: it has been answered with what is wrong. */
static bool open_scaling(struct call *call, const ProtobufCMessageDescriptor *type, const struct error *refused) {
  struct scaling *scaling = (struct scaling *)call;
  struct error error;
  if (!refused && read_request(scaling, type, &error))
    refused = &error;
  stream_open(&scaling->stream, &events);
  if (refused)
    stream_end(&scaling->stream, refused);
  return !refused;
}

static void is_active(struct call *call, const struct error *refused) {
  struct scaling *scaling = (struct scaling *)call;
  scaling->told = tell_active;
  if (open_scaling(call, &externalscaler__scaled_object_ref__descriptor, refused))
    ask(scaling);
}

static void stream_is_active(struct call *call, const struct error *refused) {
  struct scaling *scaling = (struct scaling *)call;
  struct error error;
  scaling->told = tell_change;
  if (!open_scaling(call, &externalscaler__scaled_object_ref__descriptor, refused))
    return;
  if (begin_to_watch(scaling, &error))
    stream_end(&scaling->stream, &error);
  else
    ask(scaling);
}

static void get_metric_spec(struct call *call, const struct error *refused) {
  if (open_scaling(call, &externalscaler__scaled_object_ref__descriptor, refused))
    send_spec((struct scaling *)call);
}

static void get_metrics(struct call *call, const struct error *refused) {
  struct scaling *scaling = (struct scaling *)call;
  scaling->told = tell_value;
  if (open_scaling(call, &externalscaler__get_metrics_request__descriptor, refused))
    ask(scaling);
}

void scaler_routes(struct route *routes) {
  static const struct {
    const char *path;
    void (*accept)(struct call *call, const struct error *refused);
  } paths[SCALER_ROUTES] = {{"/externalscaler.ExternalScaler/IsActive", is_active},
                            {"/externalscaler.ExternalScaler/StreamIsActive", stream_is_active},
                            {"/externalscaler.ExternalScaler/GetMetricSpec", get_metric_spec},
                            {"/externalscaler.ExternalScaler/GetMetrics", get_metrics}};
  for (size_t i = 0; i < SCALER_ROUTES; i++)
    routes[i] = (struct route){.path = paths[i].path,
                               .role = ROLE_SCALER,
                               .payload = true,
                               .call_bytes = sizeof(struct scaling),
                               .accept = paths[i].accept};
}

/* ---- life ---- */

struct scaler *scaler_new(void) {
  struct scaler *scaler = g_new0(struct scaler, 1);
  for (size_t i = 0; i < method_count && !scaler->get_queue; i++) {
    if (strcmp(methods[i].path, queue_path) == 0)
      scaler->get_queue = &methods[i];
  }
  pthread_mutex_init(&scaler->lock, NULL);
  pthread_cond_init(&scaler->changed, NULL);
  g_queue_init(&scaler->watches);
  scaler->thread = g_thread_new("scaler", watch, scaler);
  return scaler;
}

void scaler_free(struct scaler *scaler) {
  if (!scaler)
    return;
  pthread_mutex_lock(&scaler->lock);
  scaler->closing = true;
  pthread_cond_signal(&scaler->changed);
  pthread_mutex_unlock(&scaler->lock);
  g_thread_join(scaler->thread);
  pthread_cond_destroy(&scaler->changed);
  pthread_mutex_destroy(&scaler->lock);
  g_free(scaler);
}
