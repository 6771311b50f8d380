// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.grpc.ChannelCredentials;
import io.grpc.ClientInterceptor;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.shaded.io.netty.channel.ChannelOption;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollDomainSocketChannel;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollEventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.unix.DomainSocketAddress;
import io.grpc.netty.shaded.io.netty.util.concurrent.DefaultThreadFactory;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;

/** Configures a {@link Client}. */
public final class ClientBuilder {
  /** The largest answer is below 4 MiB; a delivery of one large job is less. */
  private static final int RECEIVE_BYTES_MAX = 16 << 20;

  /** Calls of up to 4 MiB are kept to be sent again. */
  private static final long RETRY_BYTES_MAX = 8 << 20;

  /** While calls are under way, a server that is silent for so long is asked whether it lives, and has so long to answer. */
  private static final long KEEPALIVE_SECONDS = 20;

  private static final long KEEPALIVE_TIMEOUT_SECONDS = 10;

  private static final String UNIX = "unix:";
  private static final Path SYSTEM = Path.of("system");
  private static final TypeReference<Map<String, Object>> MAP = new TypeReference<>() {};

  private String address = environment("MILLRACE_ADDRESS", "127.0.0.1:7070");
  private String token = environment("MILLRACE_TOKEN", "");
  private Path ca = path(environment("MILLRACE_CA", ""));
  private Path certificate = path(environment("MILLRACE_CERTIFICATE", ""));
  private Path key = path(environment("MILLRACE_KEY", ""));
  private boolean tls;
  private ManagedChannel channel;
  Duration callTimeout = Duration.ofSeconds(30);
  ObjectMapper mapper = Json.mapper();
  Codec codec;
  Map<String, String> routes = new LinkedHashMap<>();
  boolean coalescing = true;
  Telemetry telemetry = Telemetry.none();

  /**
   * The way to the server.
   *
   * @param channel for gRPC
   * @param host that a worker dials for its WebSockets, unless the server advertises another
   * @param tls for the WebSockets; null: the default
   * @param afterwards what is to be closed after the channel
   */
  record Connection(ManagedChannel channel, String host, SSLContext tls, Runnable afterwards) {}

  ClientBuilder() {}

  private static String environment(String name, String fallback) {
    String value = System.getenv(name);
    return value == null || value.isEmpty() ? fallback : value;
  }

  private static Path path(String name) {
    return name.isEmpty() ? null : Path.of(name);
  }

  /** {@code host:port} or {@code unix:/path}. Default: MILLRACE_ADDRESS, else 127.0.0.1:7070. */
  public ClientBuilder address(String value) {
    address = Objects.requireNonNull(value);
    return this;
  }

  /** Sent with each call. Default: MILLRACE_TOKEN, else what the file MILLRACE_TOKEN_FILE holds. */
  public ClientBuilder token(String value) {
    token = Objects.requireNonNull(value);
    return this;
  }

  /**
   * TLS (not on unix sockets), trusting the authorities in this PEM file, or with "system" those that this machine
   * trusts, by Java's own trust store. Default: MILLRACE_CA; without it, "system" with a client certificate, else no TLS.
   */
  public ClientBuilder ca(Path file) {
    ca = Objects.requireNonNull(file);
    return this;
  }

  /** TLS, trusting what {@link #ca} or MILLRACE_CA says, else as with "system". */
  public ClientBuilder tls() {
    tls = true;
    return this;
  }

  /** Mutual TLS: the client's own certificate chain and its key (PKCS #8), PEM files. Default: MILLRACE_CERTIFICATE and MILLRACE_KEY. */
  public ClientBuilder certificate(Path chain, Path privateKey) {
    certificate = Objects.requireNonNull(chain);
    key = Objects.requireNonNull(privateKey);
    return this;
  }

  /** How long a call may take; waits have their own time on top. Default 30 s. */
  public ClientBuilder callTimeout(Duration value) {
    callTimeout = Objects.requireNonNull(value);
    return this;
  }

  /** Writes and reads JSON. Build yours upon {@link Json#mapper()}, which keeps the rules that all languages share. */
  public ClientBuilder mapper(ObjectMapper value) {
    mapper = Objects.requireNonNull(value);
    return this;
  }

  /** Encrypts, compresses: all payloads and results pass through it. */
  public ClientBuilder codec(Codec value) {
    codec = Objects.requireNonNull(value);
    return this;
  }

  /** A routing rule: jobs of tasks like {@code fraud_*} go to that queue, unless they name one. The first match decides. */
  public ClientBuilder route(String tasks, String queue) {
    routes.put(tasks, queue);
    return this;
  }

  /** Whether creates that wait while a call is in flight go out together (default), or each by itself. */
  public ClientBuilder coalescing(boolean value) {
    coalescing = value;
    return this;
  }

  /** Spans for creates and runs. */
  public ClientBuilder telemetry(Telemetry value) {
    telemetry = Objects.requireNonNull(value);
    return this;
  }

