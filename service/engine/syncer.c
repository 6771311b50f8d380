/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/syncer.h"

#include <glib.h>
#include <pthread.h>

#include "engine/mailbox.h"

/* What may wait to be let out before the engine waits, too: answers may be a thousand times the size of their requests. */
enum { HELD_BYTES_MAX = 64 << 20 };

struct syncer {
  struct store *store;
  struct transport transport;
  enum durability durability;
  int64_t interval_ms;
  void (*failed)(void *context, const struct error *error);
  void *callback_context;
  pthread_mutex_t mutex;
  pthread_cond_t work;
  struct release *first; /* submitted, not yet taken */
  struct release **end;
  size_t held_bytes; /* of all that is not out */
  pthread_cond_t room;
  bool busy; /* somebody syncs or lets out */
  bool stopping;
  bool failed_already;
  GThread *thread;
  uint64_t synced;               /* by whoever is busy */
  uint64_t written;              /* by whoever is busy: the last ticket handed in */
  void (*all_done)(void *group); /* by whoever is busy: of the answers let out */
  void *group;
  struct store_view *view;
  struct histogram sync_us; /* under the mutex */
};

struct release *release_new(void) {
  struct release *release = g_new0(struct release, 1);
  release->arena = arena_new(0);
  return release;
}

struct release_item *release_add(struct release *release, enum release_kind kind) {
  if (release->count == release->capacity) {
    release->capacity = release->capacity ? 2 * release->capacity : 64;
    release->items = g_renew(struct release_item, release->items, release->capacity);
  }
  struct release_item *item = &release->items[release->count++];
  *item = (struct release_item){.kind = kind};
  return item;
}

void release_call(struct release *release, void (*call)(void *data), void *data) {
  struct release_item *item = release_add(release, RELEASE_CALL);
  item->call = call;
  item->data = data;
}

void release_free(struct release *release) {
  for (size_t i = 0; i < release->count; i++) {
    if (release->items[i].call)
      release->items[i].call(release->items[i].data);
    g_free(release->items[i].bytes);
    if (release->items[i].request)
      request_unref(release->items[i].request);
  }
  store_view_unref(release->view);
  arena_free(release->arena);
  g_free(release->items);
  g_free(release);
}

struct syncer *syncer_new(struct engine *engine, const struct engine_options *options) {
  (void)engine;
  struct syncer *syncer = g_new0(struct syncer, 1);
  syncer->store = options->store;
  syncer->transport = options->transport;
  syncer->durability = options->durability;
  syncer->interval_ms = options->durability_interval_ms;
  syncer->failed = options->failed;
  syncer->callback_context = options->callback_context;
  pthread_mutex_init(&syncer->mutex, NULL);
  pthread_cond_init(&syncer->work, NULL);
  pthread_cond_init(&syncer->room, NULL);
  syncer->end = &syncer->first;
  syncer->view = store_view_open(syncer->store);
  return syncer;
}

static void item_out(struct syncer *syncer, struct release_item *item) {
  const struct transport *transport = &syncer->transport;
  switch (item->kind) {
  case RELEASE_REPLY:
    if (item->request->all_done) {
      syncer->all_done = item->request->all_done;
      syncer->group = item->request->group;
    }
    item->request->done(item->request, item->error, item->message);
    break;
  case RELEASE_EVENT:
    if (!item->request->event(item->request, item->message))
      __atomic_store_n(&item->request->cancelled, 2, __ATOMIC_RELEASE);
    break;
  case RELEASE_SEND:
    if (transport->send) {
      transport->send(transport->context, &item->session, item->connection, item->bytes, item->length);
      item->bytes = NULL;
    }
    break;
  case RELEASE_DROP:
    if (transport->drop)
      transport->drop(transport->context, &item->session, item->connection);
    break;
  case RELEASE_OPEN:
    if (transport->session_open)
      transport->session_open(transport->context, &item->session, item->bytes);
    break;
  case RELEASE_CLOSE:
    if (transport->session_close)
      transport->session_close(transport->context, &item->session);
    break;
  case RELEASE_CALL: /* when all is out: release_free */
    break;
  }
}

static enum status sync_now(struct syncer *syncer, uint64_t ticket, struct error *error) {
  int64_t start_us = g_get_monotonic_time();
  enum status status = store_sync(syncer->store, ticket, error);
  int64_t took_us = g_get_monotonic_time() - start_us;
  pthread_mutex_lock(&syncer->mutex);
  histogram_add(&syncer->sync_us, &scale_us, took_us);
  pthread_mutex_unlock(&syncer->mutex);
  return status;
}

static enum status make_durable(struct syncer *syncer, uint64_t ticket, struct error *error) {
  if (ticket <= syncer->synced || syncer->durability != DURABILITY_SYNC)
    return STATUS_OK;
  enum status status = sync_now(syncer, ticket, error);
  if (status == STATUS_OK)
    syncer->synced = ticket;
  return status;
}

/* All of it is out, or never will be. */
static void release_done(struct syncer *syncer, struct release *release) {
  size_t bytes = release->held_bytes;
  release_free(release);
  pthread_mutex_lock(&syncer->mutex);
  syncer->held_bytes -= bytes;
  pthread_mutex_unlock(&syncer->mutex);
  pthread_cond_signal(&syncer->room);
}

