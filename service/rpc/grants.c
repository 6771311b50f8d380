/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/grants.h"

#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/secret.h"

enum { FILE_BYTES_MAX = 4 << 20, GRANTS_MAX = 10 * 1000, LIST_MAX = 64, NAME_BYTES_MAX = 64, TEXT_BYTES_MAX = 256 };

/* Who may call a method of which role is said in auth.c; here they are names. */
static const struct {
  const char *name;
  enum role role;
} roles[] = {{"viewer", ROLE_VIEWER},
             {"producer", ROLE_PRODUCER},
             {"worker", ROLE_WORKER},
             {"scaler", ROLE_SCALER},
             {"admin", ROLE_ADMIN}};

struct entry {
  struct grant grant;
  gint references;
  char *name;
  char **queues;
  char *content; /* all of it in one text, for comparison */
};

struct grants {
  GHashTable *by_name;        /* struct entry, owned */
  GHashTable *by_token;       /* hash -> struct entry */
  GHashTable *by_certificate; /* common name -> struct entry */
};

struct reading {
  const char *file;
  GKeyFile *keys;
  struct grants *grants;
};

/* ---- grants ---- */

struct grant *grant_ref(struct grant *grant) {
  g_atomic_int_inc(&((struct entry *)grant)->references);
  return grant;
}

void grant_unref(struct grant *grant) {
  struct entry *entry = (struct entry *)grant;
  if (!entry || !g_atomic_int_dec_and_test(&entry->references))
    return;
  g_free(entry->name);
  g_strfreev(entry->queues);
  g_free(entry->content);
  g_free(entry);
}

static void unref(gpointer entry) {
  grant_unref(entry);
}

bool grant_has_role(const struct grant *grant, enum role role) {
  return (grant->roles & 1U << role) != 0;
}

/* ---- reading ---- */

static enum status refuse(const struct reading *reading, const char *group, const char *key, struct error *error,
                          const char *sentence) {
  return error_set(error, STATUS_INVALID_ARGUMENT, NULL, "%s: [%.64s]%s%s %s", reading->file, group, key ? " " : "",
                   key ? key : "", sentence);
}

/* The values of a key; NULL with STATUS_OK: it is absent. */
static enum status read_list(const struct reading *reading, const char *group, const char *key, char ***out_list,
                             struct error *error) {
  gsize count = 0;
  char **list = g_key_file_get_string_list(reading->keys, group, key, &count, NULL);
  *out_list = NULL;
  if (!list)
    return STATUS_OK;
  bool fits = count > 0 && count <= LIST_MAX;
  for (gsize i = 0; i < count && fits; i++) {
    g_strstrip(list[i]);
    fits = list[i][0] != '\0' && strlen(list[i]) <= TEXT_BYTES_MAX && g_utf8_validate(list[i], -1, NULL);
  }
  if (!fits) {
    g_strfreev(list);
    return refuse(reading, group, key, error, "must have 1 to 64 values of at most 256 bytes, with ';' between them");
  }
  *out_list = list;
  return STATUS_OK;
}

static enum status read_roles(const struct reading *reading, struct entry *entry, struct error *error) {
  char **names;
  enum status status = read_list(reading, entry->name, "roles", &names, error);
  if (!status && !names)
    status = refuse(reading, entry->name, "roles", error, "is missing");
  for (char **name = names; name && *name && !status; name++) {
    size_t i = 0;
    while (i < G_N_ELEMENTS(roles) && strcmp(roles[i].name, *name) != 0)
      i++;
    if (i == G_N_ELEMENTS(roles))
      status = refuse(reading, entry->name, "roles", error, "must be among viewer, producer, worker, scaler and admin");
    else
      entry->grant.roles |= 1U << roles[i].role;
  }
  g_strfreev(names);
  return status;
}

static bool parse_hash(const char *text, uint8_t out_hash[SECRET_HASH_BYTES]) {
  if (strlen(text) != (size_t)2 * SECRET_HASH_BYTES)
    return false;
  for (size_t i = 0; i < SECRET_HASH_BYTES; i++) {
    int high = g_ascii_xdigit_value(text[2 * i]), low = g_ascii_xdigit_value(text[2 * i + 1]);
    if (high < 0 || low < 0)
      return false;
    out_hash[i] = (uint8_t)(high << 4 | low);
  }
  return true;
}

