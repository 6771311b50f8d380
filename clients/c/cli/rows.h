/* SPDX-License-Identifier: Apache-2.0 */
/* rows.h: the rows of a store as lines of JSON, and back: {"family": "jobs", "id": "<UUID>", "record": {…}}, the parts of the key
 * by name before the record. Index rows are not among them: they follow from the records. Ids are UUIDs; messages that a record
 * holds packed, such as payloads, are shown as what they are. What JSON can't tell exactly (payloads written with blanks) stands
 * as "json_text". Threads: one. Errors: a sentence; a row that is none of ours. */
#ifndef MILLRACE_CLI_ROWS_H
#define MILLRACE_CLI_ROWS_H

#include "box.h"
#include "store/keys.h"

/* Whether its rows are told. */
bool rows_has_family(enum family family);
/* One line without its end; NULL: the row can't be read. Free with g_free. */
char *row_to_line(enum family family, const struct store_row *row);
/* The value lives in the box. False: *out_problem, in the box too, says why. */
bool row_from_line(struct box *box, const char *line, enum family *out_family, struct key *out_key, struct slice *out_value,
                   const char **out_problem);

#endif
