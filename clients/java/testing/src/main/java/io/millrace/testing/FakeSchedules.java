// SPDX-License-Identifier: Apache-2.0
package io.millrace.testing;

import com.cronutils.model.CronType;
import com.cronutils.model.definition.CronDefinition;
import com.cronutils.model.definition.CronDefinitionBuilder;
import com.cronutils.model.time.ExecutionTime;
import com.cronutils.parser.CronParser;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import io.millrace.proto.v1.CreateScheduleRequest;
import io.millrace.proto.v1.CreateScheduleResponse;
import io.millrace.proto.v1.DeclareSchedulesRequest;
import io.millrace.proto.v1.DeclareSchedulesResponse;
import io.millrace.proto.v1.DeleteScheduleRequest;
import io.millrace.proto.v1.DeleteScheduleResponse;
import io.millrace.proto.v1.GetScheduleRequest;
import io.millrace.proto.v1.GetScheduleResponse;
import io.millrace.proto.v1.ListSchedulesRequest;
import io.millrace.proto.v1.ListSchedulesResponse;
import io.millrace.proto.v1.PauseScheduleRequest;
import io.millrace.proto.v1.PauseScheduleResponse;
import io.millrace.proto.v1.ResumeScheduleRequest;
import io.millrace.proto.v1.ResumeScheduleResponse;
import io.millrace.proto.v1.RunScheduleRequest;
import io.millrace.proto.v1.RunScheduleResponse;
import io.millrace.proto.v1.Schedule;
import io.millrace.proto.v1.ScheduleServiceGrpc;
import io.millrace.proto.v1.ScheduleSpec;
import io.millrace.proto.v1.ScheduleTiming;
import java.time.Instant;
import java.time.ZoneId;
import java.time.ZonedDateTime;
import java.util.Comparator;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;

/** Schedules of the fake: five-field cron expressions and intervals on the virtual clock. */
final class FakeSchedules extends ScheduleServiceGrpc.ScheduleServiceImplBase {
  private static final CronDefinition CRON = CronDefinitionBuilder.instanceDefinitionFor(CronType.UNIX);
  private static final Map<String, String> NICKNAMES =
      Map.of("@hourly", "0 * * * *", "@daily", "0 0 * * *", "@weekly", "0 0 * * 0", "@monthly", "0 0 1 * *", "@yearly", "0 0 1 1 *");

  private final FakeEngine engine;
  private final Runnable created;
  private final Map<String, Entry> entries = new TreeMap<>();

  FakeSchedules(FakeEngine engine, Runnable created) {
    this.engine = engine;
    this.created = created;
  }

  /** One schedule. Guarded by the engine's lock. */
  private static final class Entry {
    final ScheduleSpec spec;
    final String owner;
    boolean paused;
    Instant next;
    Instant last;
    String lastJob = "";
    long runs;

    Entry(ScheduleSpec spec, String owner, Instant now) {
      this.spec = spec;
      this.owner = owner;
      this.next = after(spec.getTiming(), now);
    }

    Schedule message() {
      Schedule.Builder schedule = Schedule.newBuilder().setSpec(spec).setOwner(owner).setPaused(paused).setLastJobId(lastJob).setRuns(runs);
      if (next != null) {
        schedule.setNextRunAt(FakeJob.stamp(next));
      }
      if (last != null) {
        schedule.setLastRunAt(FakeJob.stamp(last));
      }
      return schedule.build();
    }
  }

  /** The time after that one; null: there is none. */
  private static Instant after(ScheduleTiming timing, Instant time) {
    if (timing.hasInterval()) {
      return time.plus(FakeJob.span(timing.getInterval()));
    }
    try {
      ZonedDateTime from = time.atZone(ZoneId.of(timing.getTimeZone().isEmpty() ? "UTC" : timing.getTimeZone()));
      String expression = NICKNAMES.getOrDefault(timing.getCron(), timing.getCron());
      return ExecutionTime.forCron(new CronParser(CRON).parse(expression)).nextExecution(from).map(ZonedDateTime::toInstant).orElse(null);
    } catch (RuntimeException malformed) {
      throw FakeEngine.invalid("the fake can't read the schedule's timing: " + malformed.getMessage());
    }
  }

  /** When a schedule is due next. */
  Optional<Instant> nextDue() {
    synchronized (engine) {
      return entries.values().stream()
          .filter(entry -> !entry.paused && entry.next != null)
          .map(entry -> entry.next)
          .min(Comparator.naturalOrder());
    }
  }

  /** Makes the jobs that are due. */
  void runDue() {
    synchronized (engine) {
      for (Entry entry : entries.values()) {
        while (!entry.paused && entry.next != null && !entry.next.isAfter(engine.now())) {
          entry.last = entry.next;
          entry.next = after(entry.spec.getTiming(), entry.last);
          make(entry, "");
        }
      }
    }
  }

