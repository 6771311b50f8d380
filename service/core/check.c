/* SPDX-License-Identifier: Apache-2.0 */
#include "core/check.h"

#include <glib.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/id.h"
#include "core/limits.h"
#include "core/text.h"
#include "core/time.h"
#include "google/protobuf/timestamp.pb-c.h"

enum { DURATION_TEXT_BYTES = 40, NANOS_MAX = 999999999 };
#define DURATION_SECONDS_MAX INT64_C(315576000000) /* 10,000 years: the type's own limit */

#define INVALID(error, field, ...) error_set(error, STATUS_INVALID_ARGUMENT, field, __VA_ARGS__)

/* ---- single values ---- */

static bool is_name_char(char c) {
  return g_ascii_isalnum(c) || c == '.' || c == '_' || c == ':' || c == '/' || c == '-';
}

enum status check_name(const char *text, const char *field, bool required, struct error *error) {
  size_t length = strlen(text);
  if (length == 0 && required)
    return INVALID(error, field, "%s is required", field);
  if (length > NAME_BYTES_MAX)
    return INVALID(error, field, "a name has at most %d bytes; this one has %zu", NAME_BYTES_MAX, length);
  for (size_t i = 0; i < length; i++)
    if (!is_name_char(text[i]))
      return INVALID(error, field, "a name consists of A-Z a-z 0-9 . _ : / -; '%s' does not", text);
  return STATUS_OK;
}

enum status check_id(const char *text, const char *field, bool required, struct error *error) {
  struct id id;
  if (*text == '\0')
    return required ? INVALID(error, field, "%s is required: a UUID", field) : STATUS_OK;
  if (!id_parse(text, &id))
    return INVALID(error, field, "'%.64s' is not a UUID such as 0190f3a2-5c1e-7b2a-8f00-3a1b2c3d4e5f", text);
  if (id_is_zero(&id))
    return INVALID(error, field, "the nil UUID stands for no %s; leave it unset, or use a real one", field);
  return STATUS_OK;
}

enum status check_text(const char *text, const char *field, size_t bytes_max, struct error *error) {
  size_t length = strlen(text);
  if (length > bytes_max)
    return INVALID(error, field, "%s has at most %zu bytes; this one has %zu", field, bytes_max, length);
  return STATUS_OK;
}

enum status check_header(const char *text, const char *field, size_t bytes_max, struct error *error) {
  for (const char *c = text; *c; c++)
    if (*c < ' ' || *c > '~')
      return INVALID(error, field, "%s consists of visible ASCII characters and blanks", field);
  return check_text(text, field, bytes_max, error);
}

enum status check_range(uint64_t value, const char *field, uint64_t min, uint64_t max, struct error *error) {
  if (value < min || value > max)
    return INVALID(error, field, "%s is %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT "; it is %" G_GUINT64_FORMAT, field, min,
                   max, value);
  return STATUS_OK;
}

enum status check_count(size_t count, const char *field, size_t min, size_t max, struct error *error) {
  if (count > max)
    return INVALID(error, field, "at most %zu %s are taken; there are %zu", max, field, count);
  if (count < min)
    return INVALID(error, field, "%s is required: %zu to %zu of them", field, min, max);
  return STATUS_OK;
}

enum status check_fraction(double value, const char *field, double min, double max, struct error *error) {
  if (!(value >= min && value <= max))
    return INVALID(error, field, "%s is %g to %g; it is %g", field, min, max, value);
  return STATUS_OK;
}

/* "90 days", "1 h", "1500 ms": the biggest unit that leaves no rest. */
static const char *duration_text(int64_t time_ms, char out[static DURATION_TEXT_BYTES]) {
  static const struct {
    int64_t unit_ms;
    const char *name;
  } units[] = {{DAY_MS, "days"}, {HOUR_MS, "h"}, {MINUTE_MS, "min"}, {SECOND_MS, "s"}};
  for (size_t i = 0; i < G_N_ELEMENTS(units); i++)
    if (time_ms != 0 && time_ms % units[i].unit_ms == 0) {
      snprintf(out, DURATION_TEXT_BYTES, "%" G_GINT64_FORMAT " %s", time_ms / units[i].unit_ms, units[i].name);
      return out;
    }
  snprintf(out, DURATION_TEXT_BYTES, "%" G_GINT64_FORMAT " ms", time_ms);
  return out;
}

