/* SPDX-License-Identifier: Apache-2.0 */
/* How: one pass over the records (jobs, chains, batches, schedules) adds a 128-bit hash of each row that they imply to a sum per
 * family, one pass over the index families subtracts a hash of each row that is there. What is left over is zero when both sets
 * are equal, whatever their order and size. Only for families where it is not, a slow pass looks up every row by itself and names
 * the culprits. What needs counting instead of comparing is in accounts.c. */
#include "store/check.h"

#include <glib.h>
#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

#include "millrace/v1/chain_service.pb-c.h"
#include "store/accounts.h"
#include "store/format.h"
#include "store/implied.h"
#include "store/keys.h"
#include "store/records.h"
#include "store/walk.h"

enum { PROBLEMS_TOLD_MAX = 100 };

struct sum {
  uint64_t low;
  uint64_t high;
};

struct check {
  struct walk walk;
  const struct check_listener *listener;
  struct check_report report;
  struct accounts *accounts;
  struct arena *arena;        /* the record at hand */
  struct arena *member_arena; /* a second one that it refers to */
  struct sum sums[FAMILIES];
  enum family family; /* being walked */
  struct id log_id;   /* of the log row before, as a job may have many */
  bool has_log_id;
};

/* ---- telling ---- */

static void tell(void *context, const char *sentence) {
  struct check *check = context;
  if (check->report.problems++ < PROBLEMS_TOLD_MAX)
    check->listener->problem(check->listener->context, sentence);
}

