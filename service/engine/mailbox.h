/* SPDX-License-Identifier: Apache-2.0 */
/* mailbox.h: the only door into the engine's thread: a bounded queue with two lanes. Urgent mail (reports, heartbeats, cancels)
 * goes ahead of the rest. POSIX locks rather than GLib's, which the thread sanitizer can't see. Threads: any may post; one takes.
 */
#ifndef MILLRACE_ENGINE_MAILBOX_H
#define MILLRACE_ENGINE_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Embedded in what is posted. */
struct mail {
  struct mail *next;
  int kind;
};

struct mail_list {
  struct mail *first;
  struct mail **end;
};

struct mailbox {
  pthread_mutex_t mutex;
  pthread_cond_t ready;
  struct mail_list urgent;
  struct mail_list normal;
  size_t normal_count;
  size_t normal_max;
  size_t count;
  bool closed;
  bool sleeping;
};

/* The monotonic time so many microseconds from now. */
void clock_after(int64_t wait_us, struct timespec *out_until);
void mailbox_init(struct mailbox *mailbox, size_t normal_max);
void mailbox_clear(struct mailbox *mailbox);
/* False: the normal lane is full, or the mailbox is closed (urgent mail is still taken unless closed); the mail stays the
 * caller's. */
bool mailbox_post(struct mailbox *mailbox, struct mail *mail, bool urgent);
/* Takes up to `max` pieces, urgent ones first, into a list in order. Waits until there is mail, or `wait_us` passed (0: does not
 * wait). Returns how many. */
size_t mailbox_take(struct mailbox *mailbox, size_t max, int64_t wait_us, struct mail **out_first);
size_t mailbox_count(struct mailbox *mailbox);
/* Takes no more; what is in stays to be taken. Wakes the taker. */
void mailbox_close(struct mailbox *mailbox);

#endif
