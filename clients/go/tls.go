// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
)

const refusalWait = time.Second

// tellingCredentials are TLS that tells why a server does not let the client in. In TLS 1.3 the server looks at the client's
// certificate after the client's part of the handshake; when it closes the connection for it, the reason waits to be read, while
// what the client writes meanwhile fails for the connection's end alone. Some servers, gRPC's own among them, give no reason.
type tellingCredentials struct {
	credentials.TransportCredentials
}

func (c tellingCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	return &tellingConn{Conn: conn}, info, nil
}

func (c tellingCredentials) Clone() credentials.TransportCredentials {
	return tellingCredentials{c.TransportCredentials.Clone()}
}

type tellingConn struct {
	net.Conn
	heard atomic.Bool // the server has let the client in
}

func (c *tellingConn) Read(bytes []byte) (int, error) {
	count, err := c.Conn.Read(bytes)
	if count > 0 {
		c.heard.Store(true)
	}
	return count, c.explain(err)
}

func (c *tellingConn) Write(bytes []byte) (int, error) {
	count, err := c.Conn.Write(bytes)
	if err == nil || c.heard.Load() {
		return count, err
	}
	_ = c.SetReadDeadline(time.Now().Add(refusalWait))
	if _, reason := c.Conn.Read(make([]byte, 1)); isRefusal(reason) {
		return count, reason
	}
	return count, c.explain(err)
}

// explain says what the end of a connection means on which the server has said nothing yet.
func (c *tellingConn) explain(err error) error {
	ours := errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded)
	if err == nil || c.heard.Load() || ours || isRefusal(err) {
		return err
	}
	return fmt.Errorf("the server ended the connection after the TLS handshake; it may want a client certificate, or another one: %w", err)
}

func isRefusal(err error) bool {
	var failure *net.OpError
	return errors.As(err, &failure) && failure.Op == "remote error"
}
