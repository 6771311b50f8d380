/* SPDX-License-Identifier: Apache-2.0 */
/* rig.h: a hub with real sockets, workers over nng, and plain ones that are programs of their own. What fails ends the test.
 * Threads: the test's. */
#ifndef MILLRACE_TESTS_WORKERS_RIG_H
#define MILLRACE_TESTS_WORKERS_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>
#include <nng/nng.h>

#include "fake_engine.h"

enum { REPORTS_BYTES_MAX = 1024 * 1024, MESSAGE_BYTES = 1024 * 1024, RECEIVE_MS = 60000, SESSIONS_OF_RIG = 1000 };

struct rig {
  struct hub *hub;
  struct transport transport;
  uint16_t port;     /* to dial */
  const char *trust; /* dial with encryption, and trust this certificate alone; NULL: without */
  /* Lost connections are dialled again. Only in a program of many workers: nng 1.5.2 can abort, or wait for ever, in nng_close
   * while it does. */
  bool dials_again;
};
extern struct rig rig;

struct worker {
  nng_socket jobs, reports;
  nng_dialer dialers[2];
};

/* A hub with the fake engine, in `rig`. */
int rig_open(const struct tls_texts *tls);
void rig_close(void);
/* For a test: without encryption. */
int rig_set_up(void **state);
int rig_tear_down(void **state);

struct id session_number(unsigned number);
void token_of(const struct id *session, char out_token[64]);
void jobs_path(const struct id *session, char out_path[64]);
void open_session(const struct id *session);
void close_session(const struct id *session);
void send_text(const struct id *session, uint64_t connection, const char *text);
/* Messages of MESSAGE_BYTES. */
void flood(const struct id *session, uint64_t connection, size_t count);

/* 0 or nng's code. `count_gone` counts the connections that end; NULL is fine. */
int try_dial(nng_socket socket, const char *path, const char *token, atomic_int *count_gone, nng_dialer *out_dialer);
nng_dialer dial(nng_socket socket, const char *path, const char *token, atomic_int *count_gone);
void worker_init(struct worker *worker);
void worker_dial(struct worker *worker, const struct id *session);
void worker_close(struct worker *worker);
void worker_report(struct worker *worker, const char *text);
/* The next message is this text. */
void expect_delivery(struct worker *worker, const char *text);

/* The next event of the session is this one. */
uint64_t expect_connected(const struct id *session, const char *name);
void expect_disconnected(const struct id *session, uint64_t connection);
void expect_report(const struct id *session, uint64_t connection, const char *text);
/* Waits until a count is `least` or more. */
void wait_for_count(atomic_int *count, int least);

pid_t start_program(char **arguments);
/* A program that reads nothing ("stuck"), or answers everything ("echo"). */
pid_t start_plain_worker(const struct id *session, const char *mode);
void stop_program(pid_t pid);

#endif
