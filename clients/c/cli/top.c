/* SPDX-License-Identifier: Apache-2.0 */
/* millrace top: queues and workers on a terminal, drawn anew every few seconds. Keys: q quits, s sorts by the next column that
 * can be sorted by, arrows and pages scroll. A server that does not answer is told of on top, and asked again. */
#include <ncurses.h>
#include <stdio.h>
#include <unistd.h>

#include "cli.h"
#include "millrace/v1/admin_service.pb-c.h"
#include "millrace/v1/worker_service.pb-c.h"

enum {
  ROWS_ASKED = 1000, /* queues and workers: the first page */
  CALL_MS = 5000,    /* a server that takes longer does not answer */
  WORKERS_SHARE = 3, /* one part of so many of the screen */
  HEADER_LINES = 3,  /* with the empty one */
  INTERVAL_MIN_MS = 100,
  PAGE_LINES = 10,
  CELL_BYTES_SHOWN = 40,
};
enum { PAIR_BAD = 1, PAIR_HEADING = 2 };

static struct { char *interval; } set;

enum order { ORDER_PENDING, ORDER_OLDEST, ORDER_CREATED, ORDER_FAILED, ORDER_NAME, ORDERS };
static const char *const order_names[ORDERS] = {"pending", "oldest", "created", "failed", "name"};

/* What was answered last; each in a box of its own. */
struct view {
  struct box *info_box, *queues_box, *workers_box;
  Millrace__V1__GetServerInfoResponse *info;
  Millrace__V1__ListQueuesResponse *queues;
  Millrace__V1__ListWorkersResponse *workers;
  struct millrace_error error;
  bool failed;
  enum order order;
  size_t first; /* queue on top */
};

/* ---- asking ---- */

/* Keeps the answer before when there is none. */
static bool ask(struct cli *cli, struct method method, const void *request, struct box **box, void *response,
                struct millrace_error *error) {
  struct box *fresh_box;
  void *fresh;
  if (call(cli->client, method, request, CALL_MS, &fresh_box, &fresh, error) != MILLRACE_OK)
    return false;
  box_unref(*box);
  *box = fresh_box;
  *(void **)response = fresh;
  return true;
}

static void view_refresh(struct cli *cli, struct view *view) {
  const Millrace__V1__GetServerInfoRequest info = MILLRACE__V1__GET_SERVER_INFO_REQUEST__INIT;
  Millrace__V1__ListQueuesRequest queues = MILLRACE__V1__LIST_QUEUES_REQUEST__INIT;
  Millrace__V1__ListWorkersRequest workers = MILLRACE__V1__LIST_WORKERS_REQUEST__INIT;
  queues.page_size = workers.page_size = ROWS_ASKED;
  view->failed =
      !ask(cli, METHOD(AdminService, GetServerInfo, get_server_info), &info, &view->info_box, &view->info, &view->error) ||
      !ask(cli, METHOD(QueueService, ListQueues, list_queues), &queues, &view->queues_box, &view->queues, &view->error) ||
      !ask(cli, METHOD(WorkerService, ListWorkers, list_workers), &workers, &view->workers_box, &view->workers, &view->error);
}

static void view_free(struct view *view) {
  box_unref(view->info_box);
  box_unref(view->queues_box);
  box_unref(view->workers_box);
}

/* ---- sorting ---- */

static int64_t oldest_ms(const Millrace__V1__Queue *queue) {
  return queue->oldest_age ? convert_from_duration(queue->oldest_age) : -1;
}

static double rank(const Millrace__V1__Queue *queue, enum order order) {
  switch (order) {
  case ORDER_PENDING:
    return queue->counts ? (double)queue->counts->pending : 0;
  case ORDER_OLDEST:
    return (double)oldest_ms(queue);
  case ORDER_CREATED:
    return queue->created_per_second;
  case ORDER_FAILED:
    return queue->counts ? (double)queue->counts->failed : 0;
  default:
    return 0;
  }
}

/* The highest first; equal ones by name. */
static int compare_queues(const void *a, const void *b, void *order) {
  const Millrace__V1__Queue *x = *(Millrace__V1__Queue *const *)a, *y = *(Millrace__V1__Queue *const *)b;
  double difference = rank(y, *(enum order *)order) - rank(x, *(enum order *)order);
  return difference > 0 ? 1 : difference < 0 ? -1 : strcmp(x->name, y->name);
}

