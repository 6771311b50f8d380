// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.millrace.proto.v1.Deliveries;
import io.millrace.proto.v1.Reports;

/** A session's connection, whatever carries it. */
interface Link {
  /** What a link tells; on its own threads, one call at a time for {@code received}. */
  interface Events {
    /** A message has come. */
    void received(Deliveries message);

    /** The message given to {@link #send} is on its way: the next one may be sent. */
    void sent();

    /** The connection has ended. */
    void broken(String why);
  }

  /** Sends one message. True: the next one may be sent at once; false: after {@link Events#sent}. */
  boolean send(Reports message);

  /** Ends the connection; nothing is told afterwards that matters. */
  void close();
}
