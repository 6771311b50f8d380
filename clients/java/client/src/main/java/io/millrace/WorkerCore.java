// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.millrace.proto.v1.Command;
import io.millrace.proto.v1.Deliveries;
import io.millrace.proto.v1.Delivery;
import io.millrace.proto.v1.Failed;
import io.millrace.proto.v1.HeldDelivery;
import io.millrace.proto.v1.Heartbeat;
import io.millrace.proto.v1.Released;
import io.millrace.proto.v1.ReleaseReason;
import io.millrace.proto.v1.Report;
import io.millrace.proto.v1.Reports;
import io.millrace.proto.v1.Started;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;

/**
 * What a worker's threads share: the deliveries that it holds, the reports on their way, the connection. {@link SessionLoop} looks
 * after the session, {@link HandlerPool} runs handlers, the link's threads bring messages.
 *
 * <p>One lock guards all of it and is never held while a handler runs or a message is sent. A delivery is held from its arrival until
 * its final report has been accepted. A repeat is dropped, a gap breaks the connection.
 */
final class WorkerCore {
  /** A handler that has ended by then needs no report of its start. */
  private static final Duration STARTED_AFTER = Duration.ofMillis(10);

  private static final int MANY_REPORTS = 250;
  private static final System.Logger LOG = System.getLogger(Worker.class.getName());

  final Object lock = new Object();
  private final Encoding encoding;
  private final Outbox outbox = new Outbox();
  private final Map<Execution.Key, Execution> held = new LinkedHashMap<>();
  private final Deque<Execution> queue = new ArrayDeque<>();
  private final Set<Execution> unstarted = new LinkedHashSet<>();
  private final int concurrency;
  private HandlerPool pool;
  private Registration registration;
  private Joining joining;
  private Link link;
  private boolean isSending;
  private boolean isHeartbeatDue;
  private boolean isBroken;
  private boolean isReleasing;
  private boolean isDraining;
  private boolean sessionSleeps;
  private long heardNanos;
  private long receivedUpTo;
  private long ping;
  private int running;
  private int orphans;
  private long taken;

  WorkerCore(Encoding encoding, int concurrency) {
    this.encoding = encoding;
    this.concurrency = concurrency;
  }

  void pool(HandlerPool value) {
    pool = value;
  }

  Encoding encoding() {
    return encoding;
  }

  // ---- the session ----

  Registration registration() {
    synchronized (lock) {
      return registration;
    }
  }

  void registered(Registration value) {
    synchronized (lock) {
      registration = value;
    }
  }

  /** The session is gone: its jobs run elsewhere, and those here are told to stop. */
  void orphanAll() {
    synchronized (lock) {
      outbox.forget();
      queue.clear();
      unstarted.clear();
      for (Execution execution : held.values()) {
        execution.isOrphan = true;
        if (execution.thread != null) {
          orphans++;
          stop(execution, Execution.Stop.LOST);
        }
      }
      held.clear();
      receivedUpTo = 0;
      ping = 0;
      registration = null;
    }
  }

  /** Before a link is opened: what it is to tell its news to. What links before it still tell is not heard any more. */
  Link.Events prepareLink() {
    synchronized (lock) {
      joining = new Joining();
      link = null;
      isBroken = false;
      isSending = false;
      isHeartbeatDue = true;
      heardNanos = System.nanoTime();
      outbox.restart();
      return joining;
    }
  }

  /** One connection's news. */
  private final class Joining implements Link.Events {
    @Override
    public void received(Deliveries message) {
      synchronized (lock) {
        if (joining != this) {
          return;
        }
        take(message);
      }
      flush(false);
    }

    @Override
    public void sent() {
      synchronized (lock) {
        if (joining != this) {
          return;
        }
        isSending = false;
      }
      flush(false);
    }

    @Override
    public void broken(String why) {
      synchronized (lock) {
        if (joining == this) {
          breakLink(why);
        }
      }
    }
  }

  /** With the lock. */
  private void breakLink(String why) {
    if (!isBroken) {
      LOG.log(System.Logger.Level.WARNING, "the connection broke: {0}", why);
    }
    isBroken = true;
    lock.notifyAll();
  }