static enum status read_tokens(const struct reading *reading, struct entry *entry, char **texts, struct error *error) {
  for (char **text = texts; text && *text; text++) {
    uint8_t hash[SECRET_HASH_BYTES];
    if (!parse_hash(*text, hash))
      return refuse(reading, entry->name, "token-sha256", error,
                    "must be 64 hexadecimal digits, as `millrace token create` writes them");
    if (g_hash_table_contains(reading->grants->by_token, hash))
      return refuse(reading, entry->name, "token-sha256", error, "is a token that has another name already");
    g_hash_table_insert(reading->grants->by_token, g_memdup2(hash, sizeof hash), entry);
  }
  return STATUS_OK;
}

static enum status read_certificates(const struct reading *reading, struct entry *entry, char **names, struct error *error) {
  for (char **name = names; name && *name; name++) {
    if (g_hash_table_contains(reading->grants->by_certificate, *name))
      return refuse(reading, entry->name, "certificate", error, "is a common name that has another grant already");
    g_hash_table_insert(reading->grants->by_certificate, g_strdup(*name), entry);
  }
  return STATUS_OK;
}

static enum status read_credentials(const struct reading *reading, struct entry *entry, struct error *error) {
  char **tokens = NULL, **certificates = NULL;
  enum status status = read_list(reading, entry->name, "token-sha256", &tokens, error);
  if (!status)
    status = read_list(reading, entry->name, "certificate", &certificates, error);
  if (!status && !tokens && !certificates)
    status = refuse(reading, entry->name, NULL, error, "has neither token-sha256 nor certificate: nobody could use it");
  if (!status)
    status = read_tokens(reading, entry, tokens, error);
  if (!status)
    status = read_certificates(reading, entry, certificates, error);
  g_strfreev(tokens);
  g_strfreev(certificates);
  return status;
}

static enum status read_keys(const struct reading *reading, struct entry *entry, struct error *error) {
  static const char *const known[] = {"roles", "queues", "token-sha256", "certificate", NULL};
  GString *content = g_string_new(entry->name);
  char **keys = g_key_file_get_keys(reading->keys, entry->name, NULL, NULL);
  enum status status = STATUS_OK;
  for (char **key = keys; key && *key && !status; key++) {
    if (!g_strv_contains(known, *key))
      status = refuse(reading, entry->name, NULL, error, "has a key that is none of roles, queues, token-sha256 and certificate");
    char *value = g_key_file_get_value(reading->keys, entry->name, *key, NULL);
    g_string_append_printf(content, "\n%s=%s", *key, value ? value : "");
    g_free(value);
  }
  g_strfreev(keys);
  entry->content = g_string_free(content, FALSE);
  return status;
}

static enum status read_grant(const struct reading *reading, const char *group, struct error *error) {
  struct entry *entry = g_new0(struct entry, 1);
  entry->references = 1;
  entry->name = g_strdup(group);
  entry->grant.name = entry->name;
  g_hash_table_insert(reading->grants->by_name, entry->name, entry);
  if (!g_utf8_validate(group, -1, NULL) || strlen(group) > NAME_BYTES_MAX)
    return refuse(reading, group, NULL, error, "is longer than 64 bytes, or no UTF-8");
  enum status status = read_keys(reading, entry, error);
  if (!status)
    status = read_roles(reading, entry, error);
  if (!status)
    status = read_list(reading, group, "queues", &entry->queues, error);
  if (!status)
    status = read_credentials(reading, entry, error);
  if (entry->queues && !g_strv_contains((const char *const *)entry->queues, "*"))
    entry->grant.queues = (const char *const *)entry->queues;
  return status;
}

/* A key file takes a group that comes twice for one: here the second would silently widen or narrow the first. */
static enum status check_groups(const struct reading *reading, const char *text, struct error *error) {
  GHashTable *seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  char **lines = g_strsplit(text, "\n", -1);
  enum status status = STATUS_OK;
  for (char **line = lines; *line && !status; line++) {
    char *group = g_strstrip(*line);
    char *end = group[0] == '[' ? strchr(group, ']') : NULL;
    if (!end)
      continue;
    char *name = g_strndup(group + 1, (gsize)(end - group - 1));
    if (g_hash_table_contains(seen, name))
      status = refuse(reading, name, NULL, error, "comes twice");
    g_hash_table_add(seen, name);
  }
  if (!status && g_hash_table_size(seen) > GRANTS_MAX)
    status = error_set(error, STATUS_INVALID_ARGUMENT, NULL, "%s: more than %d grants", reading->file, GRANTS_MAX);
  g_strfreev(lines);
  g_hash_table_destroy(seen);
  return status;
}

