/* SPDX-License-Identifier: Apache-2.0 */
/* millrace-agent --transport nng|grpc */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

struct millrace_client *client;
enum millrace_transport transport;

static const struct {
  const char *name;
  run_command *run;
} commands[] = {
    {"create", job_create},
    {"create_many", job_create_many},
    {"get", job_get},
    {"wait", job_wait},
    {"watch", job_watch},
    {"list", job_list},
    {"cancel", job_cancel},
    {"retry", job_retry},
    {"chain_create", chain_create},
    {"chain_get", chain_get},
    {"chain_wait", chain_wait},
    {"chain_cancel", chain_cancel},
    {"batch_create", batch_create},
    {"batch_add", batch_add},
    {"batch_seal", batch_seal},
    {"batch_get", batch_get},
    {"batch_wait", batch_wait},
    {"batch_cancel", batch_cancel},
    {"schedule_create", schedule_create},
    {"schedules_declare", schedules_declare},
    {"schedule_get", schedule_get},
    {"schedule_pause", schedule_pause},
    {"schedule_resume", schedule_resume},
    {"schedule_list", schedule_list},
    {"schedule_delete", schedule_delete},
    {"schedule_run", schedule_run},
    {"schedule_preview", schedule_preview},
    {"queue_get", queue_get},
    {"queue_pause", queue_pause},
    {"queue_resume", queue_resume},
    {"queue_purge", queue_purge},
    {"worker_start", worker_start},
    {"worker_stop", worker_stop},
};

void say_line(const char *text, size_t length) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&lock);
  fwrite(text, 1, length, stdout);
  putchar('\n');
  fflush(stdout);
  pthread_mutex_unlock(&lock);
}

static run_command *find(const char *name) {
  for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
    if (g_strcmp0(commands[i].name, name) == 0)
      return commands[i].run;
  return NULL;
}

static enum millrace_code unsupported(struct command *command) {
  command->error.code = MILLRACE_UNIMPLEMENTED;
  g_strlcpy(command->error.message, "libmillrace has no such command", sizeof command->error.message);
  return MILLRACE_UNIMPLEMENTED;
}

static yajl_gen answer_begin(const char *number, const char *what) {
  yajl_gen out = yajl_gen_alloc(NULL);
  yajl_gen_map_open(out);
  put_key(out, "number");
  yajl_gen_number(out, number, strlen(number));
  put_key(out, what);
  return out;
}

static void answer_end(yajl_gen out) {
  const unsigned char *text;
  size_t length;
  yajl_gen_map_close(out);
  yajl_gen_get_buf(out, &text, &length);
  say_line((const char *)text, length);
  yajl_gen_free(out);
}

static void *run(void *fields) {
  struct command command = {.fields = fields, .owned = g_ptr_array_new_with_free_func(g_free)};
  const char *name = text_of(fields, "command");
  run_command *known = find(name);
  command.number = YAJL_GET_NUMBER(field_of(fields, "number"));
  command.out = answer_begin(command.number, "ok");
  if ((known ? known : unsupported)(&command) != MILLRACE_OK) {
    yajl_gen_free(command.out);
    command.out = answer_begin(command.number, "error");
    put_error(command.out, &command.error, name);
  }
  answer_end(command.out);
  g_ptr_array_unref(command.owned);
  yajl_tree_free(fields);
  return NULL;
}

static void *stop_on_signal(void *signals) {
  int number;
  sigwait(signals, &number);
  worker_finish();
  _exit(0);
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 3 || strcmp(argv[1], "--transport") != 0) {
    fprintf(stderr, "usage: millrace-agent --transport nng|grpc\n");
    return 2;
  }
  transport = strcmp(argv[2], "grpc") == 0 ? MILLRACE_TRANSPORT_GRPC : MILLRACE_TRANSPORT_NNG;
  static sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, NULL);
  struct millrace_error error;
  if (millrace_client_new(NULL, &client, &error) != MILLRACE_OK) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  g_thread_unref(g_thread_new("signals", stop_on_signal, &signals));
  g_autofree char *ready = g_strdup_printf("{\"ready\": true, \"client\": \"c\", \"version\": \"%s\"}", millrace_version());
  say_line(ready, strlen(ready));
  char *line = NULL;
  size_t size = 0;
  while (getline(&line, &size, stdin) > 0) {
    char reason[256];
    yajl_val fields = yajl_tree_parse(line, reason, sizeof reason);
    if (!YAJL_IS_NUMBER(field_of(fields, "number"))) {
      fprintf(stderr, "not a command: %s\n%s", reason, line);
      return 1;
    }
    g_thread_unref(g_thread_new("command", run, fields));
  }
  _exit(0);
}
