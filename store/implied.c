/* SPDX-License-Identifier: Apache-2.0 */
#include "store/implied.h"

#include <string.h>

#include "core/arena.h"
#include "store/records.h"

enum { ROWS_PER_BATCH = 2000 };

const enum family owning_families[OWNING_FAMILIES] = {FAMILY_JOBS, FAMILY_CHAINS, FAMILY_BATCHES, FAMILY_SCHEDULES};

bool family_is_index(enum family family) {
  switch (family) {
  case FAMILY_READY_LOW:
  case FAMILY_READY_NORMAL:
  case FAMILY_READY_HIGH:
  case FAMILY_READY_CRITICAL:
  case FAMILY_TIMERS:
  case FAMILY_PARKED:
  case FAMILY_DEAD:
  case FAMILY_FINISHED:
  case FAMILY_UNIQUE:
  case FAMILY_LABELS:
    return true;
  default:
    return false;
  }
}

void implied_visit(const struct accounts *accounts, struct arena *arena, enum family family, const struct store_row *row,
                   void (*visit_job)(const struct job *job, const struct key_visitor *visitor),
                   const struct key_visitor *visitor) {
  arena_reset(arena);
  struct id id;
  if (family == FAMILY_SCHEDULES) {
    const Millrace__Store__V1__ScheduleRecord *record =
        millrace__store__v1__schedule_record__unpack(arena_protobuf(arena), row->value.length, row->value.data);
    char *name = arena_zalloc(arena, row->key.length + 1);
    memcpy(name, row->key.data, row->key.length);
    if (record && record->uid.len == ID_BYTES)
      keys_of_schedule(name, record, visitor);
    return;
  }
  if (!key_read_id(row->key, &id))
    return;
  if (family == FAMILY_JOBS) {
    struct job job;
    if (record_unpack_job(&id, row->value, arena, &job, NULL) == STATUS_OK) {
      accounts_place(accounts, &job);
      visit_job(&job, visitor);
    }
  } else if (family == FAMILY_CHAINS) {
    const Millrace__Store__V1__ChainRecord *record =
        millrace__store__v1__chain_record__unpack(arena_protobuf(arena), row->value.length, row->value.data);
    if (record)
      keys_of_chain(&id, record, visitor);
  } else {
    const Millrace__Store__V1__BatchRecord *record =
        millrace__store__v1__batch_record__unpack(arena_protobuf(arena), row->value.length, row->value.data);
    if (record)
      keys_of_batch(&id, record, visitor);
  }
}

/* ---- writing them anew ---- */

struct writer {
  struct store *store;
  struct accounts *accounts;
  struct arena *arena;
  struct store_batch *batch;
  enum family family;
  uint64_t ticket;
};

static void put(void *context, enum family family, const struct key *key, struct slice value) {
  struct writer *writer = context;
  store_batch_put(writer->batch, family, key_slice(key), value);
}

static enum status flush(struct writer *writer, size_t least, struct error *error) {
  if (store_batch_count(writer->batch) < least)
    return STATUS_OK;
  enum status status = store_write(writer->store, writer->batch, &writer->ticket, error);
  store_batch_clear(writer->batch);
  return status;
}

static enum status write_row(void *context, const struct store_row *row, struct error *error) {
  struct writer *writer = context;
  const struct key_visitor visitor = {put, writer};
  implied_visit(writer->accounts, writer->arena, writer->family, row, keys_of, &visitor);
  return flush(writer, ROWS_PER_BATCH, error);
}

static void ignore(void *context, const char *sentence) {
  (void)context, (void)sentence; /* store_check tells */
}

enum status implied_write(struct store *store, struct error *error) {
  struct writer writer = {
      .store = store, .accounts = accounts_new(ignore, NULL), .arena = arena_new(0), .batch = store_batch_new()};
  struct walk walk = {.store = store};
  enum status status = accounts_load(writer.accounts, &walk, error);
  for (size_t i = 0; i < OWNING_FAMILIES && status == STATUS_OK; i++) {
    writer.family = owning_families[i];
    status = walk_family(&walk, writer.family, write_row, &writer, error);
  }
  if (status == STATUS_OK)
    status = flush(&writer, 1, error);
  if (status == STATUS_OK && writer.ticket)
    status = store_sync(store, writer.ticket, error);
  store_batch_free(writer.batch);
  arena_free(writer.arena);
  accounts_free(writer.accounts);
  return status;
}
