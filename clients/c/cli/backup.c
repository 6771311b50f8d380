/* SPDX-License-Identifier: Apache-2.0 */
/* millrace backup: AdminService.StreamBackup into a tar archive; millrace restore: such an archive into a data directory. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "millrace/v1/admin_service.pb-c.h"
#include "stream.h"
#include "tarball.h"

static struct {
  char *file;
  gboolean verify, no_check;
} set;

typedef Millrace__V1__StreamBackupResponse part_message;

/* ---- backup ---- */

struct received {
  struct tarball_writer *writer;
  uint64_t bytes;
  bool is_whole; /* the summary came and agrees */
  char taken_at[TEXT_TIME_BYTES];
};

static bool take_part(struct received *received, const part_message *part) {
  if (part->part_case == MILLRACE__V1__STREAM_BACKUP_RESPONSE__PART_FILE)
    return tarball_begin(received->writer, part->file->name, part->file->bytes);
  if (part->part_case == MILLRACE__V1__STREAM_BACKUP_RESPONSE__PART_DATA) {
    received->bytes += part->data.len;
    progress_show("backed up", received->bytes, 0);
    return tarball_add(received->writer, part->data.data, part->data.len);
  }
  if (part->part_case == MILLRACE__V1__STREAM_BACKUP_RESPONSE__PART_SUMMARY) {
    received->is_whole = part->summary->bytes == received->bytes;
    text_format_time(convert_from_time(part->summary->taken_at), received->taken_at);
  }
  return true;
}

static int receive(struct cli *cli, struct received *received) {
  const Millrace__V1__StreamBackupRequest request = MILLRACE__V1__STREAM_BACKUP_REQUEST__INIT;
  struct millrace_error error;
  struct stream *stream = stream_open(cli->client, METHOD(AdminService, StreamBackup, stream_backup), -1);
  enum millrace_code code = stream_write(stream, &request, &error);
  if (code == MILLRACE_OK)
    stream_close_writes(stream);
  struct box *box;
  part_message *part = NULL;
  bool ok = true;
  while (ok && code == MILLRACE_OK && (code = stream_read(stream, &box, &part, &error)) == MILLRACE_OK && part) {
    ok = take_part(received, part);
    box_unref(box);
  }
  stream_free(stream);
  progress_end();
  if (code != MILLRACE_OK)
    return cli_explain(&error);
  if (!ok)
    return CLI_FAILED;
  return received->is_whole ? CLI_OK : cli_fail(CLI_FAILED, "the server ended the backup before its end");
}

static int back_up_to(struct cli *cli, int file, struct received *received) {
  received->writer = tarball_create(file);
  if (!received->writer)
    return CLI_FAILED;
  int code = receive(cli, received);
  if (code == CLI_OK && !tarball_finish(received->writer))
    code = CLI_FAILED;
  tarball_free(received->writer);
  return code;
}

/* Into a directory that is made and, unless all is well and `keep`, removed. */
static int extract(int file, const char *directory, bool check, bool keep) {
  if (mkdir(directory, 0700) != 0)
    return cli_fail(CLI_FAILED, "can't create %s: %s", directory, g_strerror(errno));
  uint64_t bytes;
  int code = tarball_extract(file, directory, &bytes) ? CLI_OK : CLI_FAILED;
  if (code == CLI_OK && check)
    code = check_store(directory);
  if (code != CLI_OK || !keep)
    tarball_remove_directory(directory);
  return code;
}

static int verify(const char *path) {
  g_autofree char *directory = g_strconcat(path, ".check", NULL);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0)
    return cli_fail(CLI_FAILED, "can't open %s: %s", path, g_strerror(errno));
  int code = extract(file, directory, true, false);
  close(file);
  return code;
}