  /** From now on messages go out; the first one is a heartbeat. */
  void joined(Link opened) {
    synchronized (lock) {
      link = opened;
    }
    flush(true);
  }

  /** Closes the link, if there is one. */
  void hangUp() {
    Link closing;
    synchronized (lock) {
      closing = link;
      link = null;
      joining = null; // that it ends is no news
    }
    if (closing != null) {
      closing.close();
    }
  }

  /** The link is of no more use. */
  boolean isBroken(Duration silenceMax) {
    synchronized (lock) {
      boolean isSilent = System.nanoTime() - heardNanos > silenceMax.toNanos();
      if (isSilent && !isBroken) {
        LOG.log(System.Logger.Level.WARNING, "the server has been silent for {0} s: joining again", silenceMax.toSeconds());
      }
      return isBroken || isSilent;
    }
  }

  void heartbeatIsDue() {
    synchronized (lock) {
      isHeartbeatDue = true;
    }
  }

  /** Nothing is started any more; what has not started is given back. */
  void beginReleasing() {
    synchronized (lock) {
      isReleasing = true;
      while (!queue.isEmpty()) {
        release(queue.remove(), ReleaseReason.RELEASE_REASON_STOPPING);
      }
    }
    flush(true);
  }

  /** The grace is over: tells what still runs to stop. */
  void stopRunning() {
    synchronized (lock) {
      held.values().stream().filter(execution -> execution.thread != null).forEach(one -> stop(one, Execution.Stop.SHUTDOWN));
    }
  }

  /**
   * Gives back what still runs, because the process ends. But of a job that is to be cancelled any report would say that its handler
   * has stopped: it is left to the server, which ends it when it has not heard of this session for a while.
   */
  void releaseRunning() {
    synchronized (lock) {
      held.values().stream()
          .filter(execution -> execution.phase == Execution.Phase.RUNNING && execution.stopRequested() == Execution.Stop.SHUTDOWN)
          .forEach(execution -> release(execution, ReleaseReason.RELEASE_REASON_STOPPING));
    }
    flush(true);
  }

  /** The handler of a job that is to be cancelled still runs, and nobody may be told that it has stopped. */
  boolean mustNotConfirm() {
    synchronized (lock) {
      return held.values().stream()
          .filter(execution -> execution.phase == Execution.Phase.RUNNING)
          .map(Execution::stopRequested)
          .anyMatch(why -> why == Execution.Stop.CANCEL || why == Execution.Stop.TERMINATE);
    }
  }

  boolean isDraining() {
    synchronized (lock) {
      return isDraining;
    }
  }

  /** No handler runs (but those of a lost session), and nothing waits for one. */
  boolean isIdle() {
    synchronized (lock) {
      return running == orphans && queue.isEmpty();
    }
  }

  int running() {
    synchronized (lock) {
      return running;
    }
  }

  /** All reports have been accepted. */
  boolean isReported() {
    synchronized (lock) {
      return outbox.isEmpty();
    }
  }

