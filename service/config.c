/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <arpa/inet.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "core/limits.h"

#define FILE_GROUP "millraced"
#define ENVIRONMENT_PREFIX "MILLRACED_"

enum { LISTEN_MAX = 16, CONNECTIONS_MAX = 1000 * 1000, MESSAGES_PER_SECOND_MAX = 10 * 1000 * 1000 };

/* A setting: its flag is --name, its variable MILLRACED_NAME, its key name. `read` takes one value and says what is wrong with
 * it. */
struct setting {
  const char *name;
  const char *argument; /* in --help; NULL: a switch */
  const char *initial;  /* default; NULL: none */
  const char *help;
  const char *(*read)(const char *value, void *field);
  size_t offset; /* of the field in struct config */
  bool many;     /* may be given more than once; in a file and the environment apart by commas */
};

/* ---- readers of values ---- */

static const char *read_text(const char *value, void *field) {
  char **text = field;
  if (value[0] == '\0')
    return "must not be empty";
  g_free(*text);
  *text = g_strdup(value);
  return NULL;
}

static const char *read_switch(const char *value, void *field) {
  bool *flag = field;
  if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
    return "must be true or false";
  *flag = value[0] == 't';
  return NULL;
}

static bool read_number(const char *value, uint64_t max, uint64_t *out_number) {
  guint64 number;
  if (!g_ascii_string_to_unsigned(value, 10, 0, max, &number, NULL))
    return false;
  *out_number = number;
  return true;
}

/* "500ms", "15s", "2m", "1h"; at least 1 ms. */
static const char *read_duration(const char *value, void *field) {
  static const struct {
    const char *unit;
    int64_t ms;
  } units[] = {{"ms", 1}, {"s", SECOND_MS}, {"m", MINUTE_MS}, {"h", HOUR_MS}};
  size_t digits = strspn(value, "0123456789");
  uint64_t number = 0;
  char *text = g_strndup(value, digits);
  bool is_number = read_number(text, DAY_MS, &number);
  g_free(text);
  for (size_t i = 0; is_number && number > 0 && i < G_N_ELEMENTS(units); i++) {
    if (strcmp(value + digits, units[i].unit) == 0 && (int64_t)number <= DAY_MS / units[i].ms) {
      *(int64_t *)field = (int64_t)number * units[i].ms;
      return NULL;
    }
  }
  return "must be a duration up to a day, such as 500ms, 15s, 2m or 1h";
}

static const char *read_connections(const char *value, void *field) {
  uint64_t number;
  if (!read_number(value, CONNECTIONS_MAX, &number) || number == 0)
    return "must be a number from 1 to 1000000";
  *(uint32_t *)field = (uint32_t)number;
  return NULL;
}

static const char *read_rate(const char *value, void *field) {
  uint64_t number;
  if (!read_number(value, MESSAGES_PER_SECOND_MAX, &number))
    return "must be a number from 0 (any number) to 10000000";
  *(uint32_t *)field = (uint32_t)number;
  return NULL;
}

static bool split_address(const char *value, bool port_required, struct config_address *out_address) {
  const char *colon = strrchr(value, ':');
  const char *host_end = colon;
  uint64_t port = 0;
  if (value[0] == '[') {
    host_end = strchr(value, ']');
    value++;
    if (!host_end || (host_end[1] != '\0' && host_end + 1 != colon))
      return false;
    if (host_end[1] == '\0')
      colon = NULL;
  } else if (!colon) {
    host_end = value + strlen(value);
  } else if (memchr(value, ':', (size_t)(colon - value))) {
    return false; /* IPv6 without brackets */
  }
  if (host_end == value || (!colon && port_required) || (colon && !read_number(colon + 1, UINT16_MAX, &port)))
    return false;
  out_address->host = g_strndup(value, (size_t)(host_end - value));
  out_address->port = (uint16_t)port;
  return true;
}

static const char *read_address(const char *value, void *field) {
  struct config_address *address = field;
  struct config_address read;
  if (!split_address(value, true, &read))
    return "must be HOST:PORT, such as 127.0.0.1:7080 or [::1]:7080 (port 0: any free one)";
  g_free(address->host);
  *address = read;
  return NULL;
}

