/* SPDX-License-Identifier: Apache-2.0 */
#include <glib.h>
#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/supplemental/tls/tls.h>

#include "call.h"
#include "fault.h"
#include "link.h"
#include "tls.h"

struct nng_link {
  struct link base;
  struct link_events events;
  nng_socket jobs;
  nng_socket reports;
  nng_aio *receiving;
  nng_aio *sending;
  nng_tls_config *tls; /* NULL: no encryption */
};

/* nng dials again by itself; here the session decides that. No time of nng's prevents it: nng 1.5 waits a random part of it,
 * which may be none. So the dialer goes with its connection. */
static void pipe_removed(nng_pipe pipe, nng_pipe_ev event, void *data) {
  struct nng_link *self = data;
  (void)event;
  nng_dialer_close(nng_pipe_dialer(pipe));
  self->events.broken(self->events.context);
}

static void received(void *data) {
  struct nng_link *self = data;
  if (nng_aio_result(self->receiving) != 0) {
    self->events.broken(self->events.context);
    return;
  }
  nng_msg *message = nng_aio_get_msg(self->receiving);
  struct box *box = box_new();
  Millrace__V1__Deliveries *deliveries =
      box_unpack(box, &millrace__v1__deliveries__descriptor, nng_msg_body(message), nng_msg_len(message));
  nng_msg_free(message);
  if (!deliveries) {
    box_unref(box);
    self->events.broken(self->events.context);
    return;
  }
  self->events.received(self->events.context, box, deliveries);
  nng_recv_aio(self->jobs, self->receiving);
}

static void sent(void *data) {
  struct nng_link *self = data;
  if (nng_aio_result(self->sending) != 0) {
    nng_msg_free(nng_aio_get_msg(self->sending));
    self->events.broken(self->events.context);
    return;
  }
  self->events.sent(self->events.context);
}

static void nng_link_send(struct link *link, const uint8_t *bytes, size_t length) {
  struct nng_link *self = (struct nng_link *)link;
  nng_msg *message;
  if (nng_msg_alloc(&message, 0) != 0 || nng_msg_append(message, bytes, length) != 0)
    g_error("out of memory");
  nng_aio_set_msg(self->sending, message);
  nng_send_aio(self->reports, self->sending);
}

static void nng_link_close(struct link *link) {
  struct nng_link *self = (struct nng_link *)link;
  if (self->jobs.id)
    nng_close(self->jobs);
  if (self->reports.id)
    nng_close(self->reports);
  nng_aio_stop(self->receiving);
  nng_aio_stop(self->sending);
  nng_aio_free(self->receiving);
  nng_aio_free(self->sending);
  if (self->tls)
    nng_tls_config_free(self->tls);
  g_free(self);
}

/* The name that the server's certificate must have: as the client dialled it, unless the server told another host. */
static char *server_name(const struct link_target *target) {
  const char *start = target->url + strlen("wss://");
  bool is_v6 = *start == '[';
  start += is_v6 ? 1 : 0;
  g_autofree char *host = g_strndup(start, strcspn(start, is_v6 ? "]" : ":/"));
  g_autofree char *dialled = client_dialled_host(target->client);
  return strcmp(host, dialled) == 0 ? client_server_name(target->client) : g_steal_pointer(&host);
}

static int set_up_tls(struct nng_link *self, const struct link_target *target) {
  const struct tls *tls = client_tls(target->client);
  if (!g_str_has_prefix(target->url, "wss:"))
    return 0;
  g_autofree char *name = server_name(target);
  int problem = nng_tls_config_alloc(&self->tls, NNG_TLS_MODE_CLIENT);
  if (!problem)
    problem = nng_tls_config_auth_mode(self->tls, NNG_TLS_AUTH_MODE_REQUIRED);
  if (!problem)
    problem = nng_tls_config_server_name(self->tls, name);
  if (!problem && tls->ca)
    problem = nng_tls_config_ca_chain(self->tls, tls->ca, NULL);
  if (!problem && tls->certificate)
    problem = nng_tls_config_own_cert(self->tls, tls->certificate, tls->key, NULL);
  return problem;
}

static int dial(struct nng_link *self, nng_socket socket, const char *url, const char *path, const char *headers) {
  g_autofree char *full = g_strconcat(url, path, NULL);
  nng_dialer dialer;
  nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, LINK_RECEIVE_BYTES_MAX);
  nng_pipe_notify(socket, NNG_PIPE_EV_REM_POST, pipe_removed, self);
  int problem = nng_dialer_create(&dialer, socket, full);
  if (problem)
    return problem;
  problem = nng_dialer_set_string(dialer, NNG_OPT_WS_REQUEST_HEADERS, headers);
  if (!problem && self->tls)
    problem = nng_dialer_set_ptr(dialer, NNG_OPT_TLS_CONFIG, self->tls);
  return problem ? problem : nng_dialer_start(dialer, 0);
}

enum millrace_code link_open_nng(const struct link_target *target, const struct link_events *events, struct link **out_link,
                                 struct millrace_error *error) {
  struct nng_link *self = g_new0(struct nng_link, 1);
  self->base = (struct link){nng_link_send, nng_link_close};
  self->events = *events;
  g_autofree char *headers = g_strdup_printf("Authorization: Bearer %s\r\n", target->session_token);
  int problem = nng_aio_alloc(&self->receiving, received, self);
  if (!problem)
    problem = nng_aio_alloc(&self->sending, sent, self);
  if (!problem)
    problem = nng_pull0_open(&self->jobs);
  if (!problem)
    problem = nng_push0_open(&self->reports);
  if (!problem)
    problem = set_up_tls(self, target);
  if (!problem)
    problem = dial(self, self->jobs, target->url, target->jobs_path, headers);
  if (!problem)
    problem = dial(self, self->reports, target->url, target->reports_path, headers);
  if (problem) {
    nng_link_close(&self->base);
    return fault_set(error, MILLRACE_UNAVAILABLE, NULL, "cannot join the session at %s: %s", target->url, nng_strerror(problem));
  }
  *out_link = &self->base;
  nng_recv_aio(self->jobs, self->receiving);
  return MILLRACE_OK;
}

void link_send(struct link *link, const uint8_t *bytes, size_t length) {
  link->send(link, bytes, length);
}

void link_close(struct link *link) {
  if (link)
    link->close(link);
}
