/* SPDX-License-Identifier: Apache-2.0 */
/* Where settings come from, which ones are refused, and how the log escapes. */
#include <glib.h>
#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>
/* The last: it needs those above. */
#include <cmocka.h>

#include "config.h"
#include "log.h"

enum { FLAGS_MAX = 16, LOG_BYTES_MAX_READ = 4096 };

static enum status read_flags(struct config *config, struct error *error, const char *const *flags) {
  char *arguments[FLAGS_MAX + 2] = {(char *)"millraced"};
  int count = 1;
  for (; flags[count - 1]; count++) {
    assert_true(count <= FLAGS_MAX);
    arguments[count] = (char *)flags[count - 1];
  }
  return config_read(count, arguments, config, error);
}
#define READ(config, error, ...) read_flags(config, error, (const char *const[]){__VA_ARGS__, NULL})

#define assert_refused(part, ...)                                                                                                \
  do {                                                                                                                           \
    struct config refused_config;                                                                                                \
    struct error refused_error;                                                                                                  \
    assert_int_equal(READ(&refused_config, &refused_error, __VA_ARGS__), STATUS_INVALID_ARGUMENT);                               \
    assert_non_null(strstr(refused_error.message, part));                                                                        \
  } while (0)

static char *write_file(const char *text) {
  char *path = NULL;
  int file = g_file_open_tmp("millrace-config-XXXXXX", &path, NULL);
  assert_true(file >= 0);
  close(file);
  assert_true(g_file_set_contents(path, text, -1, NULL));
  return path;
}

static void defaults(void **state) {
  (void)state;
  struct config config;
  struct error error;
  assert_int_equal(read_flags(&config, &error, (const char *const[]){NULL}), STATUS_OK);
  assert_string_equal(config.listen[0], "127.0.0.1:7070");
  assert_null(config.listen[1]);
  assert_string_equal(config.worker_listen.host, "127.0.0.1");
  assert_int_equal(config.worker_listen.port, 7080);
  assert_int_equal(config.monitor_listen.port, 7090);
  assert_int_equal(config.durability, DURABILITY_SYNC);
  assert_int_equal(config.session_timeout_ms, 15000);
  assert_null(config.advertise.host);
  assert_false(config.insecure || config.dev);
  assert_null(config.warnings[0]);
  config_fini(&config);
}

static void flag_beats_environment_beats_file(void **state) {
  (void)state;
  struct config config;
  struct error error;
  char *path = write_file("[millraced]\nheartbeat=1s\nsession-timeout=2m\nlisten=127.0.0.1:1, unix:/tmp/x\nshutdown-grace=1h\n");
  g_setenv("MILLRACED_HEARTBEAT", "2s", TRUE);
  g_setenv("MILLRACED_SHUTDOWN_GRACE", "7ms", TRUE);
  g_setenv("MILLRACED_NONSENSE", "1", TRUE);
  assert_int_equal(READ(&config, &error, "--config", path, "--heartbeat=3s", "--durability=interval=50"), STATUS_OK);
  assert_int_equal(config.heartbeat_ms, 3000);
  assert_int_equal(config.shutdown_grace_ms, 7);
  assert_int_equal(config.session_timeout_ms, 120000);
  assert_string_equal(config.listen[1], "unix:/tmp/x");
  assert_int_equal(config.durability, DURABILITY_INTERVAL);
  assert_int_equal(config.durability_interval_ms, 50);
  assert_non_null(strstr(config.warnings[0], "MILLRACED_NONSENSE"));
  assert_null(config.warnings[1]);
  config_fini(&config);
  g_unsetenv("MILLRACED_HEARTBEAT");
  g_unsetenv("MILLRACED_SHUTDOWN_GRACE");
  g_unsetenv("MILLRACED_NONSENSE");
  g_unlink(path);
  g_free(path);
}

static void wrong_files(void **state) {
  (void)state;
  char *unknown_key = write_file("[millraced]\nlissten=127.0.0.1:1\n");
  char *unknown_group = write_file("[server]\nlisten=127.0.0.1:1\n");
  char *wrong_value = write_file("[millraced]\nheartbeat=soon\n");
  assert_refused("'lissten' is not known", "--config", unknown_key);
  assert_refused("[server] is not known", "--config", unknown_group);
  assert_refused("heartbeat: 'soon' must be a duration", "--config", wrong_value);
  assert_refused("No such file", "--config", "/nonexistent/millraced.conf");
  char *paths[] = {unknown_key, unknown_group, wrong_value};
  for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
    g_unlink(paths[i]);
    g_free(paths[i]);
  }
}

static void wrong_flags(void **state) {
  (void)state;
  assert_refused("--nonsense", "--nonsense");
  assert_refused("unexpected argument 'start'", "start");
  assert_refused("--listen: 'localhost' must be HOST:PORT", "--listen", "localhost");
  assert_refused("--listen", "--listen", "::1:7070");
  assert_refused("--listen", "--listen", "127.0.0.1:65536");
  assert_refused("--worker-listen", "--worker-listen", "unix:/tmp/x");
  assert_refused("--heartbeat: '15' must be a duration", "--heartbeat", "15");
  assert_refused("--heartbeat", "--heartbeat", "0s");
  assert_refused("--heartbeat", "--heartbeat", "25h");
  assert_refused("--heartbeat", "--heartbeat", "99999999999999999999s");
  assert_refused("shorter than --session-timeout", "--heartbeat", "20s");
  assert_refused("--durability", "--durability", "interval=0");
  assert_refused("--max-connections", "--max-connections", "-1");
  assert_refused("--log-level", "--log-level", "loud");
  assert_refused("leave out --data-dir", "--dev", "--data-dir", "x");
}