static const char *read_advertise(const char *value, void *field) {
  struct config_address *address = field;
  struct config_address read;
  if (!split_address(value, false, &read))
    return "must be HOST or HOST:PORT, such as jobs.example.org:443";
  g_free(address->host);
  *address = read;
  return NULL;
}

static const char *read_listen(const char *value, void *field) {
  char ***list = field;
  struct config_address address;
  guint count = *list ? g_strv_length(*list) : 0;
  if (g_str_has_prefix(value, "unix:") && value[strlen("unix:")] != '\0') {
    /* as it is */
  } else if (split_address(value, true, &address)) {
    g_free(address.host);
  } else {
    return "must be HOST:PORT or unix:PATH, such as 127.0.0.1:7070, [::1]:7070 or unix:/run/millrace.sock (port 0: any free one)";
  }
  if (count >= LISTEN_MAX)
    return "can be given at most 16 times";
  *list = g_renew(char *, *list, count + 2);
  (*list)[count] = g_strdup(value);
  (*list)[count + 1] = NULL;
  return NULL;
}

static const char *read_durability(const char *value, void *field) {
  struct config *config = (struct config *)((char *)field - offsetof(struct config, durability));
  const char *interval = g_str_has_prefix(value, "interval=") ? value + strlen("interval=") : NULL;
  uint64_t ms;
  if (strcmp(value, "sync") == 0) {
    config->durability = DURABILITY_SYNC;
  } else if (strcmp(value, "none") == 0) {
    config->durability = DURABILITY_NONE;
  } else if (interval && read_number(interval, MINUTE_MS, &ms) && ms > 0) {
    config->durability = DURABILITY_INTERVAL;
    config->durability_interval_ms = (int64_t)ms;
  } else {
    return "must be sync, interval=MILLISECONDS (1 to 60000) or none";
  }
  return NULL;
}

static const char *read_log_format(const char *value, void *field) {
  if (strcmp(value, "text") != 0 && strcmp(value, "json") != 0)
    return "must be text or json";
  *(enum log_format *)field = value[0] == 'j' ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT;
  return NULL;
}

static const char *read_log_level(const char *value, void *field) {
  static const char *const names[] = {"debug", "info", "warning", "error"};
  for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
    if (strcmp(value, names[i]) == 0) {
      *(enum log_level *)field = (enum log_level)i;
      return NULL;
    }
  }
  return "must be debug, info, warning or error";
}

/* ---- the table ---- */