  /** A channel of your own instead of address, token and TLS: for tests and special networks. It is closed with the client. */
  public ClientBuilder channel(ManagedChannel value) {
    channel = Objects.requireNonNull(value);
    return this;
  }

  /** The client. It connects when it is first used. */
  public Client build() {
    return new Client(this);
  }

  Connection connect() {
    if (channel != null) {
      return new Connection(channel, "127.0.0.1", null, () -> {});
    }
    if ((certificate == null) != (key == null)) {
      String message = "a client certificate needs both its file (MILLRACE_CERTIFICATE) and that of its key (MILLRACE_KEY)";
      throw Errors.invalid("certificate", message);
    }
    boolean isTls = tls || ca != null || certificate != null;
    Tls files = new Tls(SYSTEM.equals(ca) ? null : ca, certificate, key);
    boolean isEncrypted = isTls && !address.startsWith(UNIX); // as the server does it
    ChannelCredentials credentials = isEncrypted ? files.channelCredentials() : InsecureChannelCredentials.create();
    NettyChannelBuilder builder;
    Runnable afterwards = () -> {};
    if (address.startsWith(UNIX)) {
      EpollEventLoopGroup group = new EpollEventLoopGroup(1, new DefaultThreadFactory("millrace-unix", true));
      builder = unix(address.substring(UNIX.length()), credentials).eventLoopGroup(group);
      afterwards = group::shutdownGracefully;
    } else {
      builder = NettyChannelBuilder.forTarget("dns:///" + address, credentials);
    }
    builder
        .defaultServiceConfig(serviceConfig())
        .enableRetry()
        .perRpcBufferLimit(RETRY_BYTES_MAX)
        .retryBufferSize(8 * RETRY_BYTES_MAX)
        .keepAliveTime(KEEPALIVE_SECONDS, TimeUnit.SECONDS)
        .keepAliveTimeout(KEEPALIVE_TIMEOUT_SECONDS, TimeUnit.SECONDS)
        .maxInboundMessageSize(RECEIVE_BYTES_MAX);
    String secret = token.isEmpty() ? tokenOfFile() : token;
    if (!secret.isEmpty()) {
      builder.intercept(authorization(secret));
    }
    return new Connection(builder.build(), host(), isTls ? files.context() : null, afterwards);
  }

  private static NettyChannelBuilder unix(String path, ChannelCredentials credentials) {
    String file = path.startsWith("//") ? path.substring(2) : path;
    return NettyChannelBuilder.forAddress(new DomainSocketAddress(file), credentials)
        .channelType(EpollDomainSocketChannel.class)
        .withOption(ChannelOption.SO_KEEPALIVE, null) // which such a socket does not know
        .overrideAuthority("localhost");
  }

  private String host() {
    if (address.startsWith(UNIX)) {
      return "127.0.0.1";
    }
    try {
      URI uri = new URI("tcp://" + address);
      if (uri.getPort() > 0 && uri.getHost() != null) {
        return uri.getHost();
      }
    } catch (URISyntaxException malformed) {
      throw notAnAddress(malformed);
    }
    throw notAnAddress(null);
  }

  private InvalidArgumentException notAnAddress(Exception cause) {
    String message = "'" + address + "' is neither host:port nor unix:/path (MILLRACE_ADDRESS)";
    return new InvalidArgumentException(
        new MillraceException.Details(ErrorCode.INVALID_ARGUMENT, message).field("address").cause(cause));
  }

  private static String tokenOfFile() {
    String file = environment("MILLRACE_TOKEN_FILE", "");
    try {
      return file.isEmpty() ? "" : Files.readString(Path.of(file)).strip();
    } catch (IOException failure) {
      throw Errors.invalid("token", "the token's file (MILLRACE_TOKEN_FILE) can't be read: " + failure);
    }
  }

  private static ClientInterceptor authorization(String token) {
    Metadata headers = new Metadata();
    headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + token);
    return MetadataUtils.newAttachHeadersInterceptor(headers);
  }

  /** The policy that all clients share: what to retry, how often, how soon. */
  private static Map<String, ?> serviceConfig() {
    try (InputStream in = ClientBuilder.class.getResourceAsStream("service_config.json")) {
      return new ObjectMapper().convertValue(numbersAsDoubles(new ObjectMapper().readValue(in, Object.class)), MAP);
    } catch (IOException failure) {
      throw new UncheckedIOException(failure);
    }
  }

  /** gRPC wants it so. */
  private static Object numbersAsDoubles(Object value) {
    if (value instanceof Map<?, ?> map) {
      Map<Object, Object> copy = new LinkedHashMap<>();
      map.forEach((name, member) -> copy.put(name, numbersAsDoubles(member)));
      return copy;
    }
    if (value instanceof List<?> list) {
      return list.stream().map(ClientBuilder::numbersAsDoubles).toList();
    }
    return value instanceof Number number ? (Object) number.doubleValue() : value;
  }
}
