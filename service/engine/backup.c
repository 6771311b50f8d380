/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/time.h"
#include "engine/turn.h"
#include "millrace/v1/admin_service.pb-c.h"
#include "store/format.h"

enum {
  CHUNK_BYTES = 256 << 10,
  STALL_MS = 60 * 1000, /* a reader that takes nothing for so long is ended: the checkpoint keeps old files on disk */
};

struct backup {
  struct engine *engine;
  struct request *request; /* the engine's reference */
  uint8_t chunk[CHUNK_BYTES];
  uint32_t files;
  uint64_t bytes;
};

typedef Millrace__V1__StreamBackupResponse part_message;

/* ---- threads ---- */

static bool side_thread_runs(const struct side_thread *side) {
  return __atomic_load_n(&side->runs, __ATOMIC_ACQUIRE);
}

/* By itself: the next one may begin. */
static void side_thread_ends(struct side_thread *side) {
  __atomic_store_n(&side->runs, false, __ATOMIC_RELEASE);
}

static void side_thread_join(struct side_thread *side) {
  if (side->thread)
    g_thread_join(side->thread);
  side->thread = NULL;
}

static void side_thread_start(struct side_thread *side, const char *name, GThreadFunc run, gpointer take_data) {
  side_thread_join(side); /* the one before has ended */
  __atomic_store_n(&side->runs, true, __ATOMIC_RELEASE);
  side->thread = g_thread_new(name, run, take_data);
}

/* ---- the directory ---- */

/* A flat one. */
static void remove_directory(const char *path) {
  GDir *directory = g_dir_open(path, 0, NULL);
  if (!directory)
    return;
  for (const char *name; (name = g_dir_read_name(directory));) {
    char *file = g_build_filename(path, name, NULL);
    unlink(file);
    g_free(file);
  }
  g_dir_close(directory);
  rmdir(path);
}

void backup_clean(const struct engine *engine) {
  if (engine->options.backup_directory)
    remove_directory(engine->options.backup_directory);
}

/* ---- sending ---- */

static enum status system_error(struct error *error, const char *doing, const char *what) {
  return error_set(error, STATUS_UNAVAILABLE, NULL, "the backup can't %s %s: %s", doing, what, g_strerror(errno));
}

static enum status send_part(struct backup *backup, const part_message *message, struct error *error) {
  struct request *request = backup->request;
  if (__atomic_load_n(&backup->engine->stopping, __ATOMIC_ACQUIRE))
    return error_set(error, STATUS_UNAVAILABLE, NULL, "the server is stopping; take the backup again");
  if (__atomic_load_n(&request->cancelled, __ATOMIC_ACQUIRE))
    return error_set(error, STATUS_CANCELLED, NULL, "the caller left");
  if (!request->event(request, &message->base) || (request->drained && !request->drained(request, STALL_MS)))
    return error_set(error, STATUS_RESOURCE_EXHAUSTED, NULL, "the reader of the backup took nothing for %d seconds or has left",
                     STALL_MS / 1000);
  return STATUS_OK;
}

static enum status send_content(struct backup *backup, int file, const char *name, uint64_t bytes, struct error *error) {
  while (bytes > 0) {
    ssize_t length = read(file, backup->chunk, (size_t)MIN(bytes, (uint64_t)CHUNK_BYTES));
    if (length < 0 && errno == EINTR)
      continue;
    if (length < 0)
      return system_error(error, "read", name);
    if (length == 0)
      return error_set(error, STATUS_DATA_LOSS, NULL, "the backup's file %s is shorter than it was", name);
    part_message message = MILLRACE__V1__STREAM_BACKUP_RESPONSE__INIT;
    message.part_case = MILLRACE__V1__STREAM_BACKUP_RESPONSE__PART_DATA;
    message.data = (ProtobufCBinaryData){(size_t)length, backup->chunk};
    enum status status = send_part(backup, &message, error);
    if (status != STATUS_OK)
      return status;
    bytes -= (uint64_t)length;
  }
  return STATUS_OK;
}

static enum status send_file(struct backup *backup, const char *path, const char *name, struct error *error) {
  struct stat about;
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0 || fstat(file, &about) != 0) {
    system_error(error, "open", name);
    close(file);
    return error->status;
  }
  Millrace__V1__BackupFile header = MILLRACE__V1__BACKUP_FILE__INIT;
  header.name = (char *)name;
  header.bytes = (uint64_t)about.st_size;
  part_message message = MILLRACE__V1__STREAM_BACKUP_RESPONSE__INIT;
  message.part_case = MILLRACE__V1__STREAM_BACKUP_RESPONSE__PART_FILE;
  message.file = &header;
  enum status status = send_part(backup, &message, error);
  if (status == STATUS_OK)
    status = send_content(backup, file, name, header.bytes, error);
  close(file);
  backup->files++;
  backup->bytes += header.bytes;
  return status;
}

