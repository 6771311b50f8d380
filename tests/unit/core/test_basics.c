/* SPDX-License-Identifier: Apache-2.0 */
/* Errors, arenas, ids, texts, times, JSON. */
#include "testing.h"

#include "core/arena.h"
#include "core/error.h"
#include "core/id.h"
#include "core/json.h"
#include "core/limits.h"
#include "core/text.h"
#include "core/time.h"

static void test_error_tells_what_and_where(void **state) {
  (void)state;
  struct error error;
  memset(&error, 0x55, sizeof error);
  assert_int_equal(error_set(&error, STATUS_NOT_FOUND, "id", "no job %d", 5), STATUS_NOT_FOUND);
  assert_string_equal(error.field, "id");
  assert_string_equal(error.message, "no job 5");
  assert_string_equal(error.reason, "");
  assert_string_equal(error.subject, "");
  assert_int_equal(error.retry_after_ms, 0);
  assert_int_equal(error_reason(&error, "JOB_DELETED", "x"), STATUS_NOT_FOUND);
  error_prefix_field(&error, "jobs[%d].", 3);
  assert_string_equal(error.field, "jobs[3].id");
  assert_string_equal(error.reason, "JOB_DELETED");
  assert_string_equal(error.subject, "x");
  error_set(&error, STATUS_INTERNAL, error.field, "%s", error.message); /* from itself */
  assert_string_equal(error.field, "jobs[3].id");
  assert_string_equal(error.message, "no job 5");
  assert_int_equal(error_set(NULL, STATUS_INTERNAL, NULL, "x"), STATUS_INTERNAL);
  error_prefix_field(NULL, "x");
  error_set(&error, STATUS_RESOURCE_EXHAUSTED, NULL, "no room");
  error_prefix_field(&error, "items[%d].", 0);
  error_prefix_field(&error, "batch.");
  assert_string_equal(error.field, "batch.items[0]");
}

static void test_times_beyond_all_clocks_are_the_furthest(void **state) {
  (void)state;
  Google__Protobuf__Timestamp timestamp = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
  Google__Protobuf__Duration duration = GOOGLE__PROTOBUF__DURATION__INIT;
  timestamp.seconds = duration.seconds = INT64_MAX / 1000 + 1;
  assert_true(time_from_timestamp(&timestamp) == INT64_MAX && time_from_duration(&duration) == INT64_MAX);
  timestamp.seconds = duration.seconds = INT64_MAX / 1000; /* the sum is too much */
  timestamp.nanos = duration.nanos = 999999999;
  assert_true(time_from_timestamp(&timestamp) == INT64_MAX && time_from_duration(&duration) == INT64_MAX);
  timestamp.seconds = duration.seconds = INT64_MIN;
  assert_true(time_from_timestamp(&timestamp) == INT64_MIN && time_from_duration(&duration) == INT64_MIN);
}

static void test_error_cuts_long_texts_between_characters(void **state) {
  (void)state;
  GString *text = g_string_new("x");
  for (int i = 0; i < 2000; i++)
    g_string_append(text, "é");
  struct error error;
  error_set(&error, STATUS_INTERNAL, text->str, "%s", text->str);
  error_reason(&error, text->str, text->str);
  error_prefix_field(&error, "%s", text->str);
  assert_true(g_utf8_validate(error.message, -1, NULL) && strlen(error.message) >= sizeof error.message - 2);
  assert_true(g_utf8_validate(error.field, -1, NULL) && strlen(error.field) >= sizeof error.field - 2);
  assert_true(g_utf8_validate(error.reason, -1, NULL));
  assert_true(g_utf8_validate(error.subject, -1, NULL));
  error_set(&error, STATUS_INTERNAL, NULL, "'%.2s'", text->str); /* which ends within a character */
  assert_true(g_utf8_validate(error.message, -1, NULL) && g_str_has_prefix(error.message, "'x"));
  g_string_free(text, TRUE);
}

static void test_every_status_has_its_name(void **state) {
  (void)state;
  assert_string_equal(status_name(STATUS_OK), "OK");
  assert_string_equal(status_name(STATUS_INVALID_ARGUMENT), "INVALID_ARGUMENT");
  assert_string_equal(status_name(STATUS_UNAUTHENTICATED), "UNAUTHENTICATED");
  assert_string_equal(status_name((enum status)99), "UNKNOWN");
}

