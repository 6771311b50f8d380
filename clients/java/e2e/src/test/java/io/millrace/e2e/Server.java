// SPDX-License-Identifier: Apache-2.0
package io.millrace.e2e;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Assumptions;

/** A real millraced with a store of its own, on free ports. MILLRACE_BIN names the folder of the programs. */
final class Server implements AutoCloseable {
  private static final long PATIENCE_SECONDS = 60;

  private final Path directory;
  private final List<String> more;
  private Process process;
  private JsonNode ports;

  /** Further options stand for those of before. */
  Server(Path directory, String... more) {
    this.directory = directory;
    this.more = List.of(more);
  }

  /** Where gRPC is. */
  String address() {
    return "127.0.0.1:" + ports.get("grpc").asInt();
  }

  /** The same by a socket of the file system. */
  String unixAddress() {
    return "unix:" + directory.resolve("grpc.sock");
  }

  /** A figure of its monitor port that has no labels. */
  long metric(String name) throws IOException {
    String text;
    try (var in = URI.create("http://127.0.0.1:" + port("monitor") + "/metrics").toURL().openStream()) {
      text = new String(in.readAllBytes(), StandardCharsets.UTF_8);
    }
    String line = text.lines().filter(one -> one.startsWith(name + " ")).findFirst().orElseThrow();
    return (long) Double.parseDouble(line.substring(name.length() + 1));
  }

  Server start() throws IOException, InterruptedException {
    String bin = System.getenv("MILLRACE_BIN");
    Assumptions.assumeTrue(bin != null, "MILLRACE_BIN is not set: no server to test against");
    Path portFile = directory.resolve("ports.json");
    Files.deleteIfExists(portFile);
    List<String> command = new ArrayList<>(List.of(bin + "/millraced", "--data-dir", directory.resolve("data").toString()));
    command.addAll(List.of("--listen", "127.0.0.1:" + port("grpc"), "--listen", unixAddress()));
    command.addAll(List.of("--worker-listen", "127.0.0.1:" + port("worker"), "--monitor-listen", "127.0.0.1:0"));
    command.addAll(List.of("--port-file", portFile.toString()));
    command.addAll(List.of("--session-timeout", "5s", "--reconnect-grace", "2s", "--heartbeat", "500ms"));
    command.addAll(more);
    File log = directory.resolve("server.log").toFile();
    process = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.appendTo(log)).start();
    Runtime.getRuntime().addShutdownHook(new Thread(process::destroyForcibly));
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_SECONDS);
    while (!Files.exists(portFile) || Files.size(portFile) == 0) {
      if (!process.isAlive() || System.nanoTime() - end > 0) {
        throw new IllegalStateException("millraced did not start:\n" + Files.readString(log.toPath()));
      }
      Thread.sleep(10);
    }
    ports = new ObjectMapper().readTree(portFile.toFile());
    return this;
  }

  private int port(String name) {
    return ports == null ? 0 : ports.get(name).asInt();
  }

  /** As by kill -9, and up again on the same ports and data. */
  void restart() throws IOException, InterruptedException {
    process.destroyForcibly().waitFor();
    start();
  }

  @Override
  public void close() throws InterruptedException {
    if (process != null) {
      process.destroy();
      if (!process.waitFor(PATIENCE_SECONDS, TimeUnit.SECONDS)) {
        process.destroyForcibly();
      }
    }
  }
}
