/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/mailbox.h"

#include <time.h>

void clock_after(int64_t wait_us, struct timespec *out_until) {
  clock_gettime(CLOCK_MONOTONIC, out_until);
  int64_t nanos = out_until->tv_nsec + wait_us % 1000000 * 1000;
  out_until->tv_sec += (time_t)(wait_us / 1000000 + nanos / 1000000000);
  out_until->tv_nsec = (long)(nanos % 1000000000);
}

static void list_init(struct mail_list *list) {
  list->first = NULL;
  list->end = &list->first;
}

static void list_append(struct mail_list *list, struct mail *mail) {
  mail->next = NULL;
  *list->end = mail;
  list->end = &mail->next;
}

/* Moves up to `max` pieces to the end of `to`. */
static size_t list_move(struct mail_list *from, struct mail_list *to, size_t max) {
  size_t moved = 0;
  while (from->first && moved < max) {
    struct mail *mail = from->first;
    from->first = mail->next;
    list_append(to, mail);
    moved++;
  }
  if (!from->first)
    from->end = &from->first;
  return moved;
}

void mailbox_init(struct mailbox *mailbox, size_t normal_max) {
  pthread_mutex_init(&mailbox->mutex, NULL);
  pthread_cond_init(&mailbox->ready, NULL);
  list_init(&mailbox->urgent);
  list_init(&mailbox->normal);
  mailbox->normal_count = mailbox->count = 0;
  mailbox->normal_max = normal_max;
  mailbox->closed = mailbox->sleeping = false;
}

void mailbox_clear(struct mailbox *mailbox) {
  pthread_mutex_destroy(&mailbox->mutex);
  pthread_cond_destroy(&mailbox->ready);
}

bool mailbox_post(struct mailbox *mailbox, struct mail *mail, bool urgent) {
  pthread_mutex_lock(&mailbox->mutex);
  bool taken = !mailbox->closed && (urgent || mailbox->normal_count < mailbox->normal_max);
  bool wake = false;
  if (taken) {
    list_append(urgent ? &mailbox->urgent : &mailbox->normal, mail);
    mailbox->normal_count += !urgent;
    mailbox->count++;
    wake = mailbox->sleeping;
  }
  pthread_mutex_unlock(&mailbox->mutex);
  if (wake)
    pthread_cond_signal(&mailbox->ready);
  return taken;
}

size_t mailbox_take(struct mailbox *mailbox, size_t max, int64_t wait_us, struct mail **out_first) {
  struct mail_list taken;
  list_init(&taken);
  pthread_mutex_lock(&mailbox->mutex);
  if (wait_us > 0) {
    struct timespec until;
    clock_after(wait_us, &until);
    mailbox->sleeping = true;
    while (mailbox->count == 0 && !mailbox->closed &&
           pthread_cond_clockwait(&mailbox->ready, &mailbox->mutex, CLOCK_MONOTONIC, &until) == 0)
      ;
    mailbox->sleeping = false;
  }
  size_t urgent = list_move(&mailbox->urgent, &taken, max);
  size_t normal = list_move(&mailbox->normal, &taken, max - urgent);
  mailbox->normal_count -= normal;
  mailbox->count -= urgent + normal;
  pthread_mutex_unlock(&mailbox->mutex);
  *out_first = taken.first;
  return urgent + normal;
}

size_t mailbox_count(struct mailbox *mailbox) {
  pthread_mutex_lock(&mailbox->mutex);
  size_t count = mailbox->count;
  pthread_mutex_unlock(&mailbox->mutex);
  return count;
}

void mailbox_close(struct mailbox *mailbox) {
  pthread_mutex_lock(&mailbox->mutex);
  mailbox->closed = true;
  pthread_mutex_unlock(&mailbox->mutex);
  pthread_cond_signal(&mailbox->ready);
}