static enum status send_files(struct backup *backup, const char *path, struct error *error) {
  GDir *directory = g_dir_open(path, 0, NULL);
  if (!directory)
    return system_error(error, "open", path);
  enum status status = STATUS_OK;
  for (const char *name; status == STATUS_OK && (name = g_dir_read_name(directory));) {
    char *file = g_build_filename(path, name, NULL);
    status = send_file(backup, file, name, error);
    g_free(file);
  }
  g_dir_close(directory);
  return status;
}

static enum status send_summary(struct backup *backup, int64_t taken_ms, struct error *error) {
  Millrace__V1__BackupSummary summary = MILLRACE__V1__BACKUP_SUMMARY__INIT;
  Google__Protobuf__Timestamp taken_at;
  time_to_timestamp(taken_ms, &taken_at);
  summary.files = backup->files;
  summary.bytes = backup->bytes;
  summary.taken_at = &taken_at;
  summary.version = MILLRACE_VERSION;
  summary.store_format = STORE_FORMAT;
  part_message message = MILLRACE__V1__STREAM_BACKUP_RESPONSE__INIT;
  message.part_case = MILLRACE__V1__STREAM_BACKUP_RESPONSE__PART_SUMMARY;
  message.summary = &summary;
  return send_part(backup, &message, error);
}

static gpointer backup_thread(gpointer data) {
  struct backup *backup = data;
  struct engine *engine = backup->engine;
  const char *path = engine->options.backup_directory;
  struct error error;
  remove_directory(path);
  int64_t taken_ms = engine->options.wall_ms(engine->options.clock_context);
  enum status status = store_checkpoint(engine->store, path, &error);
  if (status == STATUS_OK)
    status = send_files(backup, path, &error);
  if (status == STATUS_OK)
    status = send_summary(backup, taken_ms, &error);
  remove_directory(path);
  if (status == STATUS_OK)
    engine_log(engine, 1, "backup sent", "files=%u bytes=%" G_GUINT64_FORMAT, backup->files, backup->bytes);
  else
    engine_log(engine, 2, "backup ended", "reason=\"%s\"", error.message);
  request_finish(backup->request, status == STATUS_OK ? NULL : &error, NULL);
  request_unref(backup->request);
  g_free(backup);
  side_thread_ends(&engine->backup);
  return NULL;
}

/* ---- checkpoints ---- */

struct checkpoint {
  struct engine *engine;
  struct request *request; /* the engine's reference */
  char *path;
};

static gpointer checkpoint_thread(gpointer data) {
  struct checkpoint *checkpoint = data;
  struct engine *engine = checkpoint->engine;
  struct error error;
  Millrace__V1__CheckpointResponse response = MILLRACE__V1__CHECKPOINT_RESPONSE__INIT;
  enum status status = store_checkpoint(engine->store, checkpoint->path, &error);
  response.path = checkpoint->path;
  side_thread_ends(&engine->checkpoint); /* before the answer: whoever has that may ask for the next */
  request_finish(checkpoint->request, status == STATUS_OK ? NULL : &error, status == STATUS_OK ? &response.base : NULL);
  request_unref(checkpoint->request);
  g_free(checkpoint->path);
  g_free(checkpoint);
  return NULL;
}

/* ---- the engine's side ---- */

void backup_stop(struct engine *engine) {
  side_thread_join(&engine->backup);
  side_thread_join(&engine->checkpoint);
}

void stream_backup_apply(struct turn *turn, struct request *request) {
  struct engine *engine = turn->engine;
  if (!engine->options.backup_directory) {
    reply_failure(turn, request, STATUS_FAILED_PRECONDITION, NULL, "this server's store can't be backed up");
    return;
  }
  if (side_thread_runs(&engine->backup)) {
    reply_failure(turn, request, STATUS_RESOURCE_EXHAUSTED, NULL, "a backup is under way already; take one at a time");
    return;
  }
  struct backup *backup = g_new0(struct backup, 1);
  backup->engine = engine;
  backup->request = request;
  side_thread_start(&engine->backup, "backup", backup_thread, backup);
}

void checkpoint_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__CheckpointRequest *message = (const void *)request->message;
  struct engine *engine = turn->engine;
  if (!engine->options.checkpoint_directory) {
    reply_failure(turn, request, STATUS_FAILED_PRECONDITION, NULL, "the server was started without --checkpoint-dir");
    return;
  }
  if (side_thread_runs(&engine->checkpoint)) {
    reply_failure(turn, request, STATUS_RESOURCE_EXHAUSTED, NULL, "a checkpoint is being made already; make one at a time");
    return;
  }
  char *path = g_build_filename(engine->options.checkpoint_directory, message->name, NULL);
  if (g_file_test(path, G_FILE_TEST_EXISTS)) {
    reply_failure(turn, request, STATUS_ALREADY_EXISTS, "name", "the checkpoint '%s' exists already; use another name",
                  message->name);
    g_free(path);
    return;
  }
  struct checkpoint *checkpoint = g_new0(struct checkpoint, 1);
  checkpoint->engine = engine;
  checkpoint->request = request;
  checkpoint->path = path;
  side_thread_start(&engine->checkpoint, "checkpoint", checkpoint_thread, checkpoint);
}