  /** While releasing: waits until all reports have been accepted, or System.nanoTime() is there. */
  void awaitReported(long end) {
    synchronized (lock) {
      try {
        for (long left = end - System.nanoTime(); left > 0 && !outbox.isEmpty(); left = end - System.nanoTime()) {
          TimeUnit.NANOSECONDS.timedWait(lock, left);
        }
      } catch (InterruptedException interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  /** Sleeps until there is something for the session's thread to do, at most so long. */
  @SuppressWarnings("WaitNotInLoop") // the caller looks at everything anew
  void sleep(Duration atMost) throws InterruptedException {
    synchronized (lock) {
      reportStarts();
    }
    flush(true);
    synchronized (lock) {
      long ms = unstarted.isEmpty() ? atMost.toMillis() : Math.min(atMost.toMillis(), STARTED_AFTER.toMillis());
      if (!queue.isEmpty()) {
        ms = Math.min(ms, HandlerPool.STALL.toMillis());
      }
      if (!isBroken || link == null) {
        sessionSleeps = unstarted.isEmpty() && queue.isEmpty();
        lock.wait(Math.max(1, ms));
        sessionSleeps = false;
      }
      pool.lookForStall(taken, queue.size(), orphans);
    }
  }

  void wake() {
    synchronized (lock) {
      lock.notifyAll();
    }
  }

  /** With the lock. Reports the start of handlers that take their time. */
  private void reportStarts() {
    Instant now = Instant.now();
    Iterator<Execution> oldestFirst = unstarted.iterator();
    while (oldestFirst.hasNext()) {
      Execution execution = oldestFirst.next();
      Duration age = Duration.between(execution.startedAt, now);
      // A clock that was put back must not hold it up.
      if (!age.isNegative() && age.compareTo(STARTED_AFTER) < 0) {
        return;
      }
      oldestFirst.remove();
      Started started = Started.newBuilder().setStartedAt(Convert.toTimestamp(execution.startedAt)).build();
      outbox.add(execution.report().setStarted(started).build(), execution.registration.reportsBytesMax());
    }
  }

  // ---- what comes ----

  /** With the lock. */
  private void take(Deliveries message) {
    heardNanos = System.nanoTime();
    if (message.getPing() != 0) {
      ping = message.getPing();
    }
    outbox.accepted(message.getAcceptedReportSeq()).forEach(execution -> held.remove(execution.key));
    takeDeliveries(message);
    message.getCommandsList().forEach(this::obey);
    if (sessionSleeps || isBroken || isDraining || isReleasing) {
      lock.notifyAll();
    }
  }

  /** With the lock. */
  private void takeDeliveries(Deliveries message) {
    if (message.getDeliverySeq() <= receivedUpTo) { // also one without a number
      return;
    }
    if (message.getDeliverySeq() != receivedUpTo + 1) {
      LOG.log(System.Logger.Level.WARNING, "deliveries are missing: joining again");
      isBroken = true;
      return;
    }
    receivedUpTo = message.getDeliverySeq();
    for (Delivery delivery : message.getDeliveriesList()) {
      Execution execution = new Execution(this, registration, delivery);
      held.put(execution.key, execution);
      if (isReleasing) {
        release(execution, ReleaseReason.RELEASE_REASON_STOPPING);
      } else {
        queue.add(execution);
      }
    }
    pool.wake(queue.size(), orphans);
  }

  /** With the lock. */
  private void obey(Command command) {
    switch (command.getKind()) {
      case COMMAND_KIND_QUIET -> LOG.log(System.Logger.Level.INFO, "the server made this worker quiet: nothing new will come");
      case COMMAND_KIND_DRAIN -> {
        LOG.log(System.Logger.Level.INFO, "the server drains this worker: it ends when its jobs have");
        isDraining = true;
      }
      case COMMAND_KIND_CANCEL -> stopDelivery(command, Execution.Stop.CANCEL);
      case COMMAND_KIND_TERMINATE -> stopDelivery(command, Execution.Stop.TERMINATE);
      case COMMAND_KIND_LOST -> stopDelivery(command, Execution.Stop.LOST);
      default -> LOG.log(System.Logger.Level.DEBUG, "a command of a later version: {0}", command.getKindValue());
    }
  }

  private void stopDelivery(Command command, Execution.Stop why) {
    Execution execution = held.get(new Execution.Key(command.getJobId(), command.getDelivery()));
    if (execution == null || execution.phase == Execution.Phase.REPORTED) {
      return;
    }
    if (execution.phase == Execution.Phase.RUNNING) {
      stop(execution, why);
      return;
    }
    queue.remove(execution);
    if (why == Execution.Stop.LOST) {
      held.remove(execution.key);
      isHeartbeatDue = true;
    } else {
      finish(execution, execution.report().setFailed(Failed.newBuilder().setCancelled(true)).build());
    }
  }

  /** With the lock. A cancel asks; all else interrupts, too. */
  private void stop(Execution execution, Execution.Stop why) {
    execution.requestStop(why);
    if (why != Execution.Stop.CANCEL && execution.thread != null) {
      execution.thread.interrupt();
    }
    if (why == Execution.Stop.TERMINATE) {
      pool.watchTermination(execution);
    }
  }

  // ---- handlers ----

  /** The next delivery to run, on this thread; null: none, and the thread is free. */
  Execution take() {
    synchronized (lock) {
      Execution execution = queue.poll();
      if (execution == null) {
        pool.freed();
        return null;
      }
      execution.phase = Execution.Phase.RUNNING;
      execution.thread = Thread.currentThread();
      execution.startedAt = Instant.now();
      unstarted.add(execution);
      running++;
      taken++;
      if (sessionSleeps) {
        lock.notifyAll();
      }
      return execution;
    }
  }

  /** The handler has returned; the report tells how. */
  void returned(Execution execution, Report report, long tookNanos) {
    synchronized (lock) {
      pool.took(tookNanos);
      execution.thread = null;
      Thread.interrupted(); // it was meant for the job that has ended, and none comes any more
      unstarted.remove(execution);
      running--;
      if (execution.isOrphan) {
        orphans--;
      } else if (execution.phase == Execution.Phase.REPORTED) {
        lock.notifyAll(); // given back meanwhile, because the worker stops
      } else if (execution.stopRequested() == Execution.Stop.LOST) {
        // That it is not held any more says that the handler has stopped.
        held.remove(execution.key);
        isHeartbeatDue = true;
      } else {
        finish(execution, report);
      }
      if (isReleasing || isDraining) {
        lock.notifyAll();
      }
    }
    flush(false);
  }

  /** With the lock. */
  private void release(Execution execution, ReleaseReason reason) {
    finish(execution, execution.report().setReleased(Released.newBuilder().setReason(reason)).build());
  }

  /** With the lock. */
  private void finish(Execution execution, Report report) {
    execution.phase = Execution.Phase.REPORTED;
    outbox.addFinal(report, execution, execution.registration.reportsBytesMax());
  }

  boolean isStillIn(Execution execution) {
    synchronized (lock) {
      return execution.thread != null;
    }
  }

  /** Progress, or a log line. */
  void news(Execution execution, Report report) {
    synchronized (lock) {
      if (execution.isOrphan || execution.phase != Execution.Phase.RUNNING) {
        return;
      }
      outbox.addNews(report, execution.registration.reportsBytesMax());
    }
    flush(true);
  }

  // ---- what goes ----

  /** Sends what there is, one message at a time. */
  private void flush(boolean atOnce) {
    while (true) {
      Link to;
      Reports message;
      synchronized (lock) {
        if (isSending || link == null || isBroken) {
          return;
        }
        message = nextMessage(atOnce);
        if (message == null) {
          return;
        }
        isSending = true;
        to = link;
      }
      if (!send(to, message)) {
        return;
      }
      synchronized (lock) {
        if (to == link) {
          isSending = false;
        }
      }
    }
  }

  private boolean send(Link to, Reports message) {
    try {
      return to.send(message);
    } catch (IllegalStateException closed) { // a link that has just ended
      synchronized (lock) {
        if (to == link) {
          breakLink(String.valueOf(closed.getMessage()));
        }
      }
      return false;
    }
  }

  /** With the lock. */
  private Reports nextMessage(boolean atOnce) {
    if (isHeartbeatDue) {
      isHeartbeatDue = false;
      return heartbeat();
    }
    // Quick jobs are queued: their reports will be there in a moment and make one message with these.
    boolean othersFollow = !queue.isEmpty() && pool.isQuick() && outbox.gathered() < MANY_REPORTS;
    return outbox.next(!atOnce && othersFollow);
  }

  private Reports heartbeat() {
    Heartbeat.Builder heartbeat = Heartbeat.newBuilder().setReceivedUpTo(receivedUpTo).setPing(ping);
    for (Execution.Key key : held.keySet()) {
      heartbeat.addHeld(HeldDelivery.newBuilder().setJobId(key.jobId()).setDelivery(key.delivery()));
    }
    heartbeat.setFreeSlots(Math.max(0, concurrency - held.size()));
    return Reports.newBuilder().setHeartbeat(heartbeat).build();
  }
}
