// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.millrace.proto.v1.RegisterRequest;
import io.millrace.proto.v1.WorkerQueue;
import io.millrace.proto.v1.WorkerTask;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/** Configures a {@link Worker}. */
public final class WorkerBuilder {
  private static final int HOSTNAME_BYTES = 256;

  private final Client client;
  private final Map<String, Integer> queues = new LinkedHashMap<>();
  private final Map<String, String> labels = new LinkedHashMap<>();
  private final Map<String, TaskOptions> tasks = new LinkedHashMap<>();
  final Map<String, Handler> handlers = new LinkedHashMap<>();
  final List<Middleware> middleware = new ArrayList<>();
  int concurrency = 10;
  private int prefetch;
  Transport transport = Transport.AUTO;
  String url = urlOf(System.getenv("MILLRACE_WORKER_URL"));
  Duration stopGrace = Duration.ofSeconds(30);
  Duration terminateGrace = Duration.ofSeconds(10);

  WorkerBuilder(Client client) {
    this.client = client;
  }

  /** Serves this queue. Without any: {@code default}. */
  public WorkerBuilder queue(String name) {
    return queue(name, 1);
  }

  /** Serves this queue with a share against the worker's other queues within one priority, 1 to 1,000. */
  public WorkerBuilder queue(String name, int weight) {
    queues.put(name, weight);
    return this;
  }

  /** Jobs at a time. Default 10. */
  public WorkerBuilder concurrency(int jobs) {
    concurrency = jobs;
    return this;
  }

  /** Jobs held ready beyond that, for very quick handlers. Default 0. */
  public WorkerBuilder prefetch(int jobs) {
    prefetch = jobs;
    return this;
  }

  /** Handles a task; {@code *} stands for all that have no handler of their own. */
  public WorkerBuilder handle(String task, Handler handler) {
    return handle(task, TaskOptions.create(), handler);
  }

  /** Handles a task, and declares its policy. */
  public WorkerBuilder handle(String task, TaskOptions options, Handler handler) {
    handlers.put(Objects.requireNonNull(task), Objects.requireNonNull(handler));
    tasks.put(task, options);
    return this;
  }

  /** Handles a task whose payload is read as that type. */
  public <T> WorkerBuilder handle(String task, Class<T> type, Handler.Typed<T> handler) {
    return handle(task, type, TaskOptions.create(), handler);
  }

  /** Handles a task whose payload is read as that type, and declares its policy. */
  public <T> WorkerBuilder handle(String task, Class<T> type, TaskOptions options, Handler.Typed<T> handler) {
    return handle(task, options, job -> handler.handle(job.payload(type), job));
  }

  /** Something around every handler; the first one added is outermost. */
  public WorkerBuilder middleware(Middleware value) {
    middleware.add(Objects.requireNonNull(value));
    return this;
  }

  /** How deliveries come. Default AUTO. */
  public WorkerBuilder transport(Transport value) {
    transport = Objects.requireNonNull(value);
    return this;
  }

  /** Where to join by WebSocket, {@code ws://host:port}. Default: MILLRACE_WORKER_URL, else where the server says. */
  public WorkerBuilder url(String value) {
    url = urlOf(Objects.requireNonNull(value));
    return this;
  }

  /** How long running jobs may go on after a stop; what has not ended by then is given back. Default 30 s. */
  public WorkerBuilder stopGrace(Duration value) {
    stopGrace = Objects.requireNonNull(value);
    return this;
  }

  /**
   * How long a handler has to obey a terminate, which interrupts its thread. If it does not, the process ends with exit code 75, as
   * nothing else stops a thread; the worker's other jobs run again elsewhere. Default 10 s.
   */
  public WorkerBuilder terminateGrace(Duration value) {
    terminateGrace = Objects.requireNonNull(value);
    return this;
  }

  /** A label of the worker, for people. */
  public WorkerBuilder label(String key, String value) {
    labels.put(key, value);
    return this;
  }

  /** The worker, not yet started. */
  public Worker build() {
    if (handlers.isEmpty()) {
      throw Errors.invalid("handlers", "a worker needs at least one handler");
    }
    if (concurrency < 1) {
      throw Errors.invalid("concurrency", "the concurrency is at least 1, not " + concurrency);
    }
    return new Worker(client, this);
  }

  private static String urlOf(String value) {
    if (value == null || value.isEmpty()) {
      return null;
    }
    if (!value.startsWith("ws://") && !value.startsWith("wss://")) {
      throw Errors.invalid("url", "'" + value + "' is not ws://host:port (MILLRACE_WORKER_URL)");
    }
    return value.endsWith("/") ? value.substring(0, value.length() - 1) : value;
  }

  RegisterRequest request() {
    RegisterRequest.Builder request = RegisterRequest.newBuilder().setConcurrency(concurrency).setPrefetch(prefetch);
    Map<String, Integer> served = queues.isEmpty() ? Map.of("default", 1) : queues;
    served.forEach((name, weight) -> request.addQueues(WorkerQueue.newBuilder().setName(name).setWeight(weight)));
    tasks.forEach((name, options) -> request.addTasks(task(name, options)));
    request.putAllLabels(labels).setPid((int) ProcessHandle.current().pid());
    request.setHostname(Failures.cut(hostname(), HOSTNAME_BYTES)).setSdk("millrace-java/" + Version.TEXT);
    return request.build();
  }

  private static WorkerTask task(String name, TaskOptions options) {
    WorkerTask.Builder task = WorkerTask.newBuilder().setName(name);
    if (options.retryPolicy != null) {
      task.setRetryPolicy(Convert.toRetryPolicy(options.retryPolicy));
    }
    if (options.attemptTimeout != null) {
      task.setAttemptTimeout(Convert.toDuration(options.attemptTimeout));
    }
    return task.build();
  }

  private static String hostname() {
    try {
      return InetAddress.getLocalHost().getHostName();
    } catch (UnknownHostException nameless) {
      return "";
    }
  }
}