#define FIELD(name) offsetof(struct config, name)
static const struct setting settings[] = {
    {"listen", "ADDRESS", "127.0.0.1:7070", "Where gRPC listens: HOST:PORT or unix:PATH; repeatable", read_listen, FIELD(listen),
     true},
    {"worker-listen", "HOST:PORT", "127.0.0.1:7080", "Where workers' WebSockets connect", read_address, FIELD(worker_listen),
     false},
    {"monitor-listen", "HOST:PORT", "127.0.0.1:7090", "Where livez, readyz and metrics are served", read_address,
     FIELD(monitor_listen), false},
    {"advertise", "HOST[:PORT]", NULL, "Host and port of the worker port as workers reach it", read_advertise, FIELD(advertise),
     false},
    {"token-file", "FILE", NULL, "Who may call: tokens, certificates and their roles (see: millrace token create)", read_text,
     FIELD(token_file), false},
    {"tls-cert", "FILE", NULL, "Encrypt: the server's certificate, PEM, with those between it and its authority", read_text,
     FIELD(tls_certificate_file), false},
    {"tls-key", "FILE", NULL, "The key of that certificate, PEM", read_text, FIELD(tls_key_file), false},
    {"tls-client-ca", "FILE", NULL, "Take only clients with a certificate of these authorities, PEM", read_text,
     FIELD(tls_client_ca_file), false},
    {"monitor-public", NULL, "false", "Allow --monitor-listen on an address that other machines reach: it is never encrypted",
     read_switch, FIELD(monitor_public), false},
    {"insecure", NULL, "false", "Allow any address without encryption, and without asking who calls", read_switch,
     FIELD(insecure), false},
    {"data-dir", "DIRECTORY", "./millrace-data", "Where jobs are stored", read_text, FIELD(data_dir), false},
    {"checkpoint-dir", "DIRECTORY", NULL, "Where AdminService.Checkpoint may write; same file system as the data", read_text,
     FIELD(checkpoint_dir), false},
    {"upgrade-store", NULL, "false",
     "Bring a store of an older format up to this version's, which older versions can't open then", read_switch,
     FIELD(upgrade_store), false},
    {"durability", "WHEN", "sync",
     "When calls are acknowledged: sync (on disk), interval=MS or none (a crash may lose the last ones)", read_durability,
     FIELD(durability), false},
    {"session-timeout", "DURATION", "15s", "Silence after which a worker is given up", read_duration, FIELD(session_timeout_ms),
     false},
    {"reconnect-grace", "DURATION", "5s", "How long a worker that lost its connection may take to come back", read_duration,
     FIELD(reconnect_grace_ms), false},
    {"heartbeat", "DURATION", "5s", "How often workers report that they live", read_duration, FIELD(heartbeat_ms), false},
    {"shutdown-grace", "DURATION", "10s", "How long calls under way may take at a stop", read_duration, FIELD(shutdown_grace_ms),
     false},
    {"max-connections", "NUMBER", "10000", "Connections to all ports together", read_connections, FIELD(connections_max), false},
    {"max-connections-per-address", "NUMBER", "10000", "Connections from one address", read_connections,
     FIELD(connections_per_address_max), false},
    {"max-new-connections-per-second", "NUMBER", "50",
     "Connections that one address may open, twenty times as many at once; 0: any number. If workers share an address: 0, or at "
     "least 3/20 of their number",
     read_rate, FIELD(new_connections_per_second_max), false},
    {"max-messages-per-second", "NUMBER", "0", "Calls and messages of streams from one address; 0: any number", read_rate,
     FIELD(messages_per_second_max), false},
    {"log-format", "text|json", "text", "Format of the log lines on standard error", read_log_format, FIELD(log_format), false},
    {"log-level", "LEVEL", "info", "Least level logged: debug, info, warning or error", read_log_level, FIELD(log_level), false},
    {"port-file", "PATH", NULL, "Write the ports listened on as JSON into this file once the server serves", read_text,
     FIELD(port_file), false},
    {"dev", NULL, "false", "Try it out: a temporary store, removed at the end; prints what to do next", read_switch, FIELD(dev),
     false},
};

static const struct setting *find_setting(const char *name) {
  for (size_t i = 0; i < G_N_ELEMENTS(settings); i++) {
    if (strcmp(settings[i].name, name) == 0)
      return &settings[i];
  }
  return NULL;
}

static char *variable_name(const char *name) {
  char *upper = g_ascii_strup(name, -1);
  char *variable = g_strconcat(ENVIRONMENT_PREFIX, g_strdelimit(upper, "-", '_'), NULL);
  g_free(upper);
  return variable;
}

/* ---- the sources ---- */

/* What was found for each setting, before it is read. */
struct found {
  GPtrArray *values[G_N_ELEMENTS(settings)]; /* NULL: nothing */
  char *origins[G_N_ELEMENTS(settings)];     /* of the values, for error sentences */
  char *config_file;
  gboolean show_version;
};

static void find_value(struct found *found, size_t index, const char *value, const char *origin) {
  if (!found->values[index]) {
    found->values[index] = g_ptr_array_new_with_free_func(g_free);
    found->origins[index] = g_strdup(origin);
  }
  if (!settings[index].many)
    g_ptr_array_set_size(found->values[index], 0);
  g_ptr_array_add(found->values[index], g_strdup(value));
}

static void find_listed(struct found *found, size_t index, const char *value, const char *origin) {
  if (!settings[index].many) {
    find_value(found, index, value, origin);
    return;
  }
  char **parts = g_strsplit(value, ",", LISTEN_MAX + 1);
  for (char **part = parts; *part; part++)
    find_value(found, index, g_strstrip(*part), origin);
  g_strfreev(parts);
}