/* Syncs once for the whole list and lets it out, in order. Called by whoever is busy, without the mutex. */
static void work_off(struct syncer *syncer, struct release *list) {
  /* The newest of each, wherever it stands: a turn that wrote nothing has none of its own. */
  struct store_view *newest = NULL;
  for (struct release *release = list; release; release = release->next) {
    syncer->written = MAX(syncer->written, release->ticket);
    newest = release->view ? release->view : newest;
  }
  struct error error;
  bool failed = syncer->failed_already;
  if (!failed && make_durable(syncer, syncer->written, &error) != STATUS_OK) {
    failed = syncer->failed_already = true;
    if (syncer->failed)
      syncer->failed(syncer->callback_context, &error);
  }
  if (!failed && newest) {
    pthread_mutex_lock(&syncer->mutex);
    struct store_view *before = syncer->view;
    syncer->view = store_view_ref(newest);
    pthread_mutex_unlock(&syncer->mutex);
    store_view_unref(before);
  }
  while (list) {
    struct release *next = list->next;
    for (size_t i = 0; !failed && i < list->count; i++)
      item_out(syncer, &list->items[i]);
    release_done(syncer, list);
    list = next;
  }
  if (syncer->all_done)
    syncer->all_done(syncer->group);
  syncer->all_done = NULL;
}

static struct release *take_all(struct syncer *syncer) {
  struct release *list = syncer->first;
  syncer->first = NULL;
  syncer->end = &syncer->first;
  return list;
}

static gpointer syncer_thread(gpointer data) {
  struct syncer *syncer = data;
  pthread_mutex_lock(&syncer->mutex);
  for (;;) {
    while (syncer->busy || (!syncer->first && !syncer->stopping)) {
      if (syncer->durability == DURABILITY_INTERVAL) {
        struct timespec until;
        clock_after(syncer->interval_ms * 1000, &until);
        if (pthread_cond_clockwait(&syncer->work, &syncer->mutex, CLOCK_MONOTONIC, &until) != 0)
          break;
      } else {
        pthread_cond_wait(&syncer->work, &syncer->mutex);
      }
    }
    if (!syncer->busy && !syncer->first && syncer->stopping)
      break;
    if (syncer->busy)
      continue;
    struct release *list = take_all(syncer);
    syncer->busy = true;
    pthread_mutex_unlock(&syncer->mutex);
    if (list)
      work_off(syncer, list);
    if (syncer->durability == DURABILITY_INTERVAL) {
      struct error error;
      if (sync_now(syncer, syncer->written, &error) != STATUS_OK && !syncer->failed_already) {
        syncer->failed_already = true;
        if (syncer->failed)
          syncer->failed(syncer->callback_context, &error);
      }
    }
    pthread_mutex_lock(&syncer->mutex);
    syncer->busy = false;
  }
  pthread_mutex_unlock(&syncer->mutex);
  return NULL;
}

void syncer_start(struct syncer *syncer) {
  syncer->thread = g_thread_new("syncer", syncer_thread, syncer);
}

void syncer_submit(struct syncer *syncer, struct release *take_release, bool idle) {
  pthread_mutex_lock(&syncer->mutex);
  while (syncer->thread && syncer->held_bytes > HELD_BYTES_MAX)
    pthread_cond_wait(&syncer->room, &syncer->mutex);
  take_release->held_bytes = arena_used(take_release->arena);
  syncer->held_bytes += take_release->held_bytes;
  *syncer->end = take_release;
  syncer->end = &take_release->next;
  bool self = (idle || syncer->durability != DURABILITY_SYNC) && !syncer->busy;
  struct release *list = NULL;
  if (self) {
    list = take_all(syncer);
    syncer->busy = true;
  }
  bool wake = !self && !syncer->busy;
  pthread_mutex_unlock(&syncer->mutex);
  if (wake)
    pthread_cond_signal(&syncer->work);
  if (!self)
    return;
  work_off(syncer, list);
  pthread_mutex_lock(&syncer->mutex);
  syncer->busy = false;
  pthread_mutex_unlock(&syncer->mutex);
}

void syncer_step(struct syncer *syncer) {
  work_off(syncer, take_all(syncer));
}

void syncer_stop(struct syncer *syncer) {
  pthread_mutex_lock(&syncer->mutex);
  syncer->stopping = true;
  pthread_mutex_unlock(&syncer->mutex);
  pthread_cond_signal(&syncer->work);
  if (syncer->thread)
    g_thread_join(syncer->thread);
  else
    syncer_step(syncer);
  syncer->thread = NULL;
  struct error error;
  if (!syncer->failed_already && syncer->written > syncer->synced &&
      store_sync(syncer->store, syncer->written, &error) != STATUS_OK && syncer->failed)
    syncer->failed(syncer->callback_context, &error);
}

void syncer_free(struct syncer *syncer) {
  if (!syncer)
    return;
  while (syncer->first) {
    struct release *release = syncer->first;
    syncer->first = release->next;
    release_free(release);
  }
  store_view_unref(syncer->view);
  pthread_mutex_destroy(&syncer->mutex);
  pthread_cond_destroy(&syncer->work);
  pthread_cond_destroy(&syncer->room);
  g_free(syncer);
}

struct store_view *syncer_view(struct syncer *syncer) {
  pthread_mutex_lock(&syncer->mutex);
  struct store_view *view = store_view_ref(syncer->view);
  pthread_mutex_unlock(&syncer->mutex);
  return view;
}

void syncer_read(struct syncer *syncer, struct histogram *out_sync_us) {
  pthread_mutex_lock(&syncer->mutex);
  *out_sync_us = syncer->sync_us;
  pthread_mutex_unlock(&syncer->mutex);
}
