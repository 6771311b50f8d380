/* SPDX-License-Identifier: Apache-2.0 */
/* tarball.h: a backup as a tar archive: millrace/NAME for each file of the store, and last of all millrace/SHA256SUMS, without
 * which it is not whole. Ordinary tools can read it: `tar xf FILE && cd millrace && sha256sum -c SHA256SUMS`.
 * Threads: one. Errors: told to the user; the functions answer false. */
#ifndef MILLRACE_CLI_TARBALL_H
#define MILLRACE_CLI_TARBALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writing. */
struct tarball_writer;
struct tarball_writer *tarball_create(int file); /* borrowed; NULL after telling what is wrong */
bool tarball_begin(struct tarball_writer *writer, const char *name, uint64_t bytes);
bool tarball_add(struct tarball_writer *writer, const void *data, size_t length);
/* The sums and the end. */
bool tarball_finish(struct tarball_writer *writer);
void tarball_free(struct tarball_writer *writer); /* NULL is fine */

/* Reads a whole archive into a directory that is there and empty, comparing each file with its sum. */
bool tarball_extract(int file, const char *directory, uint64_t *out_bytes);
/* Removes a flat directory. */
void tarball_remove_directory(const char *directory);

#endif
