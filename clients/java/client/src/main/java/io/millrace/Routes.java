// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;

/** Routing rules: which queue a task's jobs go to when the spec names none. The first rule that matches decides. */
final class Routes {
  private record Rule(Pattern pattern, String queue) {}

  private final List<Rule> rules = new ArrayList<>();

  Routes(Map<String, String> byPattern) {
    byPattern.forEach((pattern, queue) -> rules.add(new Rule(compile(pattern), queue)));
  }

  private static Pattern compile(String glob) {
    StringBuilder regex = new StringBuilder();
    for (int i = 0; i < glob.length(); i++) {
      char c = glob.charAt(i);
      regex.append(c == '*' ? ".*" : c == '?' ? "." : Pattern.quote(String.valueOf(c)));
    }
    return Pattern.compile(regex.toString());
  }

  /** The queue, or empty for the server's default. */
  String queueOf(String task) {
    for (Rule rule : rules) {
      if (rule.pattern.matcher(task).matches()) {
        return rule.queue;
      }
    }
    return "";
  }
}