static void test_arena(void **state) {
  (void)state;
  struct arena *arena = arena_new(0);
  char *pieces[200];
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < 200; i++) {
      size_t bytes = (size_t)i * 37 % 9000;
      pieces[i] = arena_alloc(arena, bytes);
      assert_int_equal((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
      memset(pieces[i], i, bytes);
    }
    for (int i = 0; i < 200; i++)
      for (size_t b = 0; b < (size_t)i * 37 % 9000; b++)
        assert_int_equal((unsigned char)pieces[i][b], i);
    assert_true(arena_used(arena) > 100000);
    arena_reset(arena);
    assert_int_equal(arena_used(arena), 0);
  }
  assert_string_equal(arena_printf(arena, "%s-%d", "a", 7), "a-7");
  assert_string_equal(arena_strdup(arena, "copy"), "copy");
  assert_memory_equal(arena_memdup(arena, "ab", 2), "ab", 2);
  assert_non_null(arena_memdup(arena, NULL, 0));
  assert_int_equal(((char *)arena_zalloc(arena, 100))[99], 0);
  arena_free(arena);
  arena_free(NULL);
}

static void test_arena_keeps_its_limit(void **state) {
  (void)state;
  struct arena *arena = arena_new(1000);
  assert_null(arena_alloc(arena, 1001));
  assert_null(arena_alloc(arena, SIZE_MAX));
  assert_non_null(arena_alloc(arena, 900));
  assert_null(arena_alloc(arena, 200));
  assert_null(arena_strdup(
      arena, "a text of which there is no room in the arena, since it has nearly all been given out by now, all of it"));
  arena_reset(arena);
  ProtobufCAllocator *allocator = arena_protobuf(arena);
  void *piece = allocator->alloc(allocator->allocator_data, 1000 - 1000 % 16);
  assert_non_null(piece);
  allocator->free(allocator->allocator_data, piece);
  assert_null(allocator->alloc(allocator->allocator_data, 16));
  arena_free(arena);
}

static void test_id_texts(void **state) {
  (void)state;
  const char *text = "0190f3a2-5c1e-7b2a-8f00-3a1b2c3d4e5f";
  struct id id;
  char out[ID_TEXT_BYTES];
  assert_true(id_parse(text, &id));
  id_format(&id, out);
  assert_string_equal(out, text);
  struct id upper;
  assert_true(id_parse("0190F3A2-5C1E-7B2A-8F00-3A1B2C3D4E5F", &upper));
  assert_true(id_equal(&id, &upper) && id_hash(&id) == id_hash(&upper) && id_equal_pointers(&id, &upper));
  static const char *const wrong[] = {"",
                                      "0",
                                      "0190f3a2",
                                      "0190f3a2-5c1e-7b2a-8f00-3a1b2c3d4e5",
                                      "0190f3a2-5c1e-7b2a-8f00-3a1b2c3d4e5f0",
                                      "0190f3a25c1e7b2a8f003a1b2c3d4e5f",
                                      "0190f3a2-5c1e-7b2a-8f00-3a1b2c3d4e5g",
                                      "{0190f3a2-5c1e-7b2a-8f00-3a1b2c3d4e5f}",
                                      "0190f3a2 5c1e-7b2a-8f00-3a1b2c3d4e5f",
                                      "0190f3a2-5c1e-7b2a-8f003-a1b2c3d4e5f"};
  struct id untouched = id;
  for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++)
    assert_false(id_parse(wrong[i], &untouched));
  assert_true(id_equal(&id, &untouched));
}

static void test_id_making(void **state) {
  (void)state;
  struct id id = id_make_v7(INT64_C(0x0123456789ab), 0xFABC, UINT64_MAX);
  char text[ID_TEXT_BYTES];
  id_format(&id, text);
  assert_string_equal(text, "01234567-89ab-7abc-bfff-ffffffffffff");
  struct id later = id_make_v7(INT64_C(0x0123456789ac), 0, 0);
  assert_true(id_compare(&id, &later) < 0);
  struct id a = id_derive(&id, "fire", 1), again = id_derive(&id, "fire", 1);
  struct id b = id_derive(&id, "fire", 2), c = id_derive(&id, "other", 1), d = id_derive(&later, "fire", 1);
  assert_true(id_equal(&a, &again));
  assert_false(id_equal(&a, &b) || id_equal(&a, &c) || id_equal(&a, &d));
  id_format(&a, text);
  assert_int_equal(text[14], '8');
  assert_non_null(strchr("89ab", text[19]));
  /* Stored jobs depend on it: it must never change. */
  struct id base = {{0}};
  struct id known = id_derive(&base, "fire", 1);
  id_format(&known, text);
  assert_string_equal(text, "e427ba1b-bd9f-8aba-b3cb-0b6a1aeb0285");
  assert_true(id_is_zero(&base));
  assert_false(id_is_zero(&a));
}

