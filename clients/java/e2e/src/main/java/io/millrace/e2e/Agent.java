// SPDX-License-Identifier: Apache-2.0
package io.millrace.e2e;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.millrace.Transport;
import io.millrace.Version;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Locale;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** The client as the scenarios' runner drives it, by stdin and stdout. tests/e2e/scenarios/README.md tells the protocol. */
public final class Agent {
  private final PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);
  private final ExecutorService threads = Executors.newCachedThreadPool();
  private final Commands commands;

  private Agent(Transport transport) {
    commands = new Commands(transport, this::write);
  }

  /** Runs until stdin ends. */
  public static void main(String[] arguments) throws IOException {
    System.setOut(System.err); // stdout is for the protocol alone
    String transport = arguments.length == 2 && arguments[0].equals("--transport") ? arguments[1] : "auto";
    Agent agent = new Agent(Transport.valueOf(transport.toUpperCase(Locale.ROOT)));
    Runtime.getRuntime().addShutdownHook(new Thread(agent::stop));
    agent.serve();
    Runtime.getRuntime().halt(0); // at once, without waiting for anything
  }

  /** On SIGTERM. The protocol wants 0, where the JVM would say 143. */
  private void stop() {
    commands.stopWorker();
    Runtime.getRuntime().halt(0);
  }

  private void serve() throws IOException {
    write(Answers.object().put("ready", true).put("client", "java").put("version", Version.TEXT));
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      JsonNode command = Answers.read(line);
      if (command.path("command").asText().equals("open")) {
        answer(command); // before all others
      } else {
        threads.execute(() -> answer(command));
      }
    }
  }

  private void answer(JsonNode command) {
    ObjectNode answer = Answers.object();
    answer.set("number", command.get("number"));
    try {
      answer.set("ok", commands.run(command));
    } catch (UnsupportedOperationException unknown) {
      answer.putObject("error").put("kind", "unsupported").put("message", unknown.getMessage());
    } catch (CompletionException failure) {
      answer.set("error", Answers.error(failure.getCause()));
    } catch (Exception failure) {
      answer.set("error", Answers.error(failure));
    }
    write(answer);
  }

  private synchronized void write(ObjectNode line) {
    out.println(line);
    out.flush();
  }
}