static void encryption_and_tokens_open_the_network(void **state) {
  (void)state;
  struct config config;
  struct error error;
  assert_refused("--tls-key", "--tls-cert", "a");
  assert_refused("--tls-cert", "--tls-client-ca", "a");
  assert_refused("does not ask who calls", "--listen", "0.0.0.0:1", "--tls-cert", "a", "--tls-key", "b");
  assert_refused("could be read on the way", "--listen", "0.0.0.0:1", "--token-file", "a");
  assert_refused("--monitor-public", "--monitor-listen", "0.0.0.0:1", "--tls-cert", "a", "--tls-key", "b", "--token-file", "c");
  assert_int_equal(READ(&config, &error, "--listen", "0.0.0.0:1", "--worker-listen", "[::]:1", "--tls-cert", "a", "--tls-key",
                        "b", "--token-file", "c"),
                   STATUS_OK);
  config_fini(&config);
  assert_int_equal(READ(&config, &error, "--listen", "0.0.0.0:1", "--tls-cert", "a", "--tls-key", "b", "--tls-client-ca", "c"),
                   STATUS_OK);
  config_fini(&config);
  assert_int_equal(READ(&config, &error, "--monitor-listen", "0.0.0.0:1", "--monitor-public"), STATUS_OK);
  config_fini(&config);
}

static void reachable_addresses_need_insecure(void **state) {
  (void)state;
  static const char *const reachable[] = {"0.0.0.0:1", "[::]:1", "192.168.0.1:1", "example.org:1"};
  static const char *const private[] = {"127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "unix:/tmp/x"};
  struct config config;
  struct error error;
  for (size_t i = 0; i < G_N_ELEMENTS(reachable); i++) {
    assert_refused("add --insecure", "--listen", reachable[i]);
    assert_refused("--worker-listen", "--worker-listen", reachable[i]);
    assert_refused("--monitor-listen", "--monitor-listen", reachable[i]);
    assert_int_equal(READ(&config, &error, "--insecure", "--listen", reachable[i]), STATUS_OK);
    config_fini(&config);
  }
  for (size_t i = 0; i < G_N_ELEMENTS(private); i++) {
    assert_int_equal(READ(&config, &error, "--listen", private[i]), STATUS_OK);
    config_fini(&config);
  }
  assert_refused("example.org", "--listen", "127.0.0.1:1", "--listen", "example.org:1");
}

static void advertised(void **state) {
  (void)state;
  struct config config;
  struct error error;
  assert_int_equal(READ(&config, &error, "--advertise", "jobs.example.org"), STATUS_OK);
  assert_string_equal(config.advertise.host, "jobs.example.org");
  assert_int_equal(config.advertise.port, 0);
  config_fini(&config);
  assert_int_equal(READ(&config, &error, "--advertise", "[2001:db8::1]:443"), STATUS_OK);
  assert_string_equal(config.advertise.host, "2001:db8::1");
  assert_int_equal(config.advertise.port, 443);
  config_fini(&config);
}

/* What is written to standard error meanwhile, without the time in front. */
static char *logged(enum log_format format, const char *key, const char *value, const char *fields) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  int before = dup(STDERR_FILENO);
  dup2(ends[1], STDERR_FILENO);
  log_init(format, LOG_LEVEL_INFO);
  log_event(LOG_LEVEL_DEBUG, "hidden");
  if (key)
    log_event(LOG_LEVEL_WARNING, "happened", key, value);
  else
    log_fields(LOG_LEVEL_WARNING, "happened", fields);
  dup2(before, STDERR_FILENO);
  close(before);
  close(ends[1]);
  char *text = g_malloc0(LOG_BYTES_MAX_READ);
  ssize_t length = read(ends[0], text, LOG_BYTES_MAX_READ - 1);
  assert_true(length > 0);
  close(ends[0]);
  return text;
}

static void assert_logged(char *line, const char *end) {
  if (!g_str_has_suffix(line, end))
    fail_msg("%s does not end in %s", line, end);
  g_free(line);
}

static void log_lines_can_not_be_forged(void **state) {
  (void)state;
  assert_logged(logged(LOG_FORMAT_TEXT, "id", "plain-1.2:3", NULL), "Z warning happened id=plain-1.2:3\n");
  assert_logged(logged(LOG_FORMAT_TEXT, "id", "a\nb \"c\" \\ d=e\x1b", NULL),
                " happened id=\"a\\nb \\\"c\\\" \\\\ d=e\\u001b\"\n");
  assert_logged(logged(LOG_FORMAT_TEXT, "id", "", NULL), " happened id=\"\"\n");
  assert_logged(logged(LOG_FORMAT_JSON, "id", "a\n\"\xff", NULL),
                "\"level\":\"warning\",\"event\":\"happened\",\"id\":\"a\\n\\\"\xef\xbf\xbd\"}\n");
  assert_logged(logged(LOG_FORMAT_JSON, NULL, NULL, "a=1  b=\"x \\\"y\\\"\" c d="),
                ",\"a\":\"1\",\"b\":\"x \\\"y\\\"\",\"c\":\"\",\"d\":\"\"}\n");
  assert_logged(logged(LOG_FORMAT_TEXT, NULL, NULL, "a=1\nforged b=\"open"), " happened a=\"1\\nforged\" b=open\n");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(defaults),
      cmocka_unit_test(flag_beats_environment_beats_file),
      cmocka_unit_test(wrong_files),
      cmocka_unit_test(wrong_flags),
      cmocka_unit_test(advertised),
      cmocka_unit_test(encryption_and_tokens_open_the_network),
      cmocka_unit_test(reachable_addresses_need_insecure),
      cmocka_unit_test(log_lines_can_not_be_forged),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
