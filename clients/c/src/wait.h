/* SPDX-License-Identifier: Apache-2.0 */
/* wait.h: WaitJob, WaitChain, WaitBatch: the server's own time-out is short, the caller's may be any; a server that restarts
 * meanwhile is waited for, once it has answered. */
#ifndef MILLRACE_CLIENT_WAIT_H
#define MILLRACE_CLIENT_WAIT_H

#include "call.h"
#include "google/protobuf/duration.pb-c.h"

/* `slice` is the request's timeout field. timeout_ms 0: as long as it takes. */
enum millrace_code wait_call(struct millrace_client *client, struct method method, const void *request,
                             Google__Protobuf__Duration *slice, int64_t timeout_ms, bool (*timed_out)(const void *response),
                             struct box **out_box, void *out_response, struct millrace_error *error);

#endif
