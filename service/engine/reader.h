/* SPDX-License-Identifier: Apache-2.0 */
/* reader.h: the thread that reads long lists from the durable view, so that they hold up no create. Work goes to it and comes
 * back to the engine's thread through the mailbox. At most READER_QUEUE_MAX pieces wait. Threads: reader_post the engine's; the
 * others from the one that starts and stops the engine. */
#ifndef MILLRACE_ENGINE_READER_H
#define MILLRACE_ENGINE_READER_H

#include "engine/state.h"

enum { READER_QUEUE_MAX = 256 };

struct reader;

/* Embedded, as the first member, in what is read. */
struct reader_work {
  struct engine_task task; /* comes back with task.run, which then owns the work */
  /* On the reader's thread. */
  void (*read)(struct reader_work *work, struct store *store, struct store_view *view);
  bool stopped; /* the engine stops: it was not read */
};

struct reader *reader_new(struct engine *engine);
void reader_start(struct reader *reader);
/* Does all that waits, when there is no thread. */
void reader_step(struct reader *reader);
/* Takes the work. False: too much waits, or it stops; the work stays the caller's. */
bool reader_post(struct reader *reader, struct reader_work *take_work);
/* Takes no more, hands back what waits as `stopped`, joins the thread. */
void reader_stop(struct reader *reader);
void reader_free(struct reader *reader); /* NULL is fine */

/* Answers a request outside of any turn, once the engine takes no more mail: UNAVAILABLE. Gives up the engine's reference. */
void reader_refuse(struct request *request);

#endif
