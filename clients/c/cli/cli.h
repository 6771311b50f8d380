/* SPDX-License-Identifier: Apache-2.0 */
/* cli.h: what the commands of the millrace tool share: the table of commands, calls with their error messages, tables for people
 * and JSON for programs, payloads and job specs from the command line. Answers go to standard output; errors, progress and news
 * to standard error. */
#ifndef MILLRACE_CLI_CLI_H
#define MILLRACE_CLI_CLI_H

#include <glib.h>

#include "call.h"
#include "convert.h"
#include "json.h"
#include "millrace.h"
#include "millrace/v1/batch_service.pb-c.h"
#include "millrace/v1/chain_service.pb-c.h"
#include "millrace/v1/job_service.pb-c.h"
#include "millrace/v1/queue_service.pb-c.h"
#include "millrace/v1/schedule_service.pb-c.h"
#include "text.h"

/* Exit codes; --help names them. */
enum {
  CLI_OK = 0,
  CLI_FAILED = 1,        /* the server refused, or something went wrong here */
  CLI_USAGE = 2,         /* the command line is wrong */
  CLI_UNREACHABLE = 3,   /* no server */
  CLI_NOT_SUCCEEDED = 4, /* what was waited for ended otherwise than by success */
  CLI_TIMED_OUT = 5,     /* what was waited for has not ended in time */
};

/* The state of one run of the tool. */
struct cli {
  struct millrace_client *client; /* NULL: the command needs none */
  bool json;                      /* --output json */
  struct box *box;                /* for the whole run */
  GPtrArray *answers;             /* struct box: the responses of cli_call */
};

struct command {
  const char *group;
  const char *name;
  const char *arguments; /* as the usage line shows them */
  const char *summary;
  const char *more; /* what --help says below; may be NULL */
  const GOptionEntry *options;
  const GOptionEntry *shared; /* options that it shares with other commands; may be NULL */
  int arguments_min;
  int arguments_max;                                  /* -1: any number */
  bool is_local;                                      /* needs no server */
  int (*run)(struct cli *cli, int argc, char **argv); /* argv[0]: the first argument */
};
/* Each ends with a row without a name. */
extern const struct command job_commands[], schedule_commands[], chain_commands[], batch_commands[], queue_commands[],
    worker_commands[], server_commands[], top_commands[], backup_commands[], check_commands[], repair_commands[], dump_commands[],
    token_commands[], tls_commands[], completion_commands[];
extern const struct command *const all_commands[]; /* ends with NULL */

/* ---- errors and calls ---- */
/* Prints a sentence to standard error and returns `exit_code`. */
int cli_fail(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Tells what a call answered, with the cure where there is one. Returns the exit code. */
int cli_explain(const struct millrace_error *error);
/* Tells why one create among many was refused. */
void cli_explain_outcome(const Millrace__V1__CreateOutcome *outcome);
/* A unary call; the response lives as long as the run. */
int cli_call(struct cli *cli, struct method method, const void *request, void *out_response);
/* The same for the pages of a list: each lives until the next one. */
int cli_call_page(struct cli *cli, struct method method, const void *request, void *out_response);

/* ---- options ---- */
/* False after telling what is wrong with --name. NULL text: *out stays. */
bool cli_duration(const char *name, const char *text, int64_t *out_ms);
/* Of a wait, which is for ever when none is given: 0s looks once. */
bool cli_wait_timeout(const char *name, const char *text, int64_t *out_ms);
bool cli_time(const char *name, const char *text, int64_t *out_ms);
bool cli_enum(const char *name, const ProtobufCEnumDescriptor *type, const char *text, void *out_value);
/* Each "k=v". */
bool cli_labels(char **texts, struct millrace_label **out_labels, size_t *out_count, struct box *box);

/* ---- output ---- */
struct table;
/* Headings, with commas between them. */
struct table *table_new(const char *headings);
/* As many cells as headings; copied. */
void table_row(struct table *table, const char *first, ...);
/* Prints, aligned, and frees; headings only when there are rows. */
void table_print(struct table *table);
/* Prints the rows so far, so that a long table is neither waited for nor kept. Answers as output_is_read. */
bool table_print_rows(struct table *table);
/* Passes on what was printed. False: it could not be. The reader has left, as head does, or it tells what else is wrong. */
bool output_is_read(void);
/* For cells, valid until the next 16 calls: "3m ago", "in 2s", "" for none. */
const char *show_age(const Google__Protobuf__Timestamp *time);
const char *show_time(const Google__Protobuf__Timestamp *time);
const char *show_duration(int64_t ms);
const char *show_number(uint64_t number);
const char *show_enum(const ProtobufCEnumDescriptor *type, int value);
/* "key: value" lines of one object; nothing for an empty value. */
void print_field(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
void print_payload(const char *name, const Millrace__V1__Payload *payload);
/* The message as JSON: pretty, or as one line. */
void print_json(const void *message, bool pretty);

/* On standard error, if that is a terminal. */
void progress_show(const char *what, uint64_t done, uint64_t total /* 0: unknown */);
void progress_end(void);

/* ---- job specs ---- */
extern const GOptionEntry spec_options[];
/* The name of an option that was given though it can't be changed once a job is created; NULL: none was. */
const char *spec_fixed_option(void);
/* From the options and the words after the task's name (key=value, key:=json). NULL after telling what is wrong. */
Millrace__V1__JobSpec *spec_build(struct cli *cli, const char *task, int argc, char **argv);
/* Applies the options to a spec whose own fields win. False after telling what is wrong. */
bool spec_apply_options(struct cli *cli, Millrace__V1__JobSpec *spec);
/* Calls `chunk` with up to 1,000 specs at a time from a file ("-": standard input) of JSON lines, each a spec on which the
 * options were applied. Stops with what `chunk` returns unless it is CLI_OK. */
int spec_load(struct cli *cli, const char *file,
              int (*chunk)(void *context, struct box *box, Millrace__V1__JobSpec **specs, size_t count), void *context);

/* Verifies a store that no server has open, and tells what it found. */
int check_store(const char *directory);

/* Waits for a job and shows it. */
int job_wait_and_show(struct cli *cli, const char *id, const char *timeout);
void job_print(struct cli *cli, const Millrace__V1__Job *job);

#endif