static void sort_queues(struct view *view) {
  if (view->queues && view->queues->n_queues)
    g_qsort_with_data(view->queues->queues, (gint)view->queues->n_queues, sizeof *view->queues->queues, compare_queues,
                      &view->order);
}

/* ---- drawing ---- */

/* What others wrote must not move the cursor. */
static const char *plain(const char *text, char cell[static CELL_BYTES_SHOWN]) {
  g_strlcpy(cell, text, CELL_BYTES_SHOWN);
  for (char *at = cell; *at; at++)
    if (!g_ascii_isprint(*at))
      *at = '?';
  return cell;
}

static void draw_header(const struct cli *cli, const struct view *view) {
  const Millrace__V1__GetServerInfoResponse *info = view->info;
  char now[TEXT_TIME_BYTES];
  text_format_time(g_get_real_time() / 1000, now);
  attron(A_BOLD);
  mvprintw(0, 0, "millrace %s  %s", millrace_client_address(cli->client), now);
  attroff(A_BOLD);
  if (view->failed) {
    attron(COLOR_PAIR(PAIR_BAD) | A_BOLD);
    mvprintw(1, 0, "%.*s", COLS, view->error.message);
    attroff(COLOR_PAIR(PAIR_BAD) | A_BOLD);
  } else {
    mvprintw(1, 0, "version %s, up %s  waiting %s  running %s  workers %u  queues %u  by %s (s), q quits", info->version,
             show_duration(convert_from_time(info->now) - convert_from_time(info->started_at)), show_number(info->jobs_waiting),
             show_number(info->jobs_running), info->sessions, info->queues, order_names[view->order]);
  }
}

static void heading(int line, const char *text) {
  attron(COLOR_PAIR(PAIR_HEADING) | A_REVERSE);
  mvprintw(line, 0, "%-*.*s", COLS, COLS, text);
  attroff(COLOR_PAIR(PAIR_HEADING) | A_REVERSE);
}

static void draw_queue(int line, const Millrace__V1__Queue *queue) {
  static const Millrace__V1__QueueCounts zeros = MILLRACE__V1__QUEUE_COUNTS__INIT;
  const Millrace__V1__QueueCounts *counts = queue->counts ? queue->counts : &zeros;
  char name[CELL_BYTES_SHOWN];
  bool is_bad = counts->pending > 0 && queue->workers == 0 && !queue->paused;
  attr_t look = is_bad ? COLOR_PAIR(PAIR_BAD) | A_BOLD : queue->paused ? A_DIM : A_NORMAL;
  int64_t oldest = oldest_ms(queue);
  attron(look);
  mvprintw(line, 0, "%-24.24s %11s %8s %9s %9s %9s %9s %9.1f %9.1f %7u  %s", plain(queue->name, name),
           show_number(counts->pending), oldest < 0 ? "" : show_duration(oldest), show_number(counts->running),
           show_number(counts->scheduled), show_number(counts->retrying), show_number(counts->failed), queue->created_per_second,
           queue->finished_per_second, queue->workers,
           queue->paused ? "paused"
           : is_bad      ? "no worker"
                         : "");
  attroff(look);
}

static void draw_queues(const struct view *view, int line, int lines) {
  char title[256];
  g_snprintf(title, sizeof title, "%-24s %11s %8s %9s %9s %9s %9s %9s %9s %7s", "QUEUE", "PENDING", "OLDEST", "RUNNING",
             "SCHEDULED", "RETRYING", "FAILED", "CREATED/s", "ENDED/s", "WORKERS");
  heading(line++, title);
  for (size_t i = view->first; view->queues && i < view->queues->n_queues && --lines > 0; i++)
    draw_queue(line++, view->queues->queues[i]);
}

static void draw_worker(int line, const Millrace__V1__Worker *worker) {
  char host[CELL_BYTES_SHOWN], queue[CELL_BYTES_SHOWN], sdk[CELL_BYTES_SHOWN];
  g_autofree char *slots = g_strdup_printf("%u/%u", worker->running, worker->concurrency);
  mvprintw(line, 0, "%-24.24s %7u %-12s %9s %8s  %-16.16s %s%s", plain(worker->hostname, host), worker->pid,
           show_enum(&millrace__v1__worker_state__descriptor, (int)worker->state), slots, show_age(worker->last_seen_at),
           plain(worker->sdk, sdk), worker->n_queues ? plain(worker->queues[0]->name, queue) : "",
           worker->n_queues > 1 ? ", …" : "");
}

