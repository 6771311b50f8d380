/* SPDX-License-Identifier: Apache-2.0 */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "json.h"
#include "text.h"

enum {
  EXIT_RETRY_LATER = 75,
  EXIT_PERMANENT = 78,
  OUTPUT_BYTES_MAX = 4 * 1024 * 1024, /* kept of standard output; the server's limit is lower */
  LINE_BYTES_MAX = 8192,
  ENVIRONMENT_BYTES_MAX = 64 * 1024, /* of the previous result; more goes into a file */
  SHUTDOWN_GRACE_MS = 2000,          /* the worker itself waits 3 s */
  LOOK_MS = 50,                      /* how often it is looked at when nothing tells of its end */
  READ_BYTES = 16 * 1024,
  READS_A_LOOK = 4,  /* what a pipe holds as a rule */
  READS_AT_END = 64, /* the most that a pipe holds */
};

extern char **environ;

/* A running program. */
struct process {
  struct millrace_context *context;
  const struct process_handler *handler;
  pid_t pid;
  int exit_fd; /* readable when it has ended; -1: the kernel gave none */
  int input, output, errors;
  size_t written;
  GByteArray *result;
  GByteArray *line; /* of standard error, unfinished */
  char *last_line;
  enum millrace_stop stop;
  int64_t kill_us; /* 0: no need */
  int status;
};

/* Those that run, so that none outlives the worker: pid_t, not waited for yet. */
static struct {
  pthread_mutex_t lock;
  GArray *pids;
} running = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- starting ---- */

static void set_time(char ***environment, const char *name, int64_t ms) {
  char text[TEXT_TIME_BYTES];
  text_format_time(ms, text);
  *environment = g_environ_setenv(*environment, name, text, TRUE);
}

static void set_number(char ***environment, const char *name, uint32_t number) {
  char text[16];
  g_snprintf(text, sizeof text, "%u", number);
  *environment = g_environ_setenv(*environment, name, text, TRUE);
}

static void set_text(char ***environment, const char *name, const char *text) {
  *environment = text && *text ? g_environ_setenv(*environment, name, text, TRUE) : g_environ_unsetenv(*environment, name);
}

/* *out_file: to be removed afterwards; NULL: none. */
static void set_previous_result(char ***environment, const struct millrace_payload *previous, char **out_file) {
  bool fits = previous->data && previous->length <= ENVIRONMENT_BYTES_MAX && !memchr(previous->data, '\0', previous->length);
  set_text(environment, "MILLRACE_PREVIOUS_RESULT", fits ? previous->data : NULL);
  set_text(environment, "MILLRACE_PREVIOUS_RESULT_FILE", NULL);
  if (!previous->data || fits)
    return;
  char *file = NULL;
  int fd = g_file_open_tmp("millrace-XXXXXX", &file, NULL);
  if (fd >= 0 && g_file_set_contents(file, previous->data, (gssize)previous->length, NULL)) {
    set_text(environment, "MILLRACE_PREVIOUS_RESULT_FILE", file);
    *out_file = file;
  }
  if (fd >= 0)
    close(fd);
}

static char **environment_of(const struct millrace_delivery *job, char **out_file) {
  char **environment = g_get_environ();
  int64_t attempt_end_ms = job->attempt_timeout_ms ? g_get_real_time() / 1000 + job->attempt_timeout_ms : INT64_MAX;
  int64_t deadline_ms = MIN(attempt_end_ms, job->deadline_ms ? job->deadline_ms : INT64_MAX);
  set_text(&environment, "MILLRACE_JOB_ID", job->job_id);
  set_text(&environment, "MILLRACE_TASK", job->task);
  set_text(&environment, "MILLRACE_QUEUE", job->queue);
  set_number(&environment, "MILLRACE_ATTEMPT", job->attempt);
  set_number(&environment, "MILLRACE_MAX_ATTEMPTS", job->max_attempts);
  set_number(&environment, "MILLRACE_DELIVERY", job->delivery);
  set_text(&environment, "MILLRACE_CHAIN_ID", job->chain_id);
  set_text(&environment, "MILLRACE_BATCH_ID", job->batch_id);
  set_text(&environment, "TRACEPARENT", job->traceparent);
  set_text(&environment, "TRACESTATE", job->tracestate);
  if (deadline_ms != INT64_MAX)
    set_time(&environment, "MILLRACE_DEADLINE", deadline_ms);
  set_previous_result(&environment, &job->previous_result, out_file);
  return environment;
}

static void running_add(pid_t pid) {
  pthread_mutex_lock(&running.lock);
  if (!running.pids)
    running.pids = g_array_new(FALSE, FALSE, sizeof(pid_t));
  g_array_append_val(running.pids, pid);
  pthread_mutex_unlock(&running.lock);
}

static void running_remove(pid_t pid) {
  pthread_mutex_lock(&running.lock);
  for (guint i = 0; i < running.pids->len; i++)
    if (g_array_index(running.pids, pid_t, i) == pid) {
      g_array_remove_index_fast(running.pids, i);
      break;
    }
  pthread_mutex_unlock(&running.lock);
}