/* The file has its name only once it is whole, and on disk. */
static int back_up_to_file(struct cli *cli, struct received *received) {
  g_autofree char *part = g_strconcat(set.file, ".part", NULL);
  int file = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (file < 0)
    return cli_fail(CLI_FAILED, "can't create %s: %s", part, g_strerror(errno));
  int code = back_up_to(cli, file, received);
  if (fsync(file) != 0 && code == CLI_OK)
    code = cli_fail(CLI_FAILED, "can't write %s: %s", part, g_strerror(errno));
  close(file);
  if (code == CLI_OK && set.verify)
    code = verify(part);
  if (code == CLI_OK && rename(part, set.file) != 0)
    code = cli_fail(CLI_FAILED, "can't rename %s: %s", part, g_strerror(errno));
  if (code != CLI_OK)
    unlink(part);
  return code;
}

static int run_backup(struct cli *cli, int argc, char **argv) {
  (void)argc;
  (void)argv;
  struct received received = {.bytes = 0};
  bool to_stdout = g_strcmp0(set.file, "-") == 0;
  if (!set.file)
    return cli_fail(CLI_USAGE, "where to? Say -o FILE, or -o - for standard output");
  if (to_stdout && (isatty(STDOUT_FILENO) || set.verify))
    return cli_fail(CLI_USAGE, set.verify ? "--verify needs a file to read again" : "an archive is nothing for a terminal");
  int code = to_stdout ? back_up_to(cli, STDOUT_FILENO, &received) : back_up_to_file(cli, &received);
  if (code == CLI_OK)
    fprintf(stderr, "%s bytes, as of %s\n", show_number(received.bytes), received.taken_at);
  return code;
}

/* ---- restore ---- */

static bool sync_directory(const char *path) {
  int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  bool ok = directory >= 0 && fsync(directory) == 0;
  close(directory);
  return ok;
}

static int run_restore(struct cli *cli, int argc, char **argv) {
  (void)cli;
  (void)argc;
  g_autofree char *target = g_strdup(argv[1]);
  while (strlen(target) > 1 && g_str_has_suffix(target, "/"))
    target[strlen(target) - 1] = '\0';
  g_autofree char *part = g_strconcat(target, ".part", NULL);
  g_autofree char *parent = g_path_get_dirname(target);
  bool from_stdin = strcmp(argv[0], "-") == 0;
  if (rmdir(target) != 0 && errno != ENOENT) /* an empty one may be there, as of a mounted volume's owner */
    return cli_fail(CLI_FAILED, "%s: %s; restore into a directory that is not there", target, g_strerror(errno));
  int file = from_stdin ? STDIN_FILENO : open(argv[0], O_RDONLY | O_CLOEXEC);
  if (file < 0)
    return cli_fail(CLI_FAILED, "can't open %s: %s", argv[0], g_strerror(errno));
  int code = extract(file, part, !set.no_check, true);
  if (!from_stdin)
    close(file);
  if (code == CLI_OK && (!sync_directory(part) || rename(part, target) != 0 || !sync_directory(parent)))
    code = cli_fail(CLI_FAILED, "can't finish %s: %s", target, g_strerror(errno));
  if (code == CLI_OK)
    fprintf(stderr, "restored; start it with: millraced --data-dir %s\n", target);
  return code;
}

#define END                                                                                                                      \
  { NULL, 0, 0, 0, NULL, NULL, NULL }
static const GOptionEntry backup_options[] = {
    {"to", 'o', 0, G_OPTION_ARG_FILENAME, &set.file, "Where to; -: standard output", "FILE|-"},
    {"verify", 0, 0, G_OPTION_ARG_NONE, &set.verify, "Unpack it beside the file and check it, before it gets its name", NULL},
    END};
static const GOptionEntry restore_options[] = {
    {"no-check", 0, 0, G_OPTION_ARG_NONE, &set.no_check, "Compare checksums only; do not run millrace check", NULL}, END};

const struct command backup_commands[] = {
    {"backup", "", "-o FILE|-", "Take a consistent copy of the whole store while everything goes on",
     "A tar archive with checksums. It holds payloads, and hashes of tokens: keep it as safe as the server's disk.",
     backup_options, NULL, 0, 0, false, run_backup},
    {"restore", "", "FILE|- DIR", "Make a data directory from a backup, and check it", NULL, restore_options, NULL, 2, 2, true,
     run_restore},
    {0}};
