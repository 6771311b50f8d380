/* SPDX-License-Identifier: Apache-2.0 */
#include "store/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#define NAME "DURABLE"
#define MAGIC "millrace"
#define VERSION 1

/* Little-endian on disk. */
struct record {
  char magic[8];
  uint64_t version;
  uint64_t sequence;
  uint64_t checksum; /* XXH64 of the bytes before it */
};

static enum status system_error(struct error *error, const char *doing, const char *path) {
  return error_set(error, STATUS_UNAVAILABLE, NULL, "Could not %s %s: %s", doing, path, g_strerror(errno));
}

static enum status open_error(struct error *error, const char *path) {
  const char *cure = errno == EACCES ? "; the whole directory must belong to the user that opens the store" : "";
  return error_set(error, STATUS_UNAVAILABLE, NULL, "Could not open %s: %s%s", path, g_strerror(errno), cure);
}

/* To read; *out_file is negative when there is none. */
static enum status file_find(const char *directory, const char *name, int *out_file, struct error *error) {
  g_autofree char *path = g_build_filename(directory, name, NULL);
  *out_file = open(path, O_RDONLY | O_CLOEXEC);
  return *out_file < 0 && errno != ENOENT ? open_error(error, path) : STATUS_OK;
}

enum status durable_find_database(const char *directory, bool *out_exists, struct error *error) {
  int file = -1;
  enum status status = file_find(directory, "CURRENT", &file, error);
  if (status == STATUS_OK) {
    *out_exists = file >= 0;
  }
  if (file >= 0) {
    close(file);
  }
  return status;
}

static bool record_is_good(const struct record *record) {
  return memcmp(record->magic, MAGIC, sizeof record->magic) == 0 && GUINT64_FROM_LE(record->version) == VERSION &&
         GUINT64_FROM_LE(record->checksum) == XXH64(record, offsetof(struct record, checksum), 0);
}

enum status durable_read(const char *directory, enum durable_state *out_state, uint64_t *out_sequence, struct error *error) {
  int file = -1;
  enum status status = file_find(directory, NAME, &file, error);
  if (status != STATUS_OK) {
    return status;
  }
  *out_state = DURABLE_ABSENT;
  if (file >= 0) {
    struct record record;
    ssize_t length = pread(file, &record, sizeof record, 0);
    close(file);
    *out_state = length == (ssize_t)sizeof record && record_is_good(&record) ? DURABLE_GOOD : DURABLE_DAMAGED;
    if (*out_state == DURABLE_GOOD) {
      *out_sequence = GUINT64_FROM_LE(record.sequence);
    }
  }
  return STATUS_OK;
}

enum status durable_write(int file, uint64_t sequence, struct error *error) {
  struct record record = {.version = GUINT64_TO_LE(VERSION), .sequence = GUINT64_TO_LE(sequence)};
  memcpy(record.magic, MAGIC, sizeof record.magic);
  record.checksum = GUINT64_TO_LE(XXH64(&record, offsetof(struct record, checksum), 0));
  if (pwrite(file, &record, sizeof record, 0) != (ssize_t)sizeof record) {
    return system_error(error, "write", NAME);
  }
  return STATUS_OK;
}

static enum status directory_sync(const char *directory, struct error *error) {
  int file = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file < 0) {
    return system_error(error, "open", directory);
  }
  enum status status = fsync(file) == 0 ? STATUS_OK : system_error(error, "sync", directory);
  close(file);
  return status;
}

static enum status file_fill(int file, const char *directory, uint64_t sequence, struct error *error) {
  enum status status = durable_write(file, sequence, error);
  if (status == STATUS_OK && fdatasync(file) != 0) {
    status = system_error(error, "sync", NAME);
  }
  return status == STATUS_OK ? directory_sync(directory, error) : status;
}

enum status durable_open(const char *directory, uint64_t sequence, int *out_file, struct error *error) {
  g_autofree char *path = g_build_filename(directory, NAME, NULL);
  int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) {
    return open_error(error, path);
  }
  enum status status = file_fill(file, directory, sequence, error);
  if (status != STATUS_OK) {
    close(file);
    return status;
  }
  *out_file = file;
  return STATUS_OK;
}

enum status durable_prepare(const char *directory, struct error *error) {
  if (g_mkdir_with_parents(directory, 0700) != 0) {
    return system_error(error, "make", directory);
  }
  g_autofree char *path = g_build_filename(directory, NAME, NULL);
  if (access(path, F_OK) == 0) {
    return STATUS_OK;
  }
  /* Filled beside and renamed: one that a crash or a full disk left empty would look damaged for ever. */
  g_autofree char *fresh = g_strconcat(path, ".new", NULL);
  int file = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (file < 0) {
    return system_error(error, "make", fresh);
  }
  enum status status = file_fill(file, directory, 0, error);
  close(file);
  if (status == STATUS_OK && rename(fresh, path) != 0) {
    status = system_error(error, "make", path);
  }
  return status == STATUS_OK ? directory_sync(directory, error) : status;
}

void durable_close(int file) {
  if (file >= 0) {
    (void)fdatasync(file); /* only makes the next check stronger */
    close(file);
  }
}
