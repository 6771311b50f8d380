// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.millrace.proto.v1.CreateScheduleRequest;
import io.millrace.proto.v1.DeclareSchedulesRequest;
import io.millrace.proto.v1.DeleteScheduleRequest;
import io.millrace.proto.v1.GetScheduleRequest;
import io.millrace.proto.v1.ListSchedulesRequest;
import io.millrace.proto.v1.PauseScheduleRequest;
import io.millrace.proto.v1.PreviewScheduleRequest;
import io.millrace.proto.v1.ResumeScheduleRequest;
import io.millrace.proto.v1.RunScheduleRequest;
import io.millrace.proto.v1.ScheduleOverlap;
import io.millrace.proto.v1.ScheduleServiceGrpc;
import io.millrace.proto.v1.ScheduleTiming;
import io.millrace.proto.v1.UpdateScheduleRequest;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Stream;

/** Schedules: see {@link Client#schedules()}. */
public final class Schedules {
  private static final int PAGE_SIZE = 500;

  private final Rpc rpc;
  private final SpecWriter specs;

  Schedules(Rpc rpc, SpecWriter specs) {
    this.rpc = rpc;
    this.specs = specs;
  }

  /** What a declaration changed. */
  public record Declared(int created, int updated, int unchanged, int deleted) {}

  private io.millrace.proto.v1.ScheduleSpec message(ScheduleSpec spec) {
    var message = io.millrace.proto.v1.ScheduleSpec.newBuilder().setName(spec.name).setTiming(spec.timing);
    message.setJob(specs.template(spec.job)).setDescription(spec.description);
    if (spec.overlap != null) {
      message.setOverlap(ScheduleOverlap.valueOf("SCHEDULE_OVERLAP_" + spec.overlap.name()));
    }
    if (spec.catchUpWindow != null) {
      message.setCatchUpWindow(Convert.toDuration(spec.catchUpWindow));
    }
    return message.build();
  }

  /**
   * Makes an owner's schedules be exactly these: for an application to call at its start. Declaring the same again changes nothing.
   *
   * @param prune delete the owner's other schedules
   */
  public Declared declare(String owner, List<ScheduleSpec> schedules, boolean prune) {
    return Rpc.await(declareAsync(owner, schedules, prune));
  }

  /** Makes an owner's schedules be exactly these. */
  public CompletableFuture<Declared> declareAsync(String owner, List<ScheduleSpec> schedules, boolean prune) {
    DeclareSchedulesRequest.Builder request = DeclareSchedulesRequest.newBuilder().setOwner(owner).setPrune(prune);
    try {
      schedules.forEach(spec -> request.addSchedules(message(spec)));
    } catch (MillraceException refused) {
      return CompletableFuture.failedFuture(refused);
    }
    return rpc.call(
        ScheduleServiceGrpc.getDeclareSchedulesMethod(),
        request.build(),
        Errors.About.OTHER,
        answer -> new Declared(answer.getCreated(), answer.getUpdated(), answer.getUnchanged(), answer.getDeleted()));
  }

  /** Creates a schedule; the same again changes nothing, other content under the name is {@link AlreadyExistsException}. */
  public Schedule create(ScheduleSpec spec) {
    return Rpc.await(createAsync(spec));
  }

  /** Creates a schedule. */
  public CompletableFuture<Schedule> createAsync(ScheduleSpec spec) {
    CreateScheduleRequest request;
    try {
      request = CreateScheduleRequest.newBuilder().setSchedule(message(spec)).build();
    } catch (MillraceException refused) {
      return CompletableFuture.failedFuture(refused);
    }
    return rpc.call(
        ScheduleServiceGrpc.getCreateScheduleMethod(), request, Errors.About.OTHER, answer -> new Schedule(answer.getSchedule()));
  }

  /** Replaces the whole content of a schedule; its past stays. */
  public Schedule update(ScheduleSpec spec) {
    UpdateScheduleRequest request = UpdateScheduleRequest.newBuilder().setSchedule(message(spec)).build();
    return new Schedule(Rpc.await(rpc.call(ScheduleServiceGrpc.getUpdateScheduleMethod(), request, Errors.About.OTHER)).getSchedule());
  }

  /** One schedule. */
  public Schedule get(String name) {
    return Rpc.await(getAsync(name));
  }

  /** One schedule. */
  public CompletableFuture<Schedule> getAsync(String name) {
    GetScheduleRequest request = GetScheduleRequest.newBuilder().setName(name).build();
    return rpc.call(ScheduleServiceGrpc.getGetScheduleMethod(), request, Errors.About.OTHER, answer -> new Schedule(answer.getSchedule()));
  }

  /** All schedules, page by page as the stream is read. */
  public Stream<Schedule> list() {
    return list("");
  }

  /** One owner's schedules. */
  public Stream<Schedule> list(String owner) {
    return Pages.stream(
        token -> {
          var request = ListSchedulesRequest.newBuilder().setOwner(owner).setPageSize(PAGE_SIZE).setPageToken(token).build();
          var page = Rpc.await(rpc.call(ScheduleServiceGrpc.getListSchedulesMethod(), request, Errors.About.OTHER));
          return new Pages.Page<>(page.getSchedulesList().stream().map(Schedule::new).toList(), page.getNextPageToken());
        });
  }

  /** Makes no jobs until resumed. */
  public Schedule pause(String name) {
    PauseScheduleRequest request = PauseScheduleRequest.newBuilder().setName(name).build();
    return new Schedule(Rpc.await(rpc.call(ScheduleServiceGrpc.getPauseScheduleMethod(), request, Errors.About.OTHER)).getSchedule());
  }

  /** Goes on after a pause. */
  public Schedule resume(String name) {
    ResumeScheduleRequest request = ResumeScheduleRequest.newBuilder().setName(name).build();
    return new Schedule(Rpc.await(rpc.call(ScheduleServiceGrpc.getResumeScheduleMethod(), request, Errors.About.OTHER)).getSchedule());
  }

  /** Makes a job now, and answers its id; the times to come stay. */
  public String run(String name) {
    RunScheduleRequest request = RunScheduleRequest.newBuilder().setName(name).setJobId(Ids.make()).build();
    return Rpc.await(rpc.call(ScheduleServiceGrpc.getRunScheduleMethod(), request, Errors.About.OTHER)).getJobId();
  }

  /** Removes a schedule; the jobs that it made stay. */
  public void delete(String name) {
    DeleteScheduleRequest request = DeleteScheduleRequest.newBuilder().setName(name).build();
    Rpc.await(rpc.call(ScheduleServiceGrpc.getDeleteScheduleMethod(), request, Errors.About.OTHER));
  }

  /** The next times of a cron expression, 100 at most; a null time: after now. */
  public List<Instant> preview(String cron, String zone, Instant after, int count) {
    return preview(ScheduleTiming.newBuilder().setCron(cron).setTimeZone(zone), after, count);
  }

  /** The next times of an interval. */
  public List<Instant> preview(Duration interval, Instant after, int count) {
    return preview(ScheduleTiming.newBuilder().setInterval(Convert.toDuration(interval)), after, count);
  }

  private List<Instant> preview(ScheduleTiming.Builder timing, Instant after, int count) {
    PreviewScheduleRequest.Builder request = PreviewScheduleRequest.newBuilder().setTiming(timing).setCount(count);
    if (after != null) {
      request.setAfter(Convert.toTimestamp(after));
    }
    var answer = Rpc.await(rpc.call(ScheduleServiceGrpc.getPreviewScheduleMethod(), request.build(), Errors.About.OTHER));
    return answer.getTimesList().stream().map(Convert::fromTimestamp).toList();
  }
}
