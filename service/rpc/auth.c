/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/auth.h"

#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <string.h>

#include "rpc/scope.h"

#define BIT(role) (1U << (role))

static const char bearer[] = "Bearer ";

/* The holders of which roles may call a method of this one. Whoever creates jobs may also look at them. */
static const unsigned holders[] = {
    [ROLE_VIEWER] = BIT(ROLE_VIEWER) | BIT(ROLE_PRODUCER) | BIT(ROLE_ADMIN),
    [ROLE_PRODUCER] = BIT(ROLE_PRODUCER) | BIT(ROLE_ADMIN),
    [ROLE_WORKER] = BIT(ROLE_WORKER) | BIT(ROLE_ADMIN),
    [ROLE_SCALER] = BIT(ROLE_SCALER) | BIT(ROLE_ADMIN),
    [ROLE_ADMIN] = BIT(ROLE_ADMIN),
};
static const char *const needs[] = {[ROLE_VIEWER] = "viewer or producer",
                                    [ROLE_PRODUCER] = "producer",
                                    [ROLE_WORKER] = "worker",
                                    [ROLE_SCALER] = "scaler",
                                    [ROLE_ADMIN] = "admin"};

/* ---- who calls ---- */

/* The value of the authorization header; it lives as long as the call. False: there is none. */
static bool find_authorization(const struct call *call, const char **out_text, size_t *out_length) {
  for (size_t i = 0; i < call->metadata.count; i++) {
    const grpc_metadata *entry = &call->metadata.metadata[i];
    if (grpc_slice_str_cmp(entry->key, "authorization") == 0) {
      *out_text = (const char *)GRPC_SLICE_START_PTR(entry->value);
      *out_length = GRPC_SLICE_LENGTH(entry->value);
      return true;
    }
  }
  return false;
}

/* The common name of the client's certificate, to be freed; NULL: it has none. */
static char *certificate_name(const struct call *call) {
  grpc_auth_context *context = grpc_call_auth_context(call->call);
  char *name = NULL;
  if (context) {
    grpc_auth_property_iterator iterator = grpc_auth_context_find_properties_by_name(context, GRPC_X509_CN_PROPERTY_NAME);
    const grpc_auth_property *property = grpc_auth_property_iterator_next(&iterator);
    if (property)
      name = g_strndup(property->value, property->value_length);
    grpc_auth_context_release(context);
  }
  return name;
}

static enum status identify_by_token(const struct grants *grants, const char *text, size_t length, struct grant **out_grant,
                                     struct error *error) {
  size_t scheme = strlen(bearer);
  if (length <= scheme || g_ascii_strncasecmp(text, bearer, scheme) != 0)
    return error_set(error, STATUS_UNAUTHENTICATED, NULL, "the header 'authorization' must be 'Bearer TOKEN'");
  *out_grant = grants_by_token(grants, text + scheme, length - scheme);
  if (*out_grant)
    return STATUS_OK;
  error_set(error, STATUS_UNAUTHENTICATED, NULL, "the token is not known here, or no longer; ask for a new one");
  return error_reason(error, "TOKEN_UNKNOWN", NULL);
}

static enum status identify_by_certificate(const struct grants *grants, const struct call *call, struct grant **out_grant,
                                           struct error *error) {
  char *name = certificate_name(call);
  enum status status = STATUS_OK;
  *out_grant = name ? grants_by_certificate(grants, name, strlen(name)) : NULL;
  if (!*out_grant && name) {
    error_set(error, STATUS_UNAUTHENTICATED, NULL, "no grant names the certificate '%.100s', and no token was sent", name);
    status = error_reason(error, "CERTIFICATE_UNKNOWN", NULL);
  } else if (!*out_grant) {
    error_set(error, STATUS_UNAUTHENTICATED, NULL,
              "this server asks for a token: set MILLRACE_TOKEN, or send the header 'authorization: Bearer TOKEN'");
    status = error_reason(error, "TOKEN_MISSING", NULL);
  }
  g_free(name);
  return status;
}

/* A token goes before a certificate, so that one behind a proxy's certificate counts. */
static enum status identify(struct call *call, struct error *error) {
  struct rpc_server *server = call->route->server;
  const char *text;
  size_t length;
  bool has_token = find_authorization(call, &text, &length);
  pthread_mutex_lock(&server->grants_lock);
  enum status status = has_token ? identify_by_token(server->grants, text, length, &call->grant, error)
                                 : identify_by_certificate(server->grants, call, &call->grant, error);
  pthread_mutex_unlock(&server->grants_lock);
  return status;
}

/* ---- whether they may ---- */

enum status auth_allow(const struct route *route, struct call *call, struct error *error) {
  if (route->role == ROLE_NONE || !route->server->asks_who)
    return STATUS_OK;
  enum status status = identify(call, error);
  if (status || !call->grant || route->role == ROLE_ANY)
    return status;
  if (!(call->grant->roles & holders[route->role])) {
    error_set(error, STATUS_PERMISSION_DENIED, NULL, "'%.64s' may not call %s: it needs the role %s", call->grant->name,
              route->path, needs[route->role]);
    return error_reason(error, "ROLE_MISSING", NULL);
  }
  if (call->grant->queues && scope_is_wide(route->path)) {
    error_set(error, STATUS_PERMISSION_DENIED, NULL, "'%.64s' is for some queues only, and %s concerns all of them",
              call->grant->name, route->path);
    return error_reason(error, "QUEUE_NOT_GRANTED", NULL);
  }
  return STATUS_OK;
}

void auth_check_lasting(const struct call *call) {
  struct rpc_server *server = call->route->server;
  pthread_mutex_lock(&server->grants_lock);
  bool is_withdrawn = call->grant && !grants_still_has(server->grants, call->grant);
  pthread_mutex_unlock(&server->grants_lock);
  if (is_withdrawn)
    grpc_call_cancel_with_status(call->call, GRPC_STATUS_UNAUTHENTICATED, "the token was withdrawn or changed", NULL);
}

void auth_set_grants(struct rpc_server *server, struct grants *take_grants) {
  pthread_mutex_lock(&server->grants_lock);
  struct grants *before = server->grants;
  server->grants = take_grants;
  pthread_mutex_unlock(&server->grants_lock);
  grants_free(before);
  pthread_mutex_lock(&server->lock);
  for (GList *link = server->lasting.head; link; link = link->next)
    auth_check_lasting(link->data);
  pthread_mutex_unlock(&server->lock);
}

void auth_caller(const struct call *call, char out_name[static CALLER_BYTES], char out_address[static CALLER_BYTES]) {
  char *common_name = call->grant ? NULL : certificate_name(call);
  char *peer = grpc_call_get_peer(call->call);
  g_strlcpy(out_name, call->grant ? call->grant->name : common_name ? common_name : "-", CALLER_BYTES);
  g_strlcpy(out_address, peer, CALLER_BYTES);
  g_free(common_name);
  gpr_free(peer);
}
