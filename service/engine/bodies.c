/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/bodies.h"

#include <glib.h>
#include <string.h>

struct body {
  struct id id;
  GList link; /* in bodies->order */
  size_t record_bytes;
  size_t spec_bytes;
  uint8_t bytes[];
};

struct bodies {
  GHashTable *by_id;
  GQueue order; /* oldest first */
  size_t bytes;
  size_t bytes_max;
};

struct bodies *bodies_new(size_t bytes_max) {
  struct bodies *bodies = g_new0(struct bodies, 1);
  bodies->by_id = g_hash_table_new(id_hash, id_equal_pointers);
  g_queue_init(&bodies->order);
  bodies->bytes_max = bytes_max;
  return bodies;
}

static size_t body_bytes(const struct body *body) {
  return sizeof *body + body->record_bytes + body->spec_bytes;
}

static void drop(struct bodies *bodies, struct body *body) {
  g_hash_table_remove(bodies->by_id, &body->id);
  g_queue_unlink(&bodies->order, &body->link);
  bodies->bytes -= body_bytes(body);
  g_free(body);
}

void bodies_free(struct bodies *bodies) {
  if (!bodies)
    return;
  while (bodies->order.head)
    drop(bodies, bodies->order.head->data);
  g_hash_table_destroy(bodies->by_id);
  g_free(bodies);
}

void bodies_put(struct bodies *bodies, const struct id *id, struct slice record, struct slice spec) {
  bodies_drop(bodies, id);
  struct body *body = g_malloc(sizeof *body + record.length + spec.length);
  body->id = *id;
  body->link = (GList){.data = body};
  body->record_bytes = record.length;
  body->spec_bytes = spec.length;
  if (record.length)
    memcpy(body->bytes, record.data, record.length);
  if (spec.length)
    memcpy(body->bytes + record.length, spec.data, spec.length);
  g_hash_table_insert(bodies->by_id, &body->id, body);
  g_queue_push_tail_link(&bodies->order, &body->link);
  bodies->bytes += body_bytes(body);
  while (bodies->bytes > bodies->bytes_max)
    drop(bodies, bodies->order.head->data);
}

bool bodies_get(struct bodies *bodies, const struct id *id, struct slice *out_record, struct slice *out_spec) {
  struct body *body = g_hash_table_lookup(bodies->by_id, id);
  if (!body)
    return false;
  *out_record = (struct slice){body->bytes, body->record_bytes};
  *out_spec = (struct slice){body->bytes + body->record_bytes, body->spec_bytes};
  return true;
}

void bodies_drop(struct bodies *bodies, const struct id *id) {
  struct body *body = g_hash_table_lookup(bodies->by_id, id);
  if (body)
    drop(bodies, body);
}
