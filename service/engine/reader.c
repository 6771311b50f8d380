/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/reader.h"

#include <pthread.h>

struct reader {
  struct engine *engine;
  pthread_mutex_t mutex;
  pthread_cond_t work;
  GQueue queue; /* of struct reader_work */
  bool stopping;
  GThread *thread;
};

struct reader *reader_new(struct engine *engine) {
  struct reader *reader = g_new0(struct reader, 1);
  reader->engine = engine;
  pthread_mutex_init(&reader->mutex, NULL);
  pthread_cond_init(&reader->work, NULL);
  g_queue_init(&reader->queue);
  return reader;
}

static struct reader_work *take(struct reader *reader, bool wait) {
  pthread_mutex_lock(&reader->mutex);
  while (wait && g_queue_is_empty(&reader->queue) && !reader->stopping)
    pthread_cond_wait(&reader->work, &reader->mutex);
  struct reader_work *work = g_queue_pop_head(&reader->queue);
  if (work)
    work->stopped = reader->stopping;
  pthread_mutex_unlock(&reader->mutex);
  return work;
}

static bool do_next(struct reader *reader, bool wait) {
  struct reader_work *work = take(reader, wait);
  if (!work)
    return false;
  if (!work->stopped) {
    struct store_view *view = syncer_view(reader->engine->syncer);
    work->read(work, reader->engine->store, view);
    store_view_unref(view);
  }
  engine_post_back(reader->engine, &work->task);
  return true;
}

void reader_step(struct reader *reader) {
  while (do_next(reader, false)) {
  }
}

static void *reader_run(void *context) {
  while (do_next(context, true)) {
  }
  return NULL;
}

void reader_start(struct reader *reader) {
  reader->thread = g_thread_new("reader", reader_run, reader);
}

bool reader_post(struct reader *reader, struct reader_work *take_work) {
  pthread_mutex_lock(&reader->mutex);
  const bool taken = !reader->stopping && g_queue_get_length(&reader->queue) < READER_QUEUE_MAX;
  if (taken) {
    g_queue_push_tail(&reader->queue, take_work);
    pthread_cond_signal(&reader->work);
  }
  pthread_mutex_unlock(&reader->mutex);
  return taken;
}

void reader_stop(struct reader *reader) {
  pthread_mutex_lock(&reader->mutex);
  reader->stopping = true;
  pthread_cond_signal(&reader->work);
  pthread_mutex_unlock(&reader->mutex);
  if (reader->thread)
    g_thread_join(reader->thread);
  else
    reader_step(reader);
  reader->thread = NULL;
}

void reader_free(struct reader *reader) {
  if (!reader)
    return;
  g_assert(g_queue_is_empty(&reader->queue));
  pthread_mutex_destroy(&reader->mutex);
  pthread_cond_destroy(&reader->work);
  g_free(reader);
}

void reader_refuse(struct request *request) {
  struct error error;
  error_set(&error, STATUS_UNAVAILABLE, NULL, "the server is stopping; ask again");
  request->finished = true;
  request_finish(request, &error, NULL);
  request_unref(request);
}
