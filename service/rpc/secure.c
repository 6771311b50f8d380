/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/secure.h"

#include <glib.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

/* A port, and which version of the certificates it was given last. */
struct port {
  struct secure *secure;
  unsigned version;
};

struct secure {
  pthread_mutex_t lock; /* of what follows */
  char *certificate;
  char *key;
  char *client_ca; /* NULL: clients need none */
  unsigned version;
  GPtrArray *ports; /* struct port */
};

static void forget(struct secure *secure) {
  if (secure->key)
    explicit_bzero(secure->key, strlen(secure->key));
  g_free(secure->certificate);
  g_free(secure->key);
  g_free(secure->client_ca);
}

void secure_set(struct secure *secure, const struct tls_texts *texts) {
  pthread_mutex_lock(&secure->lock);
  forget(secure);
  secure->certificate = g_strdup(texts->certificate);
  secure->key = g_strdup(texts->key);
  secure->client_ca = g_strdup(texts->client_ca);
  secure->version++;
  pthread_mutex_unlock(&secure->lock);
}

struct secure *secure_new(const struct tls_texts *texts) {
  struct secure *secure = g_new0(struct secure, 1);
  pthread_mutex_init(&secure->lock, NULL);
  secure->ports = g_ptr_array_new_with_free_func(g_free);
  secure_set(secure, texts);
  return secure;
}

void secure_free(struct secure *secure) {
  if (!secure)
    return;
  forget(secure);
  g_ptr_array_free(secure->ports, TRUE);
  pthread_mutex_destroy(&secure->lock);
  g_free(secure);
}

/* Called by libgrpc before each handshake. */
static grpc_ssl_certificate_config_reload_status fetch(void *context, grpc_ssl_server_certificate_config **out_config) {
  struct port *port = context;
  struct secure *secure = port->secure;
  grpc_ssl_certificate_config_reload_status status = GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  pthread_mutex_lock(&secure->lock);
  if (port->version != secure->version) {
    const grpc_ssl_pem_key_cert_pair pair = {.private_key = secure->key, .cert_chain = secure->certificate};
    /* libgrpc wants authorities even where it asks clients for nothing: then they are not used. */
    const char *authorities = secure->client_ca ? secure->client_ca : secure->certificate;
    *out_config = grpc_ssl_server_certificate_config_create(authorities, &pair, 1);
    port->version = secure->version;
    status = GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }
  pthread_mutex_unlock(&secure->lock);
  return status;
}

grpc_server_credentials *secure_credentials(struct secure *secure) {
  struct port *port = g_new0(struct port, 1);
  port->secure = secure;
  g_ptr_array_add(secure->ports, port);
  grpc_ssl_client_certificate_request_type request =
      secure->client_ca ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
  return grpc_ssl_server_credentials_create_with_options(
      grpc_ssl_server_credentials_create_options_using_config_fetcher(request, fetch, port));
}
