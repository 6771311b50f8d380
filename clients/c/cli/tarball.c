/* SPDX-License-Identifier: Apache-2.0 */
#include "tarball.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

#define PREFIX "millrace/"
#define SUMS "SHA256SUMS"

enum { BLOCK_BYTES = 256 << 10, SUMS_BYTES_MAX = 64 << 20, NAME_MAX_BYTES = 128 };

static bool refuse(const char *doing, struct archive *archive) {
  cli_fail(CLI_FAILED, "the archive can't be %s: %s", doing, archive_error_string(archive));
  return false;
}

/* ---- writing ---- */

struct tarball_writer {
  struct archive *archive;
  GChecksum *sum; /* of the file at hand; NULL: none */
  char *name;
  GString *sums;
};

struct tarball_writer *tarball_create(int file) {
  struct archive *archive = archive_write_new();
  if (archive_write_set_format_pax_restricted(archive) != ARCHIVE_OK || archive_write_set_bytes_per_block(archive, BLOCK_BYTES) ||
      archive_write_set_bytes_in_last_block(archive, 1) || archive_write_open_fd(archive, file) != ARCHIVE_OK) {
    refuse("written", archive);
    archive_write_free(archive);
    return NULL;
  }
  struct tarball_writer *writer = g_new0(struct tarball_writer, 1);
  writer->archive = archive;
  writer->sums = g_string_new(NULL);
  return writer;
}

static void end_file(struct tarball_writer *writer) {
  if (!writer->sum)
    return;
  g_string_append_printf(writer->sums, "%s  %s\n", g_checksum_get_string(writer->sum), writer->name);
  g_clear_pointer(&writer->sum, g_checksum_free);
  g_clear_pointer(&writer->name, g_free);
}

static bool write_header(struct tarball_writer *writer, const char *name, uint64_t bytes) {
  g_autofree char *path = g_strconcat(PREFIX, name, NULL);
  struct archive_entry *entry = archive_entry_new();
  archive_entry_set_pathname(entry, path);
  archive_entry_set_filetype(entry, AE_IFREG);
  archive_entry_set_perm(entry, 0600);
  archive_entry_set_size(entry, (la_int64_t)bytes);
  archive_entry_set_mtime(entry, time(NULL), 0);
  bool ok = archive_write_header(writer->archive, entry) == ARCHIVE_OK;
  archive_entry_free(entry);
  return ok || refuse("written", writer->archive);
}

bool tarball_begin(struct tarball_writer *writer, const char *name, uint64_t bytes) {
  end_file(writer);
  writer->sum = g_checksum_new(G_CHECKSUM_SHA256);
  writer->name = g_strdup(name);
  return write_header(writer, name, bytes);
}

bool tarball_add(struct tarball_writer *writer, const void *data, size_t length) {
  if (writer->sum)
    g_checksum_update(writer->sum, data, (gssize)length);
  return archive_write_data(writer->archive, data, length) == (la_ssize_t)length || refuse("written", writer->archive);
}

bool tarball_finish(struct tarball_writer *writer) {
  end_file(writer);
  return write_header(writer, SUMS, writer->sums->len) && tarball_add(writer, writer->sums->str, writer->sums->len) &&
         (archive_write_close(writer->archive) == ARCHIVE_OK || refuse("written", writer->archive));
}

void tarball_free(struct tarball_writer *writer) {
  if (!writer)
    return;
  g_clear_pointer(&writer->sum, g_checksum_free);
  g_free(writer->name);
  g_string_free(writer->sums, TRUE);
  archive_write_free(writer->archive);
  g_free(writer);
}

/* ---- reading ---- */

struct reader {
  struct archive *archive;
  const char *directory;
  GHashTable *sums; /* name -> sum of what was read */
  GString *wanted;  /* SHA256SUMS; empty: it has not come */
  uint64_t bytes;
};

/* The plain name behind the prefix; NULL: none of ours. An archive can come from anywhere. */
static const char *plain_name(struct archive_entry *entry) {
  const char *path = archive_entry_pathname(entry);
  if (!path || !g_str_has_prefix(path, PREFIX) || archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry))
    return NULL;
  const char *name = path + strlen(PREFIX);
  size_t length = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
  return length > 0 && length <= NAME_MAX_BYTES && name[length] == '\0' && name[0] != '.' ? name : NULL;
}

static bool read_sums(struct reader *reader) {
  char part[4096];
  la_ssize_t length;
  while ((length = archive_read_data(reader->archive, part, sizeof part)) > 0) {
    g_string_append_len(reader->wanted, part, length);
    if (reader->wanted->len > SUMS_BYTES_MAX) {
      cli_fail(CLI_FAILED, "the archive's " SUMS " is too long");
      return false;
    }
  }
  return length == 0 || refuse("read", reader->archive);
}