static void problem(struct check *check, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void problem(struct check *check, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  char *sentence = g_strdup_vprintf(format, arguments);
  va_end(arguments);
  tell(check, sentence);
  g_free(sentence);
}

struct id_text {
  char text[ID_TEXT_BYTES];
};

static struct id_text text_of(const struct id *id) {
  struct id_text text;
  id_format(id, text.text);
  return text;
}

struct key_text {
  char text[2 * KEY_BYTES_MAX + 1];
};

static struct key_text hex_of(struct slice key) {
  struct key_text hex;
  const uint8_t *bytes = key.data;
  const size_t length = MIN(key.length, KEY_BYTES_MAX);
  for (size_t i = 0; i < length; i++)
    g_snprintf(hex.text + 2 * i, 3, "%02x", bytes[i]);
  hex.text[2 * length] = '\0';
  return hex;
}

/* ---- which rows belong to a record ---- */

/* Families whose rows all follow from other records. */
static bool is_implied(enum family family) {
  switch (family) {
  case FAMILY_READY_LOW:
  case FAMILY_READY_NORMAL:
  case FAMILY_READY_HIGH:
  case FAMILY_READY_CRITICAL:
  case FAMILY_SPECS:
  case FAMILY_RESULTS:
  case FAMILY_TIMERS:
  case FAMILY_PARKED:
  case FAMILY_DEAD:
  case FAMILY_FINISHED:
  case FAMILY_LOGS:
  case FAMILY_UNIQUE:
  case FAMILY_LABELS:
    return true;
  default:
    return false;
  }
}

/* In these only the key follows, the value is content of its own. */
static bool has_content(enum family family) {
  return family == FAMILY_SPECS || family == FAMILY_RESULTS || family == FAMILY_LOGS;
}

/* keys_of and, as if they were index rows without a value, spec, result and log (one row for all its lines: the bare id). */
static void visit_job(const struct job *job, const struct key_visitor *visitor) {
  const struct slice nothing = {"", 0};
  struct key key;
  key_id(&key, &job->id);
  if (job->state != JOB_DELETED)
    visitor->visit(visitor->context, FAMILY_SPECS, &key, nothing);
  if (job->result_apart)
    visitor->visit(visitor->context, FAMILY_RESULTS, &key, nothing);
  if (job->has_log)
    visitor->visit(visitor->context, FAMILY_LOGS, &key, nothing);
  keys_of(job, visitor);
}

static const void *unpack(struct check *check, enum family family, const ProtobufCMessageDescriptor *type,
                          const struct store_row *row) {
  ProtobufCMessage *message = NULL;
  if (record_unpack(type, row->value, check->arena, &message, NULL) != STATUS_OK)
    problem(check, "The row %s of family %s cannot be read.", hex_of(row->key).text, family_names[family]);
  return message;
}

/* A row that can't be read implies none, and was told of in the first pass. */
static void visit_owner(struct check *check, enum family family, const struct store_row *row, const struct key_visitor *visitor) {
  implied_visit(check->accounts, check->arena, family, row, visit_job, visitor);
}

/* ---- the sums ---- */

static struct sum hash_row(enum family family, struct slice key, struct slice value) {
  const XXH128_hash_t of_key = XXH3_128bits_withSeed(key.data, key.length, (uint64_t)family);
  if (has_content(family))
    return (struct sum){of_key.low64, of_key.high64};
  const XXH128_hash_t of_value = XXH3_128bits_withSeed(value.data, value.length, of_key.low64);
  return (struct sum){of_value.low64, of_key.high64 ^ of_value.high64};
}

static void add_row(void *context, enum family family, const struct key *key, struct slice value) {
  struct check *check = context;
  const struct sum hash = hash_row(family, key_slice(key), value);
  check->sums[family].low += hash.low;
  check->sums[family].high += hash.high;
}

static void subtract_row(struct check *check, enum family family, struct slice key, struct slice value) {
  const struct sum hash = hash_row(family, key, value);
  check->sums[family].low -= hash.low;
  check->sums[family].high -= hash.high;
}

static bool agrees(const struct check *check, enum family family) {
  return check->sums[family].low == 0 && check->sums[family].high == 0;
}

/* The job's log is one row to the sums: the bare id, at its first line. False: the row is a further line, or not of its form. */
static bool log_key(struct check *check, struct slice *key) {
  struct id id;
  uint64_t number;
  if (!key_read_log(*key, &id, &number) || (check->has_log_id && id_equal(&id, &check->log_id)))
    return false;
  check->log_id = id;
  check->has_log_id = true;
  *key = (struct slice){check->log_id.bytes, ID_BYTES};
  return true;
}

static void read_content(struct check *check, const struct store_row *row) {
  struct id id;
  struct spec spec;
  uint64_t number;
  arena_reset(check->arena);
  if (check->family == FAMILY_SPECS && key_read_id(row->key, &id)) {
    if (record_unpack_spec(&id, row->value, check->arena, &spec, NULL) != STATUS_OK)
      problem(check, "The spec of job %s cannot be read.", text_of(&id).text);
  } else if (check->family == FAMILY_RESULTS) {
    unpack(check, FAMILY_RESULTS, &millrace__store__v1__result_record__descriptor, row);
  } else if (check->family == FAMILY_LOGS) {
    if (!key_read_log(row->key, &id, &number))
      problem(check, "The key %s of family logs is not of its form.", hex_of(row->key).text);
    unpack(check, FAMILY_LOGS, &millrace__store__v1__log_record__descriptor, row);
  }
}

static enum status subtract_index_row(void *context, const struct store_row *row, struct error *error) {
  struct check *check = context;
  struct slice key = row->key;
  (void)error;
  if (has_content(check->family))
    read_content(check, row);
  if (check->family != FAMILY_LOGS || log_key(check, &key))
    subtract_row(check, check->family, key, row->value);
  return STATUS_OK;
}

/* ---- records, one after the other ---- */

/* Reads a job or answers false when there is none to be read. */
static enum status get_job(struct check *check, const struct id *id, struct job *out_job, bool *out_is_there,
                           struct error *error) {
  struct store_get get;
  const enum status status = walk_get(&check->walk, FAMILY_JOBS, (struct slice){id->bytes, ID_BYTES}, &get, error);
  if (status != STATUS_OK)
    return status;
  arena_reset(check->member_arena);
  *out_is_there = get.value.data && record_unpack_job(id, get.value, check->member_arena, out_job, NULL) == STATUS_OK &&
                  out_job->state != JOB_DELETED;
  store_gets_release(&get, 1);
  return STATUS_OK;
}

static bool step_id(const Millrace__Store__V1__ChainRecord *record, size_t index, struct id *out_id) {
  return index < record->n_job_ids &&
         key_read_id((struct slice){record->job_ids[index].data, record->job_ids[index].len}, out_id);
}

/* A running chain against its steps. A step that ended long ago may be gone if the chain was ended too and then taken up again.
 */
static enum status check_steps(struct check *check, const struct id *chain, const Millrace__Store__V1__ChainRecord *record,
                               struct error *error) {
  uint32_t gone = 0;
  uint32_t succeeded = 0;
  uint32_t to_come = 0;
  for (size_t i = 0; i < record->n_job_ids; i++) {
    struct id id;
    struct job job;
    bool is_there = false;
    if (!step_id(record, i, &id)) {
      problem(check, "Chain %s names step %zu by something that is not an id.", text_of(chain).text, i);
      continue;
    }
    const enum status status = get_job(check, &id, &job, &is_there, error);
    if (status != STATUS_OK)
      return status;
    if (is_there && (!id_equal(&job.chain_id, chain) || job.chain_index != i))
      problem(check, "Job %s is step %zu of chain %s, but does not know it.", text_of(&id).text, i, text_of(chain).text);
    gone += !is_there;
    succeeded += is_there && job.state == JOB_SUCCEEDED;
    to_come += is_there && !job_is_terminal(job.state);
  }
  if (to_come == 0)
    problem(check, "Chain %s runs, but none of its steps does.", text_of(chain).text);
  if (record->succeeded < succeeded || record->succeeded > succeeded + gone)
    problem(check, "Chain %s counts %u steps succeeded, there are %u.", text_of(chain).text, record->succeeded, succeeded);
  return STATUS_OK;
}

static enum status check_chain(void *context, const struct store_row *row, struct error *error) {
  struct check *check = context;
  struct id id;
  arena_reset(check->arena);
  const Millrace__Store__V1__ChainRecord *record =
      unpack(check, FAMILY_CHAINS, &millrace__store__v1__chain_record__descriptor, row);
  if (!record || !key_read_id(row->key, &id)) {
    if (record)
      problem(check, "Family chains holds a key that is not an id.");
    return STATUS_OK;
  }
  const bool has_ended = record->state != MILLRACE__V1__CHAIN_STATE__CHAIN_STATE_RUNNING;
  if (has_ended != (record->delete_at_ms != 0))
    problem(check, "Chain %s %s, but its retention says otherwise.", text_of(&id).text, has_ended ? "has ended" : "runs");
  if (record->state == MILLRACE__V1__CHAIN_STATE__CHAIN_STATE_SUCCEEDED && record->succeeded != record->n_job_ids)
    problem(check, "Chain %s succeeded with %u of %zu steps.", text_of(&id).text, record->succeeded, record->n_job_ids);
  if (!has_ended) {
    const enum status status = check_steps(check, &id, record, error);
    if (status != STATUS_OK)
      return status;
  }
  visit_owner(check, FAMILY_CHAINS, row, &(struct key_visitor){add_row, check});
  return STATUS_OK;
}

static enum status check_batch(void *context, const struct store_row *row, struct error *error) {
  (void)error;
  visit_owner(context, FAMILY_BATCHES, row, &(struct key_visitor){add_row, context});
  return STATUS_OK;
}

static enum status check_schedule(void *context, const struct store_row *row, struct error *error) {
  struct check *check = context;
  (void)error;
  arena_reset(check->arena);
  const Millrace__Store__V1__ScheduleRecord *record =
      unpack(check, FAMILY_SCHEDULES, &millrace__store__v1__schedule_record__descriptor, row);
  if (record && record->uid.len != ID_BYTES)
    problem(check, "Schedule %.*s has no uid.", (int)row->key.length, (const char *)row->key.data);
  visit_owner(check, FAMILY_SCHEDULES, row, &(struct key_visitor){add_row, check});
  return STATUS_OK;
}

/* A step that has not ended against its chain. A job that was retried may have outlived it. */
static enum status check_membership(struct check *check, const struct job *job, struct error *error) {
  if (id_is_zero(&job->chain_id) || job_is_terminal(job->state) || (job->generation > 1 && job->state != JOB_BLOCKED))
    return STATUS_OK;
  struct store_get get;
  const enum status status = walk_get(&check->walk, FAMILY_CHAINS, (struct slice){job->chain_id.bytes, ID_BYTES}, &get, error);
  if (status != STATUS_OK)
    return status;
  arena_reset(check->member_arena);
  const Millrace__Store__V1__ChainRecord *record =
      get.value.data
          ? millrace__store__v1__chain_record__unpack(arena_protobuf(check->member_arena), get.value.length, get.value.data)
          : NULL;
  store_gets_release(&get, 1);
  struct id id;
  if (!record)
    problem(check, "Job %s is a step of chain %s, which is not there.", text_of(&job->id).text, text_of(&job->chain_id).text);
  else if (!step_id(record, job->chain_index, &id) || !id_equal(&id, &job->id))
    problem(check, "Job %s is a step of chain %s, which does not know it.", text_of(&job->id).text, text_of(&job->chain_id).text);
  else if (job->state == JOB_BLOCKED && record->state != MILLRACE__V1__CHAIN_STATE__CHAIN_STATE_RUNNING)
    problem(check, "Job %s waits for its turn in chain %s, which has ended.", text_of(&job->id).text,
            text_of(&job->chain_id).text);
  return STATUS_OK;
}

static enum status check_job(void *context, const struct store_row *row, struct error *error) {
  struct check *check = context;
  struct id id;
  struct job job;
  check->report.jobs++;
  arena_reset(check->arena);
  if (!key_read_id(row->key, &id)) {
    problem(check, "Family jobs holds a key that is not an id.");
    return STATUS_OK;
  }
  if (record_unpack_job(&id, row->value, check->arena, &job, NULL) != STATUS_OK) {
    problem(check, "The record of job %s cannot be read.", text_of(&id).text);
    return STATUS_OK;
  }
  accounts_add(check->accounts, &job);
  visit_job(&job, &(struct key_visitor){add_row, check});
  return check_membership(check, &job, error);
}

/* ---- the slow pass: names what is missing and what is too much in the families that do not agree ---- */

struct search {
  struct check *check;
  struct error *error;
  enum status status;
  /* Looking for one row among those implied by its owner. */
  struct slice key;
  struct slice value;
  bool is_found;
};

static bool slice_equal(struct slice a, struct slice b) {
  return a.length == b.length && memcmp(a.data, b.data, a.length) == 0;
}

static enum status log_is_there(struct check *check, const struct key *id, bool *out_is_there, struct error *error) {
  struct key until;
  struct store_range range = {.family = FAMILY_LOGS, .from = key_slice(id), .limit = 1};
  if (key_after_prefix(id, &until))
    range.until = key_slice(&until);
  struct store_rows rows;
  const enum status status = store_scan(check->walk.store, check->walk.view, &range, &rows, error);
  if (status != STATUS_OK)
    return status;
  *out_is_there = rows.count > 0;
  store_rows_release(&rows);
  return STATUS_OK;
}

static void expect_row(void *context, enum family family, const struct key *key, struct slice value) {
  struct search *search = context;
  struct check *check = search->check;
  if (search->status != STATUS_OK || agrees(check, family))
    return;
  if (family == FAMILY_LOGS) {
    bool is_there = false;
    search->status = log_is_there(check, key, &is_there, search->error);
    if (search->status == STATUS_OK && !is_there)
      problem(check, "The log of job %s is missing.", hex_of(key_slice(key)).text);
    return;
  }
  struct store_get get;
  search->status = walk_get(&check->walk, family, key_slice(key), &get, search->error);
  if (search->status != STATUS_OK)
    return;
  if (!get.value.data)
    problem(check, "The row %s of family %s is missing.", hex_of(key_slice(key)).text, family_names[family]);
  else if (!has_content(family) && !slice_equal(get.value, value))
    problem(check, "The row %s of family %s holds %s instead of %s.", hex_of(key_slice(key)).text, family_names[family],
            hex_of(get.value).text, hex_of(value).text);
  store_gets_release(&get, 1);
}

static enum status expect_rows_of(void *context, const struct store_row *row, struct error *error) {
  struct search search = {.check = context, .error = error};
  visit_owner(context, search.check->family, row, &(struct key_visitor){expect_row, &search});
  return search.status;
}

static void compare_row(void *context, enum family family, const struct key *key, struct slice value) {
  struct search *search = context;
  (void)value; /* a wrong value has been told by expect_row */
  if (family == search->check->family && slice_equal(key_slice(key), search->key))
    search->is_found = true;
}

/* Where the record that implies an index row would be. False: the row is not of its family's form. */
static bool owner_of(enum family family, const struct store_row *row, enum family *out_family, struct slice *out_key,
                     struct id *id) {
  uint32_t queue;
  int64_t time_ms;
  uint64_t number;
  enum timer_kind kind;
  bool is_form;
  *out_family = FAMILY_JOBS;
  *out_key = (struct slice){id->bytes, ID_BYTES};
  switch (family) {
  case FAMILY_SPECS:
  case FAMILY_RESULTS:
    return key_read_id(row->key, id);
  case FAMILY_LOGS:
    return key_read_log(row->key, id, &number);
  case FAMILY_DEAD:
  case FAMILY_FINISHED:
    return key_read_ended(row->key, &queue, &time_ms, id);
  case FAMILY_LABELS:
    return key_read_member(row->key, id);
  case FAMILY_TIMERS:
    is_form = key_read_timer(row->key, &time_ms, &kind, id);
    if (is_form && kind == TIMER_SCHEDULE) {
      *out_family = FAMILY_SCHEDULES;
      *out_key = row->value;
    } else if (is_form && kind == TIMER_CHAIN_END) {
      *out_family = FAMILY_CHAINS;
    } else if (is_form && (kind == TIMER_BATCH_SEAL || kind == TIMER_BATCH_END)) {
      *out_family = FAMILY_BATCHES;
    }
    return is_form;
  default: /* ready, parked, unique */
    return key_read_id(row->value, id);
  }
}

static enum status expect_owner(void *context, const struct store_row *row, struct error *error) {
  struct check *check = context;
  struct search search = {.check = check, .key = row->key};
  enum family owner;
  struct slice owner_key;
  struct id id;
  if (owner_of(check->family, row, &owner, &owner_key, &id)) {
    struct store_get get;
    const enum status status = walk_get(&check->walk, owner, owner_key, &get, error);
    if (status != STATUS_OK)
      return status;
    if (check->family == FAMILY_LOGS)
      search.key = owner_key;
    if (get.value.data)
      visit_owner(check, owner, &(struct store_row){owner_key, get.value}, &(struct key_visitor){compare_row, &search});
    store_gets_release(&get, 1);
  }
  if (!search.is_found)
    problem(check, "The row %s of family %s belongs to no record.", hex_of(row->key).text, family_names[check->family]);
  return STATUS_OK;
}

static enum status explain(struct check *check, struct error *error) {
  static const enum family owners[] = {FAMILY_JOBS, FAMILY_CHAINS, FAMILY_BATCHES, FAMILY_SCHEDULES};
  const uint64_t problems_before = check->report.problems;
  enum status status = STATUS_OK;
  for (size_t i = 0; i < G_N_ELEMENTS(owners) && status == STATUS_OK; i++) {
    check->family = owners[i];
    status = walk_family(&check->walk, owners[i], expect_rows_of, check, error);
  }
  for (enum family family = 0; family < FAMILIES && status == STATUS_OK; family++) {
    if (!is_implied(family) || agrees(check, family))
      continue;
    check->family = family;
    status = walk_family(&check->walk, family, expect_owner, check, error);
  }
  if (status == STATUS_OK && check->report.problems == problems_before)
    problem(check, "Two records claim the same index row.");
  return status;
}

/* ---- all together ---- */

static enum status check_format(struct check *check, struct error *error) {
  struct key key;
  key_meta(&key, "store");
  struct store_get get;
  const enum status status = walk_get(&check->walk, FAMILY_META, key_slice(&key), &get, error);
  if (status != STATUS_OK)
    return status;
  if (!get.value.data) {
    const enum status absent = store_format_absent(check->walk.store, error);
    if (absent == STATUS_DATA_LOSS)
      problem(check, "The store has no format record.");
    return absent == STATUS_DATA_LOSS ? STATUS_OK : absent;
  }
  const enum status format = store_format_check(get.value, error);
  store_gets_release(&get, 1);
  return format;
}

static enum status check_all(struct check *check, struct error *error) {
  static const struct {
    enum family family;
    enum status (*visit)(void *context, const struct store_row *row, struct error *error);
  } records[] = {
      {FAMILY_JOBS, check_job}, {FAMILY_CHAINS, check_chain}, {FAMILY_BATCHES, check_batch}, {FAMILY_SCHEDULES, check_schedule}};
  enum status status = check_format(check, error);
  if (status == STATUS_OK)
    status = accounts_load(check->accounts, &check->walk, error);
  for (size_t i = 0; i < G_N_ELEMENTS(records) && status == STATUS_OK; i++)
    status = walk_family(&check->walk, records[i].family, records[i].visit, check, error);
  if (status != STATUS_OK)
    return status;
  check->report.leases = accounts_compare(check->accounts);
  bool all_agree = true;
  for (enum family family = 0; family < FAMILIES; family++) {
    if (!is_implied(family))
      continue;
    check->family = family;
    status = walk_family(&check->walk, family, subtract_index_row, check, error);
    if (status != STATUS_OK)
      return status;
    all_agree = all_agree && agrees(check, family);
  }
  return all_agree ? STATUS_OK : explain(check, error);
}

enum status store_check(struct store *store, const struct check_listener *listener, struct check_report *out_report,
                        struct error *error) {
  struct check *check = g_new0(struct check, 1);
  check->walk =
      (struct walk){.store = store, .view = store_view_open(store), .progress = listener->progress, .context = listener->context};
  check->listener = listener;
  check->accounts = accounts_new(tell, check);
  check->arena = arena_new(0);
  check->member_arena = arena_new(0);
  const enum status status = check_all(check, error);
  if (status == STATUS_OK)
    *out_report = check->report;
  arena_free(check->member_arena);
  arena_free(check->arena);
  accounts_free(check->accounts);
  store_view_unref(check->walk.view);
  g_free(check);
  return status;
}
