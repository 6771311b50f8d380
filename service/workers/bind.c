/* SPDX-License-Identifier: Apache-2.0 */
#include "workers/bind.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Thread_local struct sockaddr_storage instead; /* family 0: none */
static _Thread_local bool replaced;

void bind_instead_of_wildcard(const struct sockaddr_storage *address) {
  memset(&instead, 0, sizeof instead);
  if (address)
    instead = *address;
  replaced = false;
}

bool bind_was_replaced(void) {
  return replaced;
}

static bool is_wildcard(const struct sockaddr *address, socklen_t length) {
  if (address->sa_family == AF_INET && length >= sizeof(struct sockaddr_in))
    return ((const struct sockaddr_in *)address)->sin_addr.s_addr == htonl(INADDR_ANY);
  if (address->sa_family == AF_INET6 && length >= sizeof(struct sockaddr_in6))
    return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)address)->sin6_addr);
  return false;
}

/* In place of the C library's, for the whole program. */
int bind(int fd, __CONST_SOCKADDR_ARG address, socklen_t length) {
  const struct sockaddr *given = address.__sockaddr__;
  if (!given || instead.ss_family != given->sa_family || !is_wildcard(given, length))
    return (int)syscall(SYS_bind, fd, given, length);
  struct sockaddr_storage replacement = instead;
  if (given->sa_family == AF_INET)
    ((struct sockaddr_in *)&replacement)->sin_port = ((const struct sockaddr_in *)given)->sin_port;
  else
    ((struct sockaddr_in6 *)&replacement)->sin6_port = ((const struct sockaddr_in6 *)given)->sin6_port;
  replaced = true;
  return (int)syscall(SYS_bind, fd, &replacement, length);
}

bool bind_parse_address(const char *host, struct sockaddr_storage *out_address) {
  if (!host || !*host || strcmp(host, "localhost") == 0)
    host = "127.0.0.1";
  memset(out_address, 0, sizeof *out_address);
  if (inet_pton(AF_INET, host, &((struct sockaddr_in *)out_address)->sin_addr) == 1)
    out_address->ss_family = AF_INET;
  else if (inet_pton(AF_INET6, host, &((struct sockaddr_in6 *)out_address)->sin6_addr) == 1)
    out_address->ss_family = AF_INET6;
  return out_address->ss_family != 0;
}
