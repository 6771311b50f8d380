/* SPDX-License-Identifier: Apache-2.0 */
#include "workers/peer.h"

#include <glib.h>
#include <netinet/in.h>
#include <string.h>

#include "workers/guard.h"

static const char authorization_scheme[] = "Bearer ";

bool peer_hash_token(const char *authorization, uint8_t out_hash[SECRET_HASH_BYTES]) {
  const size_t scheme_length = strlen(authorization_scheme);
  if (!authorization || g_ascii_strncasecmp(authorization, authorization_scheme, scheme_length) != 0)
    return false;
  secret_hash(authorization + scheme_length, strlen(authorization) - scheme_length, out_hash);
  return true;
}

/* False: it is of no kind that the guard knows. */
static bool to_system_address(const nng_sockaddr *address, struct sockaddr_storage *out_address) {
  if (address->s_family == NNG_AF_INET) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)out_address;
    *v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = address->s_in.sa_port, .sin_addr = {address->s_in.sa_addr}};
  } else if (address->s_family == NNG_AF_INET6) {
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out_address;
    *v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = address->s_in6.sa_port};
    memcpy(&v6->sin6_addr, address->s_in6.sa_addr, sizeof v6->sin6_addr);
  } else {
    return false;
  }
  return true;
}

void peer_welcome(const nng_sockaddr *address, size_t idle_bytes, bool gets_jobs) {
  struct sockaddr_storage peer;
  if (to_system_address(address, &peer))
    guard_welcome(&peer, idle_bytes, gets_jobs);
}

void peer_give_back(const nng_msg *message) {
  nng_sockaddr address;
  struct sockaddr_storage peer;
  if (nng_pipe_get_addr(nng_msg_get_pipe(message), NNG_OPT_REMADDR, &address) == 0 && to_system_address(&address, &peer))
    guard_give_back(&peer, nng_msg_len(message));
}

int peer_tls_config(const struct tls_texts *texts, nng_tls_config **out_config) {
  nng_tls_config *config;
  int code = nng_tls_config_alloc(&config, NNG_TLS_MODE_SERVER);
  if (code != 0)
    return code;
  if ((code = nng_tls_config_version(config, NNG_TLS_1_2, NNG_TLS_1_3)) == 0 &&
      (code = nng_tls_config_own_cert(config, texts->certificate, texts->key, NULL)) == 0 && texts->client_ca &&
      (code = nng_tls_config_ca_chain(config, texts->client_ca, NULL)) == 0)
    code = nng_tls_config_auth_mode(config, NNG_TLS_AUTH_MODE_REQUIRED);
  if (code == 0)
    *out_config = config;
  else
    nng_tls_config_free(config);
  return code;
}