enum status check_duration(const Google__Protobuf__Duration *duration, const char *field, int64_t min_ms, int64_t max_ms,
                           struct error *error) {
  if (!duration)
    return STATUS_OK;
  int64_t value_ms = time_from_duration(duration);
  bool is_below = value_ms < min_ms || (duration->nanos < 0 && value_ms <= min_ms); /* -1 ns is rounded to 0 ms */
  if (!is_below && value_ms <= max_ms)
    return STATUS_OK;
  char min[DURATION_TEXT_BYTES], max[DURATION_TEXT_BYTES], value[DURATION_TEXT_BYTES];
  return INVALID(error, field, "%s is %s to %s; it is %s", field, duration_text(min_ms, min), duration_text(max_ms, max),
                 duration_text(value_ms, value));
}

enum status check_unset(bool is_set, const char *field, const char *why, struct error *error) {
  return is_set ? INVALID(error, field, "%s must not be set %s", field, why) : STATUS_OK;
}

/* Key (0) or value (1) of a map entry: all maps of the API are string to string, but each has a type of its own. */
static const char *entry_text(const ProtobufCMessage *entry, int which) {
  return *(char *const *)((const char *)entry + entry->descriptor->fields[which].offset);
}

static enum status check_label(const ProtobufCMessage *entry, struct error *error) {
  const char *key = entry_text(entry, 0);
  size_t length = strlen(key);
  if (length == 0 || length > LABEL_KEY_BYTES_MAX)
    return INVALID(error, "", "a label's key has 1 to %d bytes; this one has %zu", LABEL_KEY_BYTES_MAX, length);
  for (size_t i = 0; i < length; i++)
    if (!is_name_char(key[i]))
      return INVALID(error, "", "a label's key consists of A-Z a-z 0-9 . _ : / -; '%s' does not", key);
  length = strlen(entry_text(entry, 1));
  if (length > LABEL_VALUE_BYTES_MAX)
    return INVALID(error, "", "the value of label '%s' has at most %d bytes; it has %zu", key, LABEL_VALUE_BYTES_MAX, length);
  return STATUS_OK;
}

enum status check_labels(size_t count, const void *entries, const char *field, size_t count_max, struct error *error) {
  const ProtobufCMessage *const *list = entries;
  if (count > count_max)
    return INVALID(error, field, "at most %zu labels are taken; there are %zu", count_max, count);
  for (size_t i = 0; i < count; i++) {
    enum status status = check_label(list[i], error);
    if (status) {
      error_prefix_field(error, "%s[\"%.64s\"]", field, entry_text(list[i], 0));
      return status;
    }
    for (size_t j = 0; j < i; j++)
      if (strcmp(entry_text(list[i], 0), entry_text(list[j], 0)) == 0)
        return INVALID(error, field, "label '%s' is there twice", entry_text(list[i], 0));
  }
  return STATUS_OK;
}

/* ---- whole messages ---- */

static enum status check_timestamp(const Google__Protobuf__Timestamp *timestamp, struct error *error) {
  if (timestamp->seconds < TIMESTAMP_MIN_MS / 1000 || timestamp->seconds > TIMESTAMP_MAX_MS / 1000)
    return INVALID(error, "", "a timestamp lies in the years 1 to 9999; seconds are %" G_GINT64_FORMAT, timestamp->seconds);
  if (timestamp->nanos < 0 || timestamp->nanos > NANOS_MAX)
    return INVALID(error, "", "nanos of a timestamp are 0 to %d; they are %d", NANOS_MAX, timestamp->nanos);
  return STATUS_OK;
}

static enum status check_duration_type(const Google__Protobuf__Duration *duration, struct error *error) {
  if (duration->seconds < -DURATION_SECONDS_MAX || duration->seconds > DURATION_SECONDS_MAX)
    return INVALID(error, "", "a duration is at most 10,000 years; seconds are %" G_GINT64_FORMAT, duration->seconds);
  if (duration->nanos < -NANOS_MAX || duration->nanos > NANOS_MAX)
    return INVALID(error, "", "nanos of a duration are -%d to %d; they are %d", NANOS_MAX, NANOS_MAX, duration->nanos);
  if ((duration->seconds > 0 && duration->nanos < 0) || (duration->seconds < 0 && duration->nanos > 0))
    return INVALID(error, "", "seconds and nanos of a duration have the same sign");
  return STATUS_OK;
}