static enum status read_text(const struct reading *reading, const char *text, struct error *error) {
  GError *problem = NULL;
  enum status status = check_groups(reading, text, error);
  if (status)
    return status;
  if (!g_key_file_load_from_data(reading->keys, text, (gsize)-1, G_KEY_FILE_NONE, &problem)) {
    error_set(error, STATUS_INVALID_ARGUMENT, NULL, "%s: it is no key file: each line must be [name], key=value or # comment",
              reading->file); /* glib's sentence quotes the line, which may be a token */
    g_error_free(problem);
    return STATUS_INVALID_ARGUMENT;
  }
  char **groups = g_key_file_get_groups(reading->keys, NULL);
  for (char **group = groups; *group && !status; group++)
    status = read_grant(reading, *group, error);
  g_strfreev(groups);
  return status;
}

/* To be freed; NULL: it can't be read, or must not be trusted. */
static char *read_file(const char *file, struct error *error) {
  GStatBuf about;
  GError *problem = NULL;
  char *text = NULL;
  gsize length;
  if (g_stat(file, &about) == 0 && S_ISREG(about.st_mode) && about.st_size > FILE_BYTES_MAX) {
    error_set(error, STATUS_INVALID_ARGUMENT, NULL, "%s: more than %d MiB", file, FILE_BYTES_MAX >> 20);
  } else if (g_stat(file, &about) == 0 && about.st_mode & S_IWOTH) {
    error_set(error, STATUS_INVALID_ARGUMENT, NULL, "%s: everybody on this machine may write it; say chmod o-w", file);
  } else if (!g_file_get_contents(file, &text, &length, &problem)) {
    error_set(error, STATUS_INVALID_ARGUMENT, NULL, "--token-file: %s", problem->message);
    g_error_free(problem);
  } else if (strlen(text) != length) {
    error_set(error, STATUS_INVALID_ARGUMENT, NULL, "%s: it is no text", file);
    g_clear_pointer(&text, g_free);
  }
  return text;
}

/* ---- the table ---- */

enum status grants_load(const char *file, struct grants **out_grants, struct error *error) {
  char *text = read_file(file, error);
  if (!text)
    return STATUS_INVALID_ARGUMENT;
  struct grants *grants = g_new0(struct grants, 1);
  grants->by_name = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, unref);
  grants->by_token = g_hash_table_new_full(secret_key_hash, secret_key_equal, g_free, NULL);
  grants->by_certificate = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  struct reading reading = {.file = file, .keys = g_key_file_new(), .grants = grants};
  enum status status = read_text(&reading, text, error);
  g_key_file_free(reading.keys);
  g_free(text);
  if (status)
    grants_free(grants);
  else
    *out_grants = grants;
  return status;
}

void grants_free(struct grants *grants) {
  if (!grants)
    return;
  g_hash_table_destroy(grants->by_token);
  g_hash_table_destroy(grants->by_certificate);
  g_hash_table_destroy(grants->by_name);
  g_free(grants);
}

size_t grants_count(const struct grants *grants) {
  return g_hash_table_size(grants->by_name);
}

static struct grant *found(struct entry *entry) {
  return entry ? grant_ref(&entry->grant) : NULL;
}

struct grant *grants_by_token(const struct grants *grants, const char *token, size_t length) {
  uint8_t hash[SECRET_HASH_BYTES];
  secret_hash(token, length, hash);
  return found(g_hash_table_lookup(grants->by_token, hash));
}

struct grant *grants_by_certificate(const struct grants *grants, const char *common_name, size_t length) {
  char *name = g_strndup(common_name, length);
  struct entry *entry = strlen(name) == length ? g_hash_table_lookup(grants->by_certificate, name) : NULL;
  g_free(name);
  return found(entry);
}

bool grants_still_has(const struct grants *grants, const struct grant *grant) {
  const struct entry *entry = g_hash_table_lookup(grants->by_name, grant->name);
  return entry && strcmp(entry->content, ((const struct entry *)grant)->content) == 0;
}