void process_kill_all(void) {
  pthread_mutex_lock(&running.lock);
  for (guint i = 0; running.pids && i < running.pids->len; i++)
    kill(-g_array_index(running.pids, pid_t, i), SIGKILL);
  pthread_mutex_unlock(&running.lock);
}

static void close_fd(int *fd) {
  if (*fd >= 0)
    close(*fd);
  *fd = -1;
}

/* Starts the program in a process group of its own; fork alone is not safe beside nng and gRPC. 0 or an errno. */
static int spawn(struct process *self, char **environment) {
  int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1};
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t defaults, none;
  if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC)) {
    int problem = errno;
    for (int i = 0; i < 2; i++) {
      close_fd(&in[i]);
      close_fd(&out[i]);
      close_fd(&err[i]);
    }
    return problem;
  }
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err[1], STDERR_FILENO);
  posix_spawnattr_init(&attributes);
  sigemptyset(&none);
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  sigaddset(&defaults, SIGTERM);
  sigaddset(&defaults, SIGINT);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  int problem = posix_spawnp(&self->pid, self->handler->argv[0], &actions, &attributes, self->handler->argv, environment);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  close_fd(&in[0]);
  close_fd(&out[1]);
  close_fd(&err[1]);
  self->input = in[1];
  self->output = out[0];
  self->errors = err[0];
  fcntl(self->input, F_SETFL, O_NONBLOCK);
  fcntl(self->output, F_SETFL, O_NONBLOCK);
  fcntl(self->errors, F_SETFL, O_NONBLOCK);
  return problem;
}

/* ---- while it runs ---- */

static void write_payload(struct process *self) {
  const struct millrace_payload *payload = &millrace_context_delivery(self->context)->payload;
  while (self->input >= 0 && self->written < payload->length) {
    ssize_t wrote = write(self->input, (const char *)payload->data + self->written, payload->length - self->written);
    if (wrote < 0 && (errno == EAGAIN || errno == EINTR))
      return;
    if (wrote < 0)
      break; /* it does not want the rest */
    self->written += (size_t)wrote;
  }
  close_fd(&self->input);
}

static void end_line(struct process *self) {
  g_byte_array_append(self->line, (const guint8 *)"", 1);
  char *text = g_utf8_make_valid((const char *)self->line->data, -1);
  g_byte_array_set_size(self->line, 0);
  millrace_log(self->context, text);
  if (*g_strchomp(text)) {
    g_free(self->last_line);
    self->last_line = text;
  } else {
    g_free(text);
  }
}

static void take_errors(struct process *self, const char *bytes, size_t length) {
  for (size_t i = 0; i < length; i++) {
    if (bytes[i] == '\n' || self->line->len >= LINE_BYTES_MAX)
      end_line(self);
    if (bytes[i] != '\n')
      g_byte_array_append(self->line, (const guint8 *)&bytes[i], 1);
  }
}

/* Reads what is there; closes at the end. With a limit: who writes faster than this reads would keep it here for ever. */
static void drain(struct process *self, int *fd, unsigned reads_max) {
  char buffer[READ_BYTES];
  for (unsigned reads = 0; *fd >= 0 && reads < reads_max; reads++) {
    ssize_t got = read(*fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0 && errno == EAGAIN)
      return;
    if (got <= 0) {
      close_fd(fd);
    } else if (fd == &self->errors) {
      take_errors(self, buffer, (size_t)got);
    } else if (self->result->len <= OUTPUT_BYTES_MAX) {
      g_byte_array_append(self->result, (const guint8 *)buffer, (guint)got);
    }
  }
}

static void begin_to_stop(struct process *self, enum millrace_stop stop) {
  self->stop = stop;
  int64_t grace_ms = self->handler->kill_grace_ms;
  if (stop == MILLRACE_STOP_SHUTDOWN)
    grace_ms = MIN(grace_ms, SHUTDOWN_GRACE_MS);
  kill(-self->pid, SIGTERM);
  self->kill_us = g_get_monotonic_time() + grace_ms * 1000;
}

static int poll_timeout(const struct process *self) {
  int longest_ms = self->exit_fd < 0 ? LOOK_MS : INT_MAX;
  if (!self->kill_us)
    return self->exit_fd < 0 ? LOOK_MS : -1;
  return (int)CLAMP((self->kill_us - g_get_monotonic_time()) / 1000 + 1, 0, longest_ms);
}

