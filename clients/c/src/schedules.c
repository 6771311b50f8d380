/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of ScheduleService. */
#include <glib.h>

#include "call.h"
#include "convert.h"
#include "millrace/v1/schedule_service.pb-c.h"

#define SCHEDULES(name, stem) METHOD(ScheduleService, name, stem)

static Millrace__V1__ScheduleTiming *convert_timing(struct box *box, const struct millrace_timing *timing) {
  Millrace__V1__ScheduleTiming *message = MESSAGE(box, Millrace__V1__ScheduleTiming, schedule_timing);
  if (timing->cron) {
    message->when_case = MILLRACE__V1__SCHEDULE_TIMING__WHEN_CRON;
    message->cron = convert_text(timing->cron);
  } else if (timing->interval_ms) {
    message->when_case = MILLRACE__V1__SCHEDULE_TIMING__WHEN_INTERVAL;
    message->interval = convert_duration(box, timing->interval_ms);
  }
  message->time_zone = convert_text(timing->time_zone);
  message->start_at = convert_time(box, timing->start_at_ms);
  message->end_at = convert_time(box, timing->end_at_ms);
  message->jitter = convert_duration(box, timing->jitter_ms);
  return message;
}

static Millrace__V1__ScheduleSpec *convert_schedule(struct box *box, const struct millrace_schedule_spec *spec) {
  Millrace__V1__ScheduleSpec *message = MESSAGE(box, Millrace__V1__ScheduleSpec, schedule_spec);
  message->name = convert_text(spec->name);
  message->timing = convert_timing(box, &spec->timing);
  message->job = convert_spec(box, &spec->job);
  message->overlap = (Millrace__V1__ScheduleOverlap)spec->overlap;
  message->catch_up_window = convert_duration(box, spec->catch_up_window_ms);
  message->description = convert_text(spec->description);
  return message;
}

static struct millrace_timing from_timing(const Millrace__V1__ScheduleTiming *timing) {
  struct millrace_timing out = {0};
  if (!timing)
    return out;
  if (timing->when_case == MILLRACE__V1__SCHEDULE_TIMING__WHEN_CRON)
    out.cron = timing->cron;
  else if (timing->when_case == MILLRACE__V1__SCHEDULE_TIMING__WHEN_INTERVAL)
    out.interval_ms = convert_from_duration(timing->interval);
  out.time_zone = timing->time_zone;
  out.start_at_ms = convert_from_time(timing->start_at);
  out.end_at_ms = convert_from_time(timing->end_at);
  out.jitter_ms = convert_from_duration(timing->jitter);
  return out;
}

static struct millrace_schedule from_schedule(const Millrace__V1__Schedule *schedule) {
  struct millrace_schedule out = {0};
  if (!schedule)
    return out;
  out = (struct millrace_schedule){
      .owner = schedule->owner,
      .paused = schedule->paused,
      .next_run_at_ms = convert_from_time(schedule->next_run_at),
      .last_run_at_ms = convert_from_time(schedule->last_run_at),
      .last_job_id = schedule->last_job_id,
      .last_lateness_ms = convert_from_duration(schedule->last_lateness),
      .created_at_ms = convert_from_time(schedule->created_at),
      .runs = schedule->runs,
      .skipped = schedule->skipped,
  };
  const Millrace__V1__ScheduleSpec *spec = schedule->spec;
  if (spec) {
    out.name = spec->name;
    out.description = spec->description;
    out.timing = from_timing(spec->timing);
    out.task = spec->job ? spec->job->task : "";
    out.queue = spec->job ? spec->job->queue : "";
    out.overlap = (enum millrace_overlap)spec->overlap;
  }
  return out;
}

static struct millrace_schedule *schedule_lid(struct box *box, const Millrace__V1__Schedule *message) {
  struct millrace_schedule *schedule = box_lid(box, sizeof *schedule);
  *schedule = from_schedule(message);
  return schedule;
}

