// SPDX-License-Identifier: Apache-2.0
package io.millrace.e2e;

import static org.assertj.core.api.Assertions.assertThat;

import io.millrace.Client;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** What the README begins with is true as it stands there. */
@Timeout(180)
final class ReadmeIT {
  @TempDir static Path directory;

  private static String readme() throws IOException {
    return Files.readString(Path.of("../README.md"));
  }

  private static String firstBlock(String language) throws IOException {
    Matcher block = Pattern.compile("(?s)```" + language + "\n(.*?)```").matcher(readme());
    assertThat(block.find()).isTrue();
    return block.group(1);
  }

  @Test
  void itsFirstProgramPrintsWhatItPromises() throws Exception {
    Path source = Files.writeString(directory.resolve("Main.java"), firstBlock("java"));
    Path log = directory.resolve("log");
    String java = Path.of(System.getProperty("java.home"), "bin", "java").toString();
    try (Server server = new Server(directory).start()) {
      ProcessBuilder program = new ProcessBuilder(java, "-cp", System.getProperty("java.class.path"), source.toString());
      program.environment().put("MILLRACE_ADDRESS", server.address());
      Process process = program.redirectError(log.toFile()).start();
      String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      assertThat(process.waitFor()).as(() -> said + log(log)).isZero();
      assertThat(readme()).contains("prints `" + said.strip() + "`");
    }
  }

  private static String log(Path file) {
    try {
      return Files.readString(file);
    } catch (IOException error) {
      return error.toString();
    }
  }

  @Test
  void itsPomNamesThisVersion() throws IOException {
    Properties version = new Properties();
    try (InputStream file = Client.class.getResourceAsStream("version.properties")) {
      version.load(file);
    }
    assertThat(firstBlock("xml"))
        .contains("<artifactId>millrace-bom</artifactId>\n        <version>" + version.getProperty("version") + "</version>");
  }
}
