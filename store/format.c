/* SPDX-License-Identifier: Apache-2.0 */
#include "store/format.h"

#include <glib.h>

#include "store/keys.h"
#include "store/records.h"

const struct format_steps format_steps = {NULL, 0};

/* NULL: it can't be read. */
static Millrace__Store__V1__StoreRecord *read_record(struct slice value, struct arena *arena, struct error *error) {
  ProtobufCMessage *message;
  if (record_unpack(&millrace__store__v1__store_record__descriptor, value, arena, &message, NULL) == STATUS_OK)
    return (void *)message;
  error_set(error, STATUS_DATA_LOSS, NULL, "the store's format record cannot be read: the store is damaged");
  return NULL;
}

static enum status check_record(const Millrace__Store__V1__StoreRecord *record, struct error *error) {
  if (record->format > STORE_FORMAT)
    return error_set(error, STATUS_FAILED_PRECONDITION, NULL,
                     "the store has format %u, this version of Millrace knows formats up to %d: start the version that wrote it",
                     record->format, STORE_FORMAT);
  if (record->format < STORE_FORMAT)
    return error_set(error, STATUS_FAILED_PRECONDITION, NULL,
                     "the store has format %u, this version of Millrace writes format %d: start the version that wrote it; or "
                     "take a backup, and start this one with --upgrade-store",
                     record->format, STORE_FORMAT);
  if (record->shard != 0)
    return error_set(error, STATUS_FAILED_PRECONDITION, NULL, "the store belongs to shard %u, this server serves shard 0",
                     record->shard);
  return STATUS_OK;
}

enum status store_format_check(struct slice value, struct error *error) {
  struct arena *arena = arena_new(0);
  const Millrace__Store__V1__StoreRecord *record = read_record(value, arena, error);
  enum status status = record ? check_record(record, error) : STATUS_DATA_LOSS;
  arena_free(arena);
  return status;
}

enum status store_format_absent(struct store *store, struct error *error) {
  for (enum family family = 0; family < FAMILIES; family++) {
    struct store_rows rows;
    const enum status status = store_scan(store, NULL, &(struct store_range){.family = family, .limit = 1}, &rows, error);
    if (status != STATUS_OK)
      return status;
    const bool is_empty = rows.count == 0;
    store_rows_release(&rows);
    if (!is_empty)
      return error_set(error, STATUS_DATA_LOSS, NULL,
                       "the store holds %s but not its format record: it is damaged or not Millrace's", family_names[family]);
  }
  return STATUS_OK;
}

/* *out_record NULL: there is none. */
static enum status find_record(struct store *store, struct arena *arena, Millrace__Store__V1__StoreRecord **out_record,
                               struct error *error) {
  struct key key;
  key_meta(&key, "store");
  struct store_get get = {.family = FAMILY_META, .key = key_slice(&key)};
  enum status status = store_get_many(store, NULL, &get, 1, error);
  *out_record = NULL;
  if (status == STATUS_OK && get.value.data) {
    *out_record = read_record(get.value, arena, error);
    status = *out_record ? STATUS_OK : STATUS_DATA_LOSS;
  }
  store_gets_release(&get, 1);
  return status;
}

/* Durable when it returns. */
static enum status write_record(struct store *store, const Millrace__Store__V1__StoreRecord *record, struct arena *arena,
                                struct error *error) {
  struct key key;
  key_meta(&key, "store");
  struct store_batch *batch = store_batch_new();
  store_batch_put(batch, FAMILY_META, key_slice(&key), record_pack(&record->base, arena));
  uint64_t ticket;
  enum status status = store_write(store, batch, &ticket, error);
  if (status == STATUS_OK)
    status = store_sync(store, ticket, error);
  store_batch_free(batch);
  return status;
}

static enum status write_first(struct store *store, uint64_t random_high, uint64_t random_low, struct arena *arena,
                               struct error *error) {
  uint64_t random[2] = {GUINT64_TO_BE(random_high), GUINT64_TO_BE(random_low)};
  Millrace__Store__V1__StoreRecord record = MILLRACE__STORE__V1__STORE_RECORD__INIT;
  record.format = STORE_FORMAT;
  record.store_id = (ProtobufCBinaryData){.len = sizeof random, .data = (uint8_t *)random};
  return write_record(store, &record, arena, error);
}

enum status store_format_open(struct store *store, uint64_t random_high, uint64_t random_low, struct error *error) {
  struct arena *arena = arena_new(0);
  Millrace__Store__V1__StoreRecord *record;
  enum status status = find_record(store, arena, &record, error);
  if (status == STATUS_OK && record) {
    status = check_record(record, error);
  } else if (status == STATUS_OK) {
    status = store_format_absent(store, error);
    if (status == STATUS_OK)
      status = write_first(store, random_high, random_low, arena, error);
  }
  arena_free(arena);
  return status;
}

/* ---- upgrade ---- */

static const struct format_step *find_step(const struct format_steps *steps, uint32_t from) {
  for (size_t i = 0; i < steps->count; i++) {
    if (steps->list[i].from == from)
      return &steps->list[i];
  }
  return NULL;
}

static enum status upgrade(struct store *store, Millrace__Store__V1__StoreRecord *record, const struct format_steps *steps,
                           struct arena *arena, struct error *error) {
  for (uint32_t from = record->format; from < STORE_FORMAT; from++) {
    if (!find_step(steps, from))
      return error_set(error, STATUS_FAILED_PRECONDITION, NULL,
                       "the store has format %u, and this version of Millrace can't bring it from format %u to %u: start the "
                       "version that wrote it",
                       record->format, from, from + 1);
  }
  enum status status = STATUS_OK;
  while (status == STATUS_OK && record->format < STORE_FORMAT) {
    status = find_step(steps, record->format)->run(store, error);
    record->format++;
    if (status == STATUS_OK)
      status = write_record(store, record, arena, error);
  }
  return status;
}

enum status store_format_upgrade(struct store *store, const struct format_steps *steps, struct error *error) {
  struct arena *arena = arena_new(0);
  Millrace__Store__V1__StoreRecord *record;
  enum status status = find_record(store, arena, &record, error);
  if (status == STATUS_OK && record)
    status = upgrade(store, record, steps, arena, error);
  arena_free(arena);
  return status;
}
