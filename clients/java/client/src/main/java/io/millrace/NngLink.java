// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import com.google.protobuf.InvalidProtocolBufferException;
import io.millrace.proto.v1.Deliveries;
import io.millrace.proto.v1.Reports;
import java.io.ByteArrayOutputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import javax.net.ssl.SSLException;

/** Two plain WebSockets that speak as nng does: deliveries come on one, reports go on the other. */
final class NngLink implements Link {
  private static final Duration DIAL_TIMEOUT = Duration.ofSeconds(10);
  private static final int MESSAGE_BYTES_MAX = 16 << 20;

  private final int fragmentBytes;
  private final Events events;
  private volatile WebSocket jobs;
  private volatile WebSocket reports;

  private NngLink(int fragmentBytes, Events events) {
    this.fragmentBytes = fragmentBytes;
    this.events = events;
  }

  /** Dials both paths. UnavailableException: it could not be done; the server does not tell why. */
  static NngLink open(HttpClient http, Registration registration, Events events) {
    NngLink link = new NngLink(registration.fragmentBytes(), events);
    try {
      link.jobs = link.dial(http, registration, registration.jobsPath(), "push.sp.nanomsg.org", link.new Receiver());
      link.reports = link.dial(http, registration, registration.reportsPath(), "pull.sp.nanomsg.org", link.new Watcher());
      return link;
    } catch (RuntimeException failure) {
      link.close();
      throw Errors.unavailable("cannot join at " + registration.url() + ": " + reason(Errors.unwrap(failure)));
    }
  }

  private static String reason(Throwable failure) {
    // Such as "No subject alternative names present", which does not tell what it is about.
    return failure instanceof SSLException ? "TLS failed: " + failure.getMessage() : failure.getMessage();
  }

  private WebSocket dial(HttpClient http, Registration registration, String path, String protocol, WebSocket.Listener listener) {
    return http.newWebSocketBuilder()
        .connectTimeout(DIAL_TIMEOUT)
        .header("Authorization", "Bearer " + registration.token())
        .subprotocols(protocol)
        .buildAsync(URI.create(registration.url() + path), listener)
        .join();
  }

  @Override
  public boolean send(Reports message) {
    CompletableFuture<WebSocket> sending = sendFragments(ByteBuffer.wrap(message.toByteArray()));
    if (sending.isDone() && !sending.isCompletedExceptionally()) {
      return true;
    }
    sending.whenComplete(
        (socket, failure) -> {
          if (failure == null) {
            events.sent();
          } else {
            events.broken("cannot send: " + Errors.unwrap(failure).getMessage());
          }
        });
    return false;
  }

  /** The server takes no frame above 1 MiB, so a long message goes in parts. */
  private CompletableFuture<WebSocket> sendFragments(ByteBuffer message) {
    boolean isLast = message.remaining() <= fragmentBytes;
    ByteBuffer part = message.slice(message.position(), Math.min(message.remaining(), fragmentBytes));
    message.position(message.position() + part.remaining());
    CompletableFuture<WebSocket> sending = reports.sendBinary(part, isLast);
    return isLast ? sending : sending.thenCompose(socket -> sendFragments(message));
  }

  @Override
  public void close() {
    if (jobs != null) {
      jobs.abort();
    }
    if (reports != null) {
      reports.abort();
    }
  }

  /** Tells when the connection ends. */
  private class Watcher implements WebSocket.Listener {
    @Override
    public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
      events.broken("the server closed the connection (" + code + (reason.isEmpty() ? "" : ": " + reason) + ")");
      return null;
    }

    @Override
    public void onError(WebSocket socket, Throwable failure) {
      events.broken(String.valueOf(failure.getMessage()));
    }
  }

  /** Puts messages together: the server cuts them into frames as it likes. */
  private final class Receiver extends Watcher {
    private final ByteArrayOutputStream message = new ByteArrayOutputStream();

    @Override
    public CompletionStage<?> onBinary(WebSocket socket, ByteBuffer data, boolean isLast) {
      byte[] part = new byte[data.remaining()];
      data.get(part);
      if (message.size() + part.length > MESSAGE_BYTES_MAX) {
        events.broken("a message of more than " + MESSAGE_BYTES_MAX + " bytes");
        socket.abort();
        return null;
      }
      message.write(part, 0, part.length);
      if (isLast) {
        deliver();
      }
      socket.request(1);
      return null;
    }

    private void deliver() {
      try {
        events.received(Deliveries.parseFrom(message.toByteArray()));
      } catch (InvalidProtocolBufferException failure) {
        events.broken("a message that can't be read: " + failure.getMessage());
      } finally {
        message.reset();
      }
    }
  }
}