enum millrace_code millrace_schedule_create(struct millrace_client *client, const struct millrace_schedule_spec *spec,
                                            struct millrace_schedule **out_schedule, struct millrace_error *error) {
  struct box *scratch = box_new();
  Millrace__V1__CreateScheduleRequest request = MILLRACE__V1__CREATE_SCHEDULE_REQUEST__INIT;
  request.schedule = convert_schedule(scratch, spec);
  struct box *box;
  Millrace__V1__CreateScheduleResponse *response;
  enum millrace_code code = call(client, SCHEDULES(CreateSchedule, create_schedule), &request, 0, &box, &response, error);
  box_unref(scratch);
  if (code != MILLRACE_OK)
    return code;
  *out_schedule = schedule_lid(box, response->schedule);
  (*out_schedule)->existing = response->existing;
  return MILLRACE_OK;
}

enum millrace_code millrace_schedule_update(struct millrace_client *client, const struct millrace_schedule_spec *spec,
                                            struct millrace_schedule **out_schedule, struct millrace_error *error) {
  struct box *scratch = box_new();
  Millrace__V1__UpdateScheduleRequest request = MILLRACE__V1__UPDATE_SCHEDULE_REQUEST__INIT;
  request.schedule = convert_schedule(scratch, spec);
  struct box *box;
  Millrace__V1__UpdateScheduleResponse *response;
  enum millrace_code code = call(client, SCHEDULES(UpdateSchedule, update_schedule), &request, 0, &box, &response, error);
  box_unref(scratch);
  if (code == MILLRACE_OK)
    *out_schedule = schedule_lid(box, response->schedule);
  return code;
}

/* Get, pause and resume: a name goes, a schedule comes. The messages have the same layout. */
static enum millrace_code by_name(struct millrace_client *client, struct method method,
                                  const ProtobufCMessageDescriptor *request_type, const char *name,
                                  struct millrace_schedule **out_schedule, struct millrace_error *error) {
  Millrace__V1__GetScheduleRequest request;
  protobuf_c_message_init(request_type, &request);
  request.name = convert_text(name);
  struct box *box;
  Millrace__V1__GetScheduleResponse *response;
  enum millrace_code code = call(client, method, &request, 0, &box, &response, error);
  if (code == MILLRACE_OK)
    *out_schedule = schedule_lid(box, response->schedule);
  return code;
}

enum millrace_code millrace_schedule_get(struct millrace_client *client, const char *name,
                                         struct millrace_schedule **out_schedule, struct millrace_error *error) {
  return by_name(client, SCHEDULES(GetSchedule, get_schedule), &millrace__v1__get_schedule_request__descriptor, name,
                 out_schedule, error);
}

enum millrace_code millrace_schedule_pause(struct millrace_client *client, const char *name,
                                           struct millrace_schedule **out_schedule, struct millrace_error *error) {
  return by_name(client, SCHEDULES(PauseSchedule, pause_schedule), &millrace__v1__pause_schedule_request__descriptor, name,
                 out_schedule, error);
}

enum millrace_code millrace_schedule_resume(struct millrace_client *client, const char *name,
                                            struct millrace_schedule **out_schedule, struct millrace_error *error) {
  return by_name(client, SCHEDULES(ResumeSchedule, resume_schedule), &millrace__v1__resume_schedule_request__descriptor, name,
                 out_schedule, error);
}

enum millrace_code millrace_schedule_list(struct millrace_client *client, const char *owner, const struct millrace_page *page,
                                          struct millrace_schedule_list **out_list, struct millrace_error *error) {
  Millrace__V1__ListSchedulesRequest request = MILLRACE__V1__LIST_SCHEDULES_REQUEST__INIT;
  request.owner = convert_text(owner);
  request.page_size = page ? page->size : 0;
  request.page_token = convert_text(page ? page->token : NULL);
  struct box *box;
  Millrace__V1__ListSchedulesResponse *response;
  enum millrace_code code = call(client, SCHEDULES(ListSchedules, list_schedules), &request, 0, &box, &response, error);
  if (code != MILLRACE_OK)
    return code;
  struct millrace_schedule_list *list = box_lid(box, sizeof *list);
  struct millrace_schedule *schedules = box_alloc(box, response->n_schedules * sizeof *schedules);
  for (size_t i = 0; i < response->n_schedules; i++)
    schedules[i] = from_schedule(response->schedules[i]);
  *list = (struct millrace_schedule_list){schedules, response->n_schedules, response->next_page_token};
  *out_list = list;
  return MILLRACE_OK;
}