static void test_utf8(void **state) {
  (void)state;
  static const struct {
    const char *text;
    bool valid;
  } cases[] = {{"", true},
               {"plain ascii, long enough for whole words", true},
               {"01234567\xc3\xa9", true},
               {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", true},
               {"01234567\xc3", false},
               {"\x80", false},
               {"\xc0\x80", false},
               {"\xed\xa0\x80", false},
               {"\xf4\x90\x80\x80", false},
               {"abcdefgh\xff"
                "abcdefgh",
                false}};
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
    assert_int_equal(text_is_utf8(cases[i].text, strlen(cases[i].text)), cases[i].valid);
}

static void test_text_clean(void **state) {
  (void)state;
  static const struct {
    const char *text;
    size_t bytes_max;
    const char *clean;
  } cases[] = {{NULL, 10, ""},
               {"", 10, ""},
               {"abc", 10, "abc"},
               {"abc", 3, "abc"},
               {"abc", 2, "ab"},
               {"abc", 0, ""},
               {"a\xc3\xa9", 3, "a\xc3\xa9"},
               {"a\xc3\xa9", 2, "a"},
               {"\xf0\x9f\x98\x80x", 3, ""},
               {"\xf0\x9f\x98\x80x", 4, "\xf0\x9f\x98\x80"},
               {"a\xff"
                "b",
                10,
                "a\xef\xbf\xbd"
                "b"},
               {"a\xff"
                "b",
                3, "a"},
               {"\xff\xff\xff", 7, "\xef\xbf\xbd\xef\xbf\xbd"},
               {"\x80\x80\x80\x80\x80\x80", 5, "\xef\xbf\xbd"}};
  struct arena *arena = arena_new(0);
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
    assert_string_equal(text_clean(arena, cases[i].text, cases[i].bytes_max), cases[i].clean);
  const char *same = "nothing to do";
  assert_ptr_equal(text_clean(arena, same, 100), same);
  GRand *rand = g_rand_new_with_seed(7);
  for (int i = 0; i < 5000; i++) {
    char noise[40];
    for (size_t j = 0; j + 1 < sizeof noise; j++)
      noise[j] = (char)g_rand_int_range(rand, 1, 256);
    noise[sizeof noise - 1] = '\0';
    size_t bytes_max = (size_t)g_rand_int_range(rand, 0, 60);
    const char *clean = text_clean(arena, noise, bytes_max);
    assert_true(strlen(clean) <= bytes_max && g_utf8_validate(clean, -1, NULL));
  }
  g_rand_free(rand);
  arena_free(arena);
}

static void test_times(void **state) {
  (void)state;
  static const struct {
    int64_t seconds;
    int32_t nanos;
    int64_t timestamp_ms, duration_ms;
  } cases[] = {
      {0, 0, 0, 0}, {1, 999999, 1000, 1001}, {1, 1000000, 1001, 1001}, {-1, 500000000, -500, -500}, {5, 999999999, 5999, 6000}};
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    Google__Protobuf__Timestamp timestamp = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    Google__Protobuf__Duration duration = GOOGLE__PROTOBUF__DURATION__INIT;
    timestamp.seconds = duration.seconds = cases[i].seconds;
    timestamp.nanos = duration.nanos = cases[i].nanos;
    assert_int_equal(time_from_timestamp(&timestamp), cases[i].timestamp_ms);
    assert_int_equal(time_from_duration(&duration), cases[i].duration_ms);
  }
  for (int64_t time_ms = -3001; time_ms < 3001; time_ms += 7) {
    Google__Protobuf__Timestamp timestamp;
    Google__Protobuf__Duration duration;
    time_to_timestamp(time_ms, &timestamp);
    time_to_duration(time_ms, &duration);
    assert_int_equal(time_from_timestamp(&timestamp), time_ms);
    assert_int_equal(time_from_duration(&duration), time_ms);
    assert_true(timestamp.nanos >= 0 && timestamp.nanos < 1000000000);
  }
}

/* ---- JSON ---- */

