/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_engine.h"

#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

enum { DEADLINE_S = 60 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static GQueue events = G_QUEUE_INIT;
static size_t standing;
static char something;

struct engine *fake_engine(void) {
  return (struct engine *)&something;
}

static void add(struct event event) {
  pthread_mutex_lock(&mutex);
  struct event *copy = g_new(struct event, 1);
  *copy = event;
  g_queue_push_tail(&events, copy);
  if (event.kind == EVENT_CONNECTED)
    standing++;
  if (event.kind == EVENT_DISCONNECTED)
    standing--;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
}

void engine_session_connected(struct engine *engine, const struct id *session, uint64_t connection, const char *transport_name) {
  g_assert(engine == fake_engine());
  add((struct event){.kind = EVENT_CONNECTED, .session = *session, .connection = connection, .transport_name = transport_name});
}

void engine_session_disconnected(struct engine *engine, const struct id *session, uint64_t connection) {
  g_assert(engine == fake_engine());
  add((struct event){.kind = EVENT_DISCONNECTED, .session = *session, .connection = connection});
}

void engine_session_reports(struct engine *engine, const struct id *session, uint64_t connection, const uint8_t *bytes,
                            size_t length) {
  g_assert(engine == fake_engine());
  add((struct event){
      .kind = EVENT_REPORTS, .session = *session, .connection = connection, .bytes = g_memdup2(bytes, length), .length = length});
}

void fake_engine_reset(void) {
  pthread_mutex_lock(&mutex);
  struct event *event;
  while ((event = g_queue_pop_head(&events))) {
    g_free(event->bytes);
    g_free(event);
  }
  standing = 0;
  pthread_mutex_unlock(&mutex);
}

size_t fake_engine_pending(void) {
  pthread_mutex_lock(&mutex);
  size_t count = events.length;
  pthread_mutex_unlock(&mutex);
  return count;
}

/* Under the mutex; until something changes. */
static void wait_for_change(const char *what) {
  static _Thread_local struct timespec deadline;
  clock_gettime(CLOCK_REALTIME, &deadline);
  deadline.tv_sec += DEADLINE_S;
  if (pthread_cond_timedwait(&changed, &mutex, &deadline) == ETIMEDOUT)
    g_error("waited in vain for %s", what);
}

struct event fake_engine_next(const struct id *session) {
  pthread_mutex_lock(&mutex);
  for (;;) {
    for (GList *item = events.head; item; item = item->next) {
      struct event *event = item->data;
      if (session && !id_equal(session, &event->session))
        continue;
      struct event result = *event;
      g_free(event);
      g_queue_delete_link(&events, item);
      pthread_mutex_unlock(&mutex);
      return result;
    }
    wait_for_change("an event");
  }
}

void fake_engine_wait_connected(size_t count) {
  pthread_mutex_lock(&mutex);
  while (standing != count)
    wait_for_change("the number of connections");
  pthread_mutex_unlock(&mutex);
}
