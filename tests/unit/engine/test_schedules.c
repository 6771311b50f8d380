/* SPDX-License-Identifier: Apache-2.0 */
/* What the orders about schedules leave behind, apart from schedules. */
#include "harness.h"

#include "millrace/v1/schedule_service.pb-c.h"

/* A schedule's parts; it makes a job an hour. */
struct parts {
  Millrace__V1__ScheduleSpec spec;
  Millrace__V1__ScheduleTiming timing;
  Google__Protobuf__Duration interval;
  Millrace__V1__JobSpec job;
};

static Millrace__V1__ScheduleSpec *hourly(struct parts *parts, char *queue) {
  millrace__v1__schedule_spec__init(&parts->spec);
  millrace__v1__schedule_timing__init(&parts->timing);
  google__protobuf__duration__init(&parts->interval);
  millrace__v1__job_spec__init(&parts->job);
  parts->interval.seconds = 3600;
  parts->timing.when_case = MILLRACE__V1__SCHEDULE_TIMING__WHEN_INTERVAL;
  parts->timing.interval = &parts->interval;
  parts->job.task = "report";
  parts->job.queue = queue;
  parts->spec.name = "hourly";
  parts->spec.timing = &parts->timing;
  parts->spec.job = &parts->job;
  return &parts->spec;
}

static const Millrace__V1__CreateScheduleResponse *create(struct harness *harness, char *queue) {
  struct parts parts;
  Millrace__V1__CreateScheduleRequest message = MILLRACE__V1__CREATE_SCHEDULE_REQUEST__INIT;
  message.schedule = hourly(&parts, queue);
  return harness_call(harness, "ScheduleService/CreateSchedule", &message.base);
}

static const Millrace__V1__DeclareSchedulesResponse *declare(struct harness *harness, char *owner, char *queue) {
  struct parts parts;
  Millrace__V1__ScheduleSpec *specs[] = {hourly(&parts, queue)};
  Millrace__V1__DeclareSchedulesRequest message = MILLRACE__V1__DECLARE_SCHEDULES_REQUEST__INIT;
  message.owner = owner;
  message.n_schedules = 1;
  message.schedules = specs;
  return harness_call(harness, "ScheduleService/DeclareSchedules", &message.base);
}

static bool has_queue(struct harness *harness, const char *name) {
  Millrace__V1__ListQueuesRequest message = MILLRACE__V1__LIST_QUEUES_REQUEST__INIT;
  const Millrace__V1__ListQueuesResponse *response = harness_call(harness, "QueueService/ListQueues", &message.base);
  assert_non_null(response);
  for (size_t i = 0; i < response->n_queues; i++)
    if (strcmp(response->queues[i]->name, name) == 0)
      return true;
  return false;
}

static void test_a_refused_order_makes_no_queue(void **state) {
  (void)state;
  struct harness harness;
  harness_open(&harness);
  assert_non_null(create(&harness, "first"));
  assert_true(has_queue(&harness, "first"));
  assert_null(create(&harness, "second"));
  assert_int_equal(harness.error.status, STATUS_ALREADY_EXISTS);
  assert_null(declare(&harness, "app", "third"));
  assert_int_equal(harness.error.status, STATUS_FAILED_PRECONDITION);
  assert_false(has_queue(&harness, "second"));
  assert_false(has_queue(&harness, "third"));
  harness_close(&harness);
}

static void test_declaring_the_same_again_changes_nothing(void **state) {
  (void)state;
  struct harness harness;
  harness_open(&harness);
  const Millrace__V1__DeclareSchedulesResponse *first = declare(&harness, "app", "first");
  assert_non_null(first);
  assert_int_equal(first->created, 1);
  assert_true(has_queue(&harness, "first"));
  Millrace__V1__DeleteQueueRequest message = MILLRACE__V1__DELETE_QUEUE_REQUEST__INIT;
  message.name = "first";
  assert_non_null(harness_call(&harness, "QueueService/DeleteQueue", &message.base));
  const Millrace__V1__DeclareSchedulesResponse *again = declare(&harness, "app", "first");
  assert_non_null(again);
  assert_int_equal(again->unchanged, 1);
  assert_false(has_queue(&harness, "first"));
  harness_close(&harness);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_refused_order_makes_no_queue),
      cmocka_unit_test(test_declaring_the_same_again_changes_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