static gboolean take_flag(const gchar *flag, const gchar *value, gpointer context, GError **problem) {
  (void)problem;
  const struct setting *setting = find_setting(flag + strlen("--"));
  find_value(context, (size_t)(setting - settings), value ? value : "true", flag);
  return TRUE;
}

static char *setting_help(const struct setting *setting) {
  char *variable = variable_name(setting->name);
  char *help = setting->initial ? g_strdup_printf("%s [%s; default %s]", setting->help, variable, setting->initial)
                                : g_strdup_printf("%s [%s]", setting->help, variable);
  g_free(variable);
  return help;
}

static const char help_summary[] =
    "A durable background-job service. Settings come from flags, else from the environment, else from the "
    "key file\n(group [" FILE_GROUP "], keys as the flags), else from the defaults.";
static const char help_description[] =
    "Exit status: 0 stopped as asked (SIGTERM, SIGINT; another one later: at once, with 1), 1 could not start,\n"
    "2 wrong settings, 65 the store lost durable writes or is damaged (see: millrace repair), 70 the store failed\n"
    "while running: nothing that was acknowledged is lost, start it again.\n\nTry it out: millraced --dev";

static enum status find_flags(int argument_count, char **arguments, struct found *found, struct error *error) {
  const union { /* C has no cast from a function to a gpointer */
    GOptionArgFunc function;
    gpointer pointer;
  } take = {take_flag};
  GOptionEntry entries[G_N_ELEMENTS(settings) + 3] = {{0}};
  GPtrArray *helps = g_ptr_array_new_with_free_func(g_free);
  size_t count = 0;
  for (; count < G_N_ELEMENTS(settings); count++) {
    const struct setting *setting = &settings[count];
    g_ptr_array_add(helps, setting_help(setting));
    entries[count] = (GOptionEntry){setting->name,
                                    0,
                                    setting->argument ? 0 : G_OPTION_FLAG_NO_ARG,
                                    G_OPTION_ARG_CALLBACK,
                                    take.pointer,
                                    helps->pdata[count],
                                    setting->argument};
  }
  entries[count++] = (GOptionEntry){
      "config", 0, 0, G_OPTION_ARG_FILENAME, &found->config_file, "Key file to read settings from [" ENVIRONMENT_PREFIX "CONFIG]",
      "FILE"};
  entries[count] = (GOptionEntry){"version", 0, 0, G_OPTION_ARG_NONE, &found->show_version, "Print the version", NULL};
  GOptionContext *context = g_option_context_new(NULL);
  GOptionGroup *group = g_option_group_new(NULL, NULL, NULL, found, NULL);
  g_option_group_add_entries(group, entries);
  g_option_context_set_main_group(context, group);
  g_option_context_set_summary(context, help_summary);
  g_option_context_set_description(context, help_description);
  GError *problem = NULL;
  enum status status = STATUS_OK;
  if (!g_option_context_parse(context, &argument_count, &arguments, &problem)) {
    status = error_set(error, STATUS_INVALID_ARGUMENT, NULL, "%s; see: millraced --help", problem->message);
    g_error_free(problem);
  } else if (argument_count > 1) {
    status = error_set(error, STATUS_INVALID_ARGUMENT, NULL, "unexpected argument '%s'; see: millraced --help", arguments[1]);
  }
  g_option_context_free(context);
  g_ptr_array_free(helps, TRUE);
  return status;
}

static void find_environment(struct found *found, GPtrArray *warnings) {
  char **names = g_listenv();
  for (char **name = names; *name; name++) {
    if (!g_str_has_prefix(*name, ENVIRONMENT_PREFIX))
      continue;
    char *key = g_strdelimit(g_ascii_strdown(*name + strlen(ENVIRONMENT_PREFIX), -1), "_", '-');
    const struct setting *setting = find_setting(key);
    size_t index = setting ? (size_t)(setting - settings) : 0;
    if (setting && !found->values[index])
      find_listed(found, index, g_getenv(*name), *name);
    else if (!setting && strcmp(key, "config") == 0 && !found->config_file)
      found->config_file = g_strdup(g_getenv(*name));
    else if (!setting && strcmp(key, "config") != 0)
      g_ptr_array_add(warnings, g_strdup_printf("the variable %s is not known; see: millraced --help", *name));
    g_free(key);
  }
  g_strfreev(names);
}