static bool has_ended(const struct process *self, const struct pollfd *exit) {
  if (self->exit_fd >= 0)
    return exit->revents != 0;
  siginfo_t info = {.si_pid = 0};
  return waitid(P_PID, (id_t)self->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
}

static void look_after(struct process *self) {
  int cancel_fd = millrace_context_cancel_fd(self->context);
  for (;;) {
    struct pollfd fds[] = {{self->exit_fd, POLLIN, 0},
                           {self->output, POLLIN, 0},
                           {self->errors, POLLIN, 0},
                           {self->input, POLLOUT, 0},
                           {self->stop ? -1 : cancel_fd, POLLIN, 0}};
    poll(fds, G_N_ELEMENTS(fds), poll_timeout(self));
    if (fds[3].revents)
      write_payload(self);
    if (fds[1].revents)
      drain(self, &self->output, READS_A_LOOK);
    if (fds[2].revents)
      drain(self, &self->errors, READS_A_LOOK);
    enum millrace_stop stop = millrace_context_cancelled(self->context);
    if (stop != MILLRACE_STOP_NONE && self->stop == MILLRACE_STOP_NONE)
      begin_to_stop(self, stop);
    if (self->kill_us && g_get_monotonic_time() >= self->kill_us) {
      kill(-self->pid, SIGKILL);
      self->kill_us = 0;
    }
    if (has_ended(self, &fds[0]))
      break;
  }
  /* Children that outlive it may hold the pipes, and write on: take what was there, wait for no more. */
  drain(self, &self->output, READS_AT_END);
  drain(self, &self->errors, READS_AT_END);
  if (self->line->len > 0)
    end_line(self);
}

/* ---- what became of it ---- */

static void report_success(struct process *self) {
  struct millrace_payload result = {.data = self->result->data, .length = self->result->len};
  g_byte_array_append(self->result, (const guint8 *)"", 1);
  result.data = self->result->data;
  const char *text = result.data;
  size_t visible = result.length;
  while (visible > 0 && g_ascii_isspace(text[visible - 1]))
    visible--;
  g_autofree char *quoted = NULL;
  if (visible == 0) {
    millrace_succeed(self->context, NULL);
    return;
  }
  if (json_is_valid(text, visible)) {
    result.length = visible;
    result.is_json = true;
  } else if (strlen(text) == result.length && g_utf8_validate(text, -1, NULL)) {
    yajl_gen gen = yajl_gen_alloc(NULL);
    const unsigned char *json;
    size_t length;
    yajl_gen_string(gen, (const unsigned char *)text, visible);
    yajl_gen_get_buf(gen, &json, &length);
    quoted = g_strndup((const char *)json, length);
    yajl_gen_free(gen);
    result = millrace_json(quoted);
  }
  millrace_succeed(self->context, &result);
}

static void report_failure(struct process *self) {
  struct millrace_failure failure = {.type = "ExitCode"};
  g_autofree char *message = NULL;
  const char *why = self->last_line ? self->last_line : "";
  if (WIFSIGNALED(self->status)) {
    failure.type = "Signal";
    message = g_strdup_printf("killed by signal %d (%s)%s%s", WTERMSIG(self->status), strsignal(WTERMSIG(self->status)),
                              *why ? ": " : "", why);
  } else {
    int code = WEXITSTATUS(self->status);
    message = g_strdup_printf("exit code %d%s%s", code, *why ? ": " : "", why);
    failure.permanent = code == EXIT_PERMANENT;
    if (code == EXIT_RETRY_LATER) {
      failure.type = "RetryLater";
      g_byte_array_append(self->result, (const guint8 *)"", 1);
      int64_t delay_ms;
      if (text_parse_duration(g_strstrip((char *)self->result->data), &delay_ms))
        failure.retry_after_ms = delay_ms ? delay_ms : MILLRACE_ZERO;
    }
  }
  failure.message = message;
  millrace_fail(self->context, &failure);
}

static void report(struct process *self) {
  bool succeeded = WIFEXITED(self->status) && WEXITSTATUS(self->status) == 0;
  if (succeeded)
    report_success(self);
  else if (self->stop == MILLRACE_STOP_NONE)
    report_failure(self);
  /* Asked to stop, and it did: saying nothing confirms it. */
}

void process_run(struct millrace_context *context, void *user) {
  struct process self = {.context = context, .handler = user, .input = -1, .output = -1, .errors = -1, .exit_fd = -1};
  self.result = g_byte_array_new();
  self.line = g_byte_array_new();
  char *file = NULL;
  char **environment = environment_of(millrace_context_delivery(context), &file);
  int problem = spawn(&self, environment);
  if (problem) {
    g_autofree char *message = g_strdup_printf("%s: %s", self.handler->argv[0], g_strerror(problem));
    millrace_fail(context, &(struct millrace_failure){.type = "CannotStart", .message = message});
  } else {
    running_add(self.pid);
    self.exit_fd = pidfd_open(self.pid, 0);
    write_payload(&self);
    look_after(&self);
    running_remove(self.pid);
    while (waitpid(self.pid, &self.status, 0) < 0 && errno == EINTR)
      ;
    /* Nothing of its group is left behind. */
    kill(-self.pid, SIGKILL);
    report(&self);
  }
  if (file)
    unlink(file);
  g_free(file);
  g_strfreev(environment);
  close_fd(&self.input);
  close_fd(&self.output);
  close_fd(&self.errors);
  close_fd(&self.exit_fd);
  g_byte_array_unref(self.result);
  g_byte_array_unref(self.line);
  g_free(self.last_line);
}
