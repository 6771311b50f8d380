// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** How a worker gets its deliveries. */
public enum Transport {
  /** WebSockets; gRPC if they don't get through. */
  AUTO,
  /** WebSockets, as nng has them, to the worker port. */
  NNG,
  /** A gRPC stream, to the port that clients use. */
  GRPC
}