static enum status find_key(struct found *found, GKeyFile *file, const char *key, struct error *error) {
  const struct setting *setting = find_setting(key);
  if (!setting)
    return error_set(error, STATUS_INVALID_ARGUMENT, NULL, "%s: the key '%s' is not known; see: millraced --help",
                     found->config_file, key);
  size_t index = (size_t)(setting - settings);
  if (found->values[index])
    return STATUS_OK;
  char *origin = g_strdup_printf("%s: %s", found->config_file, key);
  char *value = g_key_file_get_string(file, FILE_GROUP, key, NULL);
  find_listed(found, index, value ? value : "", origin);
  g_free(value);
  g_free(origin);
  return STATUS_OK;
}

static enum status find_file(struct found *found, struct error *error) {
  GKeyFile *file = g_key_file_new();
  GError *problem = NULL;
  enum status status = STATUS_OK;
  if (!g_key_file_load_from_file(file, found->config_file, G_KEY_FILE_NONE, &problem)) {
    status = error_set(error, STATUS_INVALID_ARGUMENT, NULL, "%s: %s", found->config_file, problem->message);
    g_error_free(problem);
  }
  char **groups = g_key_file_get_groups(file, NULL);
  for (char **group = groups; *group && !status; group++) {
    if (strcmp(*group, FILE_GROUP) != 0)
      status = error_set(error, STATUS_INVALID_ARGUMENT, NULL, "%s: the group [%s] is not known; there is only [" FILE_GROUP "]",
                         found->config_file, *group);
  }
  char **keys = g_key_file_get_keys(file, FILE_GROUP, NULL, NULL);
  for (char **key = keys; keys && *key && !status; key++)
    status = find_key(found, file, *key, error);
  g_strfreev(keys);
  g_strfreev(groups);
  g_key_file_free(file);
  return status;
}

/* ---- all together ---- */

static enum status read_setting(const struct found *found, size_t index, struct config *config, struct error *error) {
  const struct setting *setting = &settings[index];
  void *field = (char *)config + setting->offset;
  if (!found->values[index]) {
    const char *wrong = setting->initial ? setting->read(setting->initial, field) : NULL;
    g_assert(!wrong);
    return STATUS_OK;
  }
  for (guint i = 0; i < found->values[index]->len; i++) {
    const char *value = found->values[index]->pdata[i];
    const char *wrong = setting->read(value, field);
    if (wrong)
      return error_set(error, STATUS_INVALID_ARGUMENT, NULL, "%s: '%.200s' %s", found->origins[index], value, wrong);
  }
  return STATUS_OK;
}