static bool write_all(int file, const char *data, size_t length) {
  while (length > 0) {
    ssize_t written = write(file, data, length);
    if (written < 0 && errno != EINTR)
      return false;
    data += MAX(written, 0);
    length -= (size_t)MAX(written, 0);
  }
  return true;
}

static bool copy_content(struct reader *reader, int file, GChecksum *sum) {
  g_autofree char *part = g_malloc(BLOCK_BYTES);
  la_ssize_t length;
  while ((length = archive_read_data(reader->archive, part, BLOCK_BYTES)) > 0) {
    g_checksum_update(sum, (const guchar *)part, length);
    reader->bytes += (uint64_t)length;
    progress_show("read", reader->bytes, 0);
    if (!write_all(file, part, (size_t)length)) {
      cli_fail(CLI_FAILED, "can't write to %s: %s", reader->directory, g_strerror(errno));
      return false;
    }
  }
  return length == 0 || refuse("read", reader->archive);
}

static bool read_file(struct reader *reader, const char *name) {
  g_autofree char *path = g_build_filename(reader->directory, name, NULL);
  int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0) {
    cli_fail(CLI_FAILED, "can't create %s: %s", path, g_strerror(errno));
    return false;
  }
  GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA256);
  bool ok = copy_content(reader, file, sum);
  g_hash_table_insert(reader->sums, g_strdup(name), g_strdup(g_checksum_get_string(sum)));
  g_checksum_free(sum);
  if (fsync(file) != 0 && ok) {
    cli_fail(CLI_FAILED, "can't write %s: %s", path, g_strerror(errno));
    ok = false;
  }
  close(file);
  return ok;
}

static bool read_entries(struct reader *reader) {
  struct archive_entry *entry;
  int code;
  while ((code = archive_read_next_header(reader->archive, &entry)) == ARCHIVE_OK) {
    const char *name = plain_name(entry);
    if (!name) {
      cli_fail(CLI_FAILED, "this is no backup: it holds '%.100s'", archive_entry_pathname(entry));
      return false;
    }
    if (!(strcmp(name, SUMS) == 0 ? read_sums(reader) : read_file(reader, name)))
      return false;
  }
  return code == ARCHIVE_EOF || refuse("read", reader->archive);
}

/* Each file has its line, and each line its file. */
static bool compare_sums(struct reader *reader) {
  if (reader->wanted->len == 0) {
    cli_fail(CLI_FAILED, "the archive has no " SUMS " at its end: the backup was cut off");
    return false;
  }
  char **lines = g_strsplit(reader->wanted->str, "\n", -1);
  guint same = 0, count = 0;
  for (char **line = lines; *line && **line; line++, count++) {
    char **words = g_strsplit(*line, "  ", 2);
    const char *sum = words[1] ? g_hash_table_lookup(reader->sums, words[1]) : NULL;
    bool is_same = sum && strcmp(sum, words[0]) == 0;
    if (!is_same)
      cli_fail(CLI_FAILED, sum ? "%s is not what was backed up" : "%s is missing from the archive", words[1] ? words[1] : *line);
    same += is_same;
    g_strfreev(words);
  }
  g_strfreev(lines);
  if (same == count && count != g_hash_table_size(reader->sums))
    cli_fail(CLI_FAILED, "the archive holds files that its " SUMS " does not name");
  return same == count && count == g_hash_table_size(reader->sums);
}

bool tarball_extract(int file, const char *directory, uint64_t *out_bytes) {
  struct reader reader = {.archive = archive_read_new(), .directory = directory, .wanted = g_string_new(NULL)};
  reader.sums = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  archive_read_support_format_tar(reader.archive);
  archive_read_support_filter_all(reader.archive); /* compressed by hand */
  bool ok = archive_read_open_fd(reader.archive, file, BLOCK_BYTES) == ARCHIVE_OK || refuse("read", reader.archive);
  ok = ok && read_entries(&reader) && compare_sums(&reader);
  progress_end();
  archive_read_free(reader.archive);
  g_hash_table_destroy(reader.sums);
  g_string_free(reader.wanted, TRUE);
  *out_bytes = reader.bytes;
  return ok;
}

void tarball_remove_directory(const char *directory) {
  GDir *entries = g_dir_open(directory, 0, NULL);
  if (!entries)
    return;
  for (const char *name; (name = g_dir_read_name(entries));) {
    g_autofree char *path = g_build_filename(directory, name, NULL);
    unlink(path);
  }
  g_dir_close(entries);
  rmdir(directory);
}
