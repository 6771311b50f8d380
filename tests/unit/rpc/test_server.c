/* SPDX-License-Identifier: Apache-2.0 */
/* The gRPC front with the fake engine and hub as a program: prints its port; SIGUSR1 and SIGUSR2 make it serve and not serve,
 * SIGTERM stops it with the grace given in ms. Answers may wait for their readers as long as the second argument says. */
#include <glib.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "fake_engine.h"
#include "rpc/server.h"

enum { BACKLOG_BYTES = 256 * 1024, ANSWERS_BYTES = 16 << 20 };

int main(int argument_count, char **arguments) {
  int64_t grace_ms = argument_count > 1 ? atol(arguments[1]) : 5000;
  int64_t answer_wait_ms = argument_count > 2 ? atol(arguments[2]) : 0;
  const char *const addresses[] = {"127.0.0.1:0", NULL};
  struct engine *engine;
  struct rpc_server *server;
  struct error error;
  sigset_t signals;
  int number;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGUSR1);
  sigaddset(&signals, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &signals, NULL);
  engine = fake_engine_new();
  struct rpc_options options = {.addresses = addresses,
                                .engine = engine,
                                .stream_backlog_bytes_max = BACKLOG_BYTES,
                                .answers_bytes_max = ANSWERS_BYTES,
                                .answer_wait_ms = answer_wait_ms};
  if (rpc_server_open(&options, &server, &error)) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  rpc_server_start(server);
  printf("%u\n", (unsigned)rpc_server_port(server, 0));
  fflush(stdout);
  while (sigwait(&signals, &number) == 0 && number != SIGTERM)
    rpc_server_set_serving(server, number == SIGUSR1);
  rpc_server_stop(server, grace_ms);
  rpc_server_free(server);
  fake_engine_free(engine);
  return 0;
}