static void test_json(void **state) {
  (void)state;
  static const struct {
    const char *text;
    const char *told; /* a part of the refusal; NULL: fine */
  } cases[] = {
      {"{}", NULL},
      {"[]", NULL},
      {" null ", NULL},
      {"true", NULL},
      {"-0.5e+10", NULL},
      {"18446744073709551616", NULL},
      {"\"\\u00e9 \xc3\xa9 \\n\"", NULL},
      {"{\"a\": [1, 2.5, {\"b\": null}], \"a\": 1}", NULL},
      {"", "premature EOF"},
      {"   ", "premature EOF"},
      {"{", "premature EOF"},
      {"[1,", "premature EOF"},
      {"\"open", "premature EOF"},
      {"{} {}", "trailing garbage"},
      {"1 x", "trailing garbage"},
      {"NaN", "invalid"},
      {"[NaN]", "invalid"},
      {"-Infinity", "malformed number"},
      {"Infinity", "invalid"},
      {"01", "trailing garbage"},
      {"1.", "malformed number"},
      {".5", "invalid"},
      {"+1", "invalid"},
      {"tru", "invalid"},
      {"truth", "invalid"},
      {"'a'", "invalid"},
      {"{a: 1}", "invalid"},
      {"{1: 1}", "object key"},
      {"{\"a\" 1}", "object key and value"},
      {"{\"a\": 1,}", "not well-formed"},
      {"[1,]", "not well-formed"},
      {"[1 2]", "after array element"},
      {"]", "unallowed token"},
      {"/* c */ 1", "comments are not enabled"},
      {"\"\x01\"", "invalid character inside string"},
      {"\"\\x\"", "inside a string"},
      {"\"\\u12g4\"", "invalid"},
      {"\"\xff\"", "UTF-8"},
      {"\xef\xbb\xbf{}", "invalid"},
  };
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    struct error error = {.message = ""};
    enum status status = json_check(cases[i].text, strlen(cases[i].text), &error);
    if (status != (cases[i].told ? STATUS_INVALID_ARGUMENT : STATUS_OK) ||
        (cases[i].told && !strstr(error.message, cases[i].told)))
      fail_msg("%s: status %d: %s", cases[i].text, status, error.message);
  }
  struct error error;
  assert_int_equal(json_check("{}\0{}", 5, &error), STATUS_INVALID_ARGUMENT);
  assert_int_equal(json_check("{ } x", 3, &error), STATUS_OK); /* no further than told */
}

static char *nested(const char *open, const char *close, int depth) {
  GString *text = g_string_new(NULL);
  for (int i = 0; i < depth; i++)
    g_string_append(text, open);
  g_string_append(text, "1");
  for (int i = 0; i < depth; i++)
    g_string_append(text, close);
  return g_string_free(text, FALSE);
}

static void test_json_depth(void **state) {
  (void)state;
  static const struct {
    const char *open, *close;
    int depth;
    bool fits;
  } cases[] = {{"[", "]", JSON_DEPTH_MAX, true},
               {"[", "]", JSON_DEPTH_MAX + 1, false},
               {"{\"a\":", "}", JSON_DEPTH_MAX, true},
               {"{\"a\":", "}", JSON_DEPTH_MAX + 1, false},
               {"[", "]", 1000000, false},
               {"[", "", 1000000, false}};
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    char *text = nested(cases[i].open, cases[i].close, cases[i].depth);
    struct error error;
    assert_int_equal(json_check(text, strlen(text), &error), cases[i].fits ? STATUS_OK : STATUS_INVALID_ARGUMENT);
    if (!cases[i].fits)
      assert_non_null(strstr(error.message, "deeper than 64"));
    g_free(text);
  }
  GString *wide = g_string_new("[");
  for (int i = 0; i < 1000; i++)
    g_string_append(wide, "{\"a\":[]},");
  g_string_append(wide, "0]");
  assert_int_equal(json_check(wide->str, wide->len, NULL), STATUS_OK); /* depth goes down again */
  g_string_free(wide, TRUE);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_error_tells_what_and_where),
      cmocka_unit_test(test_times_beyond_all_clocks_are_the_furthest),
      cmocka_unit_test(test_error_cuts_long_texts_between_characters),
      cmocka_unit_test(test_every_status_has_its_name),
      cmocka_unit_test(test_arena),
      cmocka_unit_test(test_arena_keeps_its_limit),
      cmocka_unit_test(test_id_texts),
      cmocka_unit_test(test_id_making),
      cmocka_unit_test(test_utf8),
      cmocka_unit_test(test_text_clean),
      cmocka_unit_test(test_times),
      cmocka_unit_test(test_json),
      cmocka_unit_test(test_json_depth),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