static void draw_workers(const struct view *view, int line, int lines) {
  char title[256];
  g_snprintf(title, sizeof title, "%-24s %7s %-12s %9s %8s  %-16s %s", "WORKER", "PID", "STATE", "SLOTS", "SEEN", "SDK",
             "QUEUES");
  heading(line++, title);
  for (size_t i = 0; view->workers && i < view->workers->n_workers && --lines > 0; i++)
    draw_worker(line++, view->workers->workers[i]);
}

static void draw(const struct cli *cli, const struct view *view) {
  int workers_lines = MAX((LINES - HEADER_LINES) / WORKERS_SHARE, 2);
  int queues_lines = LINES - HEADER_LINES - workers_lines;
  erase();
  draw_header(cli, view);
  draw_queues(view, HEADER_LINES, queues_lines);
  draw_workers(view, HEADER_LINES + queues_lines, workers_lines);
  refresh();
}

/* ---- keys ---- */

static void scroll_by(struct view *view, int by) {
  size_t last = view->queues && view->queues->n_queues ? view->queues->n_queues - 1 : 0;
  view->first = by < 0 ? view->first - MIN(view->first, (size_t)-by) : MIN(view->first + (size_t)by, last);
}

/* Until it is time to ask again. False: quit. */
static bool handle_keys(const struct cli *cli, struct view *view, int64_t until_us) {
  for (int64_t left_us; (left_us = until_us - g_get_monotonic_time()) > 0;) {
    timeout((int)(left_us / 1000) + 1);
    switch (getch()) {
    case 'q':
    case 'Q':
      return false;
    case 's':
      view->order = (view->order + 1) % ORDERS;
      break;
    case KEY_UP:
      scroll_by(view, -1);
      break;
    case KEY_DOWN:
      scroll_by(view, 1);
      break;
    case KEY_PPAGE:
      scroll_by(view, -PAGE_LINES);
      break;
    case KEY_NPAGE:
      scroll_by(view, PAGE_LINES);
      break;
    case KEY_RESIZE:
      break;
    default:
      continue;
    }
    sort_queues(view);
    draw(cli, view);
  }
  return true;
}

static void open_screen(void) {
  initscr();
  cbreak();
  noecho();
  keypad(stdscr, TRUE);
  curs_set(0);
  if (has_colors()) {
    start_color();
    use_default_colors();
    init_pair(PAIR_BAD, COLOR_RED, -1);
    init_pair(PAIR_HEADING, -1, -1);
  }
}

static int run_top(struct cli *cli, int argc, char **argv) {
  (void)argc;
  (void)argv;
  int64_t interval_ms = 2000;
  if (!cli_duration("interval", set.interval, &interval_ms))
    return CLI_USAGE;
  if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
    return cli_fail(CLI_USAGE, "top needs a terminal; `millrace queue list` prints the same once");
  struct view view = {.failed = false};
  view_refresh(cli, &view);
  if (view.failed) { /* a wrong address is better told before the screen is taken */
    view_free(&view);
    return cli_explain(&view.error);
  }
  open_screen();
  int64_t until_us;
  do {
    sort_queues(&view);
    draw(cli, &view);
    until_us = g_get_monotonic_time() + MAX(interval_ms, INTERVAL_MIN_MS) * 1000;
  } while (handle_keys(cli, &view, until_us) && (view_refresh(cli, &view), true));
  endwin();
  view_free(&view);
  return CLI_OK;
}

static const GOptionEntry options[] = {
    {"interval", 0, 0, G_OPTION_ARG_STRING, &set.interval, "How often to look (default: 2s)", "DURATION"},
    {NULL, 0, 0, 0, NULL, NULL, NULL}};

const struct command top_commands[] = {{"top", "", NULL, "Watch queues and workers live, on a terminal",
                                        "Keys: q quits, s sorts by another column, arrows and pages scroll.", options, NULL, 0, 0,
                                        false, run_top},
                                       {0}};