enum millrace_code millrace_schedule_delete(struct millrace_client *client, const char *name, struct millrace_error *error) {
  Millrace__V1__DeleteScheduleRequest request = MILLRACE__V1__DELETE_SCHEDULE_REQUEST__INIT;
  request.name = convert_text(name);
  struct box *box;
  void *response;
  enum millrace_code code = call(client, SCHEDULES(DeleteSchedule, delete_schedule), &request, 0, &box, &response, error);
  if (code == MILLRACE_OK)
    box_unref(box);
  return code;
}

enum millrace_code millrace_schedules_declare(struct millrace_client *client, const char *owner,
                                              const struct millrace_schedule_spec *specs, size_t count, bool prune,
                                              struct millrace_declared *out_declared, struct millrace_error *error) {
  struct box *scratch = box_new();
  Millrace__V1__DeclareSchedulesRequest request = MILLRACE__V1__DECLARE_SCHEDULES_REQUEST__INIT;
  request.owner = convert_text(owner);
  request.n_schedules = count;
  request.schedules = box_alloc(scratch, count * sizeof(void *));
  for (size_t i = 0; i < count; i++)
    request.schedules[i] = convert_schedule(scratch, &specs[i]);
  request.prune = prune;
  struct box *box;
  Millrace__V1__DeclareSchedulesResponse *response;
  enum millrace_code code = call(client, SCHEDULES(DeclareSchedules, declare_schedules), &request, 0, &box, &response, error);
  box_unref(scratch);
  if (code != MILLRACE_OK)
    return code;
  *out_declared = (struct millrace_declared){response->created, response->updated, response->unchanged, response->deleted};
  box_unref(box);
  return MILLRACE_OK;
}

enum millrace_code millrace_schedule_run(struct millrace_client *client, const char *name, char out_job_id[MILLRACE_ID_BYTES],
                                         struct millrace_error *error) {
  char id[MILLRACE_ID_BYTES];
  Millrace__V1__RunScheduleRequest request = MILLRACE__V1__RUN_SCHEDULE_REQUEST__INIT;
  millrace_id_make(id);
  request.name = convert_text(name);
  request.job_id = id;
  struct box *box;
  Millrace__V1__RunScheduleResponse *response;
  enum millrace_code code = call(client, SCHEDULES(RunSchedule, run_schedule), &request, 0, &box, &response, error);
  if (code != MILLRACE_OK)
    return code;
  g_strlcpy(out_job_id, response->job_id, MILLRACE_ID_BYTES);
  box_unref(box);
  return MILLRACE_OK;
}

enum millrace_code millrace_schedule_preview(struct millrace_client *client, const struct millrace_timing *timing,
                                             int64_t after_ms, int64_t *out_times_ms, size_t count, size_t *out_count,
                                             struct millrace_error *error) {
  struct box *scratch = box_new();
  Millrace__V1__PreviewScheduleRequest request = MILLRACE__V1__PREVIEW_SCHEDULE_REQUEST__INIT;
  request.timing = convert_timing(scratch, timing);
  request.count = (uint32_t)count;
  request.after = convert_time(scratch, after_ms);
  struct box *box;
  Millrace__V1__PreviewScheduleResponse *response;
  enum millrace_code code = call(client, SCHEDULES(PreviewSchedule, preview_schedule), &request, 0, &box, &response, error);
  box_unref(scratch);
  if (code != MILLRACE_OK)
    return code;
  *out_count = MIN(count, response->n_times);
  for (size_t i = 0; i < *out_count; i++)
    out_times_ms[i] = convert_from_time(response->times[i]);
  box_unref(box);
  return MILLRACE_OK;
}