static bool is_loopback(const char *host) {
  struct in_addr v4;
  struct in6_addr v6;
  if (strcmp(host, "localhost") == 0)
    return true;
  if (inet_pton(AF_INET, host, &v4) == 1)
    return (ntohl(v4.s_addr) >> 24) == 127;
  return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* Other machines may reach a port that is encrypted and asks who calls: tokens that travel in the clear are soon everybody's. */
static enum status check_host(const struct config *config, const char *flag, const char *host, struct error *error) {
  bool encrypts = config->tls_certificate_file != NULL;
  bool asks = config->token_file || config->tls_client_ca_file;
  if (is_loopback(host) || (encrypts && asks))
    return STATUS_OK;
  return error_set(
      error, STATUS_INVALID_ARGUMENT, NULL,
      "--%s: '%s' can be reached from other machines, and this server %s. Listen on 127.0.0.1 or a unix socket; or "
      "encrypt (--tls-cert, --tls-key) and ask who calls (--token-file or --tls-client-ca); or add --insecure if the "
      "network is yours alone",
      flag, host,
      asks       ? "does not encrypt: tokens could be read on the way"
      : encrypts ? "does not ask who calls"
                 : "neither encrypts nor asks who calls");
}

static enum status check_monitor(const struct config *config, struct error *error) {
  if (config->monitor_public || is_loopback(config->monitor_listen.host))
    return STATUS_OK;
  return error_set(error, STATUS_INVALID_ARGUMENT, NULL,
                   "--monitor-listen: '%s' can be reached from other machines, and metrics tell names of queues and tasks to "
                   "whoever asks. Listen on 127.0.0.1, or add --monitor-public",
                   config->monitor_listen.host);
}

static enum status check_reach(const struct config *config, struct error *error) {
  for (char **listen = config->listen; *listen; listen++) {
    struct config_address address = {NULL, 0};
    enum status status = STATUS_OK;
    if (split_address(*listen, true, &address) && !g_str_has_prefix(*listen, "unix:"))
      status = check_host(config, "listen", address.host, error);
    g_free(address.host);
    if (status)
      return status;
  }
  enum status status = check_host(config, "worker-listen", config->worker_listen.host, error);
  return status ? status : check_monitor(config, error);
}

static enum status check_tls(const struct config *config, struct error *error) {
  if (!config->tls_certificate_file != !config->tls_key_file)
    return error_set(error, STATUS_INVALID_ARGUMENT, NULL, "--tls-cert and --tls-key belong together: give both or neither");
  if (config->tls_client_ca_file && !config->tls_certificate_file)
    return error_set(error, STATUS_INVALID_ARGUMENT, NULL,
                     "--tls-client-ca needs encryption: give --tls-cert and --tls-key as well");
  return STATUS_OK;
}

static enum status check_together(const struct found *found, const struct config *config, struct error *error) {
  if (config->dev && found->values[find_setting("data-dir") - settings])
    return error_set(error, STATUS_INVALID_ARGUMENT, NULL,
                     "--dev makes a store of its own and removes it: leave out --data-dir, or --dev");
  if (config->heartbeat_ms >= config->session_timeout_ms)
    return error_set(error, STATUS_INVALID_ARGUMENT, NULL, "--heartbeat must be shorter than --session-timeout");
  if (config->dev && config->insecure)
    return error_set(error, STATUS_INVALID_ARGUMENT, NULL, "--dev is for this machine only: leave out --insecure, or --dev");
  enum status status = check_tls(config, error);
  return status || config->insecure ? status : check_reach(config, error);
}

static void found_fini(struct found *found) {
  for (size_t i = 0; i < G_N_ELEMENTS(settings); i++) {
    if (found->values[i])
      g_ptr_array_free(found->values[i], TRUE);
    g_free(found->origins[i]);
  }
  g_free(found->config_file);
}

enum status config_read(int argument_count, char **arguments, struct config *out_config, struct error *error) {
  struct found found = {.show_version = FALSE};
  struct config config = {.show_version = false};
  GPtrArray *warnings = g_ptr_array_new();
  enum status status = find_flags(argument_count, arguments, &found, error);
  config.show_version = found.show_version;
  if (!status && !config.show_version) {
    find_environment(&found, warnings);
    if (found.config_file)
      status = find_file(&found, error);
    for (size_t i = 0; i < G_N_ELEMENTS(settings) && !status; i++)
      status = read_setting(&found, i, &config, error);
    if (!status)
      status = check_together(&found, &config, error);
  }
  g_ptr_array_add(warnings, NULL);
  config.warnings = (char **)g_ptr_array_free(warnings, FALSE);
  found_fini(&found);
  if (status)
    config_fini(&config);
  else
    *out_config = config;
  return status;
}

void config_fini(struct config *config) {
  g_strfreev(config->listen);
  g_free(config->worker_listen.host);
  g_free(config->monitor_listen.host);
  g_free(config->advertise.host);
  g_free(config->data_dir);
  g_free(config->checkpoint_dir);
  g_free(config->port_file);
  g_free(config->token_file);
  g_free(config->tls_certificate_file);
  g_free(config->tls_key_file);
  g_free(config->tls_client_ca_file);
  g_strfreev(config->warnings);
}