static enum status check_enum(const ProtobufCEnumDescriptor *type, int value, struct error *error) {
  if (protobuf_c_enum_descriptor_get_value(type, value))
    return STATUS_OK;
  GString *known = g_string_new(NULL);
  for (unsigned i = 0; i < type->n_values; i++)
    g_string_append_printf(known, "%s%s", i ? ", " : "", type->values[i].name);
  enum status status = INVALID(error, "", "%d is not a %s; these are: %s", value, type->short_name, known->str);
  g_string_free(known, TRUE);
  return status;
}

static enum status walk(const ProtobufCMessage *message, struct error *error);

static enum status walk_value(const ProtobufCFieldDescriptor *field, const void *value, struct error *error) {
  switch (field->type) {
  case PROTOBUF_C_TYPE_STRING: {
    const char *text = *(char *const *)value;
    return text_is_utf8(text, strlen(text)) ? STATUS_OK : INVALID(error, "", "the text is not valid UTF-8");
  }
  case PROTOBUF_C_TYPE_ENUM:
    return check_enum(field->descriptor, *(const int *)value, error);
  case PROTOBUF_C_TYPE_DOUBLE:
    return isfinite(*(const double *)value) ? STATUS_OK : INVALID(error, "", "the number is not finite");
  case PROTOBUF_C_TYPE_MESSAGE: {
    const ProtobufCMessage *child = *(ProtobufCMessage *const *)value;
    return child ? walk(child, error) : STATUS_OK;
  }
  default:
    return STATUS_OK;
  }
}

/* Puts the field's name, and the item's number in a list, before the path of what is inside it. */
static enum status at_field(const ProtobufCFieldDescriptor *field, size_t item, enum status status, struct error *error) {
  if (field->label == PROTOBUF_C_LABEL_REPEATED)
    error_prefix_field(error, "%s[%zu].", field->name, item);
  else
    error_prefix_field(error, "%s.", field->name);
  return status;
}

static size_t size_of(ProtobufCType type) {
  switch (type) {
  case PROTOBUF_C_TYPE_STRING:
  case PROTOBUF_C_TYPE_MESSAGE:
    return sizeof(void *);
  case PROTOBUF_C_TYPE_DOUBLE:
    return sizeof(double);
  case PROTOBUF_C_TYPE_ENUM:
    return sizeof(int);
  default:
    return 0; /* nothing to check inside */
  }
}

/* Recursion is as deep as the types of the API are nested, which contain none that contains itself. */
static enum status walk(const ProtobufCMessage *message, struct error *error) {
  const ProtobufCMessageDescriptor *type = message->descriptor;
  if (type == &google__protobuf__timestamp__descriptor)
    return check_timestamp((const Google__Protobuf__Timestamp *)message, error);
  if (type == &google__protobuf__duration__descriptor)
    return check_duration_type((const Google__Protobuf__Duration *)message, error);
  const char *base = (const char *)message;
  for (unsigned i = 0; i < type->n_fields; i++) {
    const ProtobufCFieldDescriptor *field = &type->fields[i];
    size_t item_bytes = size_of(field->type);
    if (item_bytes == 0)
      continue;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
      size_t count = *(const size_t *)(const void *)(base + field->quantifier_offset);
      const char *items = *(char *const *)(const void *)(base + field->offset);
      for (size_t item = 0; item < count; item++) {
        enum status status = walk_value(field, items + item * item_bytes, error);
        if (status)
          return at_field(field, item, status, error);
      }
      continue;
    }
    bool is_oneof = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
    if (is_oneof && *(const uint32_t *)(const void *)(base + field->quantifier_offset) != field->id)
      continue;
    enum status status = walk_value(field, base + field->offset, error);
    if (status)
      return at_field(field, 0, status, error);
  }
  return STATUS_OK;
}

enum status check_message(const ProtobufCMessage *message, struct error *error) {
  return walk(message, error);
}