  private String make(Entry entry, String id) {
    FakeJob job = engine.create(entry.spec.getJob().toBuilder().setId(id).build()).job();
    job.scheduleName = entry.spec.getName();
    entry.lastJob = job.id();
    entry.runs++;
    return job.id();
  }

  private Entry known(String name) {
    Entry entry = entries.get(name);
    if (entry == null) {
      throw Status.NOT_FOUND.withDescription("there is no schedule '" + name + "'").asRuntimeException();
    }
    return entry;
  }

  @Override
  public void createSchedule(CreateScheduleRequest request, StreamObserver<CreateScheduleResponse> answer) {
    Answering.answer(
        answer,
        () -> {
          synchronized (engine) {
            Entry existing = entries.get(request.getSchedule().getName());
            if (existing != null && !existing.spec.equals(request.getSchedule())) {
              throw Status.ALREADY_EXISTS.withDescription("the schedule exists with other content").asRuntimeException();
            }
            Entry entry = existing != null ? existing : new Entry(request.getSchedule(), "", engine.now());
            entries.put(entry.spec.getName(), entry);
            return CreateScheduleResponse.newBuilder().setSchedule(entry.message()).setExisting(existing != null).build();
          }
        });
  }

  @Override
  public void declareSchedules(DeclareSchedulesRequest request, StreamObserver<DeclareSchedulesResponse> answer) {
    Answering.answer(
        answer,
        () -> {
          synchronized (engine) {
            return declare(request);
          }
        });
  }

  private DeclareSchedulesResponse declare(DeclareSchedulesRequest request) {
    DeclareSchedulesResponse.Builder response = DeclareSchedulesResponse.newBuilder();
    for (ScheduleSpec spec : request.getSchedulesList()) {
      Entry before = entries.get(spec.getName());
      if (before == null) {
        response.setCreated(response.getCreated() + 1);
      } else if (before.spec.equals(spec)) {
        response.setUnchanged(response.getUnchanged() + 1);
        continue;
      } else {
        response.setUpdated(response.getUpdated() + 1);
      }
      entries.put(spec.getName(), new Entry(spec, request.getOwner(), engine.now()));
    }
    if (request.getPrune()) {
      int before = entries.size();
      entries.values().removeIf(
          entry -> entry.owner.equals(request.getOwner()) && request.getSchedulesList().stream().noneMatch(entry.spec::equals));
      response.setDeleted(before - entries.size());
    }
    return response.build();
  }

  @Override
  public void getSchedule(GetScheduleRequest request, StreamObserver<GetScheduleResponse> answer) {
    Answering.answer(
        answer,
        () -> {
          synchronized (engine) {
            return GetScheduleResponse.newBuilder().setSchedule(known(request.getName()).message()).build();
          }
        });
  }

  @Override
  public void listSchedules(ListSchedulesRequest request, StreamObserver<ListSchedulesResponse> answer) {
    Answering.answer(
        answer,
        () -> {
          synchronized (engine) {
            ListSchedulesResponse.Builder page = ListSchedulesResponse.newBuilder();
            entries.values().stream()
                .filter(entry -> request.getOwner().isEmpty() || request.getOwner().equals(entry.owner))
                .forEach(entry -> page.addSchedules(entry.message()));
            return page.build();
          }
        });
  }

  @Override
  public void pauseSchedule(PauseScheduleRequest request, StreamObserver<PauseScheduleResponse> answer) {
    Answering.answer(answer, () -> PauseScheduleResponse.newBuilder().setSchedule(pause(request.getName(), true)).build());
  }

  @Override
  public void resumeSchedule(ResumeScheduleRequest request, StreamObserver<ResumeScheduleResponse> answer) {
    Answering.answer(answer, () -> ResumeScheduleResponse.newBuilder().setSchedule(pause(request.getName(), false)).build());
  }

  private Schedule pause(String name, boolean paused) {
    synchronized (engine) {
      Entry entry = known(name);
      entry.paused = paused;
      return entry.message();
    }
  }

  @Override
  public void runSchedule(RunScheduleRequest request, StreamObserver<RunScheduleResponse> answer) {
    Answering.answer(
        answer,
        () -> {
          String id;
          synchronized (engine) {
            id = make(known(request.getName()), request.getJobId());
          }
          created.run();
          return RunScheduleResponse.newBuilder().setJobId(id).build();
        });
  }

  @Override
  public void deleteSchedule(DeleteScheduleRequest request, StreamObserver<DeleteScheduleResponse> answer) {
    Answering.answer(
        answer,
        () -> {
          synchronized (engine) {
            known(request.getName());
            entries.remove(request.getName());
            return DeleteScheduleResponse.getDefaultInstance();
          }
        });
  }
}
