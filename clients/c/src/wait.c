/* SPDX-License-Identifier: Apache-2.0 */
#include "wait.h"

#include <glib.h>

enum { SLICE_MS_MAX = 30000, ANSWER_MS = 15000, PAUSE_MS = 500 };

enum millrace_code wait_call(struct millrace_client *client, struct method method, const void *request,
                             Google__Protobuf__Duration *slice, int64_t timeout_ms, bool (*timed_out)(const void *response),
                             struct box **out_box, void *out_response, struct millrace_error *error) {
  int64_t end_us = timeout_ms > 0 ? g_get_monotonic_time() + timeout_ms * 1000 : INT64_MAX;
  /* The first look does not wait: it tells at once whether there is a server and such an id. */
  int64_t slice_ms = 0;
  bool answered = false;
  for (;;) {
    google__protobuf__duration__init(slice);
    slice->seconds = slice_ms / 1000;
    slice->nanos = (int32_t)(slice_ms % 1000 * 1000000);
    enum millrace_code code = call(client, method, request, slice_ms + ANSWER_MS, out_box, out_response, error);
    int64_t left_ms = timeout_ms > 0 ? (end_us - g_get_monotonic_time()) / 1000 : SLICE_MS_MAX;
    slice_ms = CLAMP(left_ms, 0, SLICE_MS_MAX);
    if (code == MILLRACE_OK) {
      answered = true;
      if (!timed_out(*(void **)out_response) || left_ms <= 0)
        return MILLRACE_OK;
      box_unref(*out_box);
      continue;
    }
    bool server_is_away = code == MILLRACE_UNAVAILABLE || code == MILLRACE_DEADLINE_EXCEEDED;
    if (!server_is_away || !answered || left_ms <= 0)
      return code;
    g_usleep((gulong)PAUSE_MS * 1000);
  }
}
