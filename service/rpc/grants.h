/* SPDX-License-Identifier: Apache-2.0 */
/* grants.h: who there is: the token file, read into a table that never changes. A grant gives the holder of a token, or of a
 * client certificate, roles and queues.
 *
 *   [emails-app]                      the name that logs tell
 *   roles=producer;worker
 *   queues=emails;emails-*            patterns with * and ?; absent: all queues
 *   token-sha256=6b86b273…            one or several: old and new while a token is exchanged
 *   certificate=emails.example.org    common name of a client certificate; one or several
 *
 * Threads: any. Memory: grants are reference counted and outlive their table. Errors: STATUS_INVALID_ARGUMENT with
 * the place in the file; a file with one mistake grants nothing. */
#ifndef MILLRACE_RPC_GRANTS_H
#define MILLRACE_RPC_GRANTS_H

#include "core/error.h"
#include "engine/engine.h"

struct grants;

struct grant {
  const char *name;
  unsigned roles;            /* bits 1 << enum role */
  const char *const *queues; /* patterns, NULL-terminated; NULL: all */
};

enum status grants_load(const char *file, struct grants **out_grants, struct error *error) STATUS_CHECK;
void grants_free(struct grants *grants); /* NULL is fine */
size_t grants_count(const struct grants *grants);

/* A reference, or NULL. */
struct grant *grants_by_token(const struct grants *grants, const char *token, size_t length);
struct grant *grants_by_certificate(const struct grants *grants, const char *common_name, size_t length);
/* Is there one with the same name, roles, queues and credentials? Otherwise what was begun with it has to end. */
bool grants_still_has(const struct grants *grants, const struct grant *grant);

struct grant *grant_ref(struct grant *grant);
void grant_unref(struct grant *grant); /* NULL is fine */
bool grant_has_role(const struct grant *grant, enum role role);

#endif
