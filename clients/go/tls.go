// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
)

const refusalWait = time.Second

// tellingCredentials are TLS that tells why a server does not let the client in. In TLS 1.3 the server looks at the client's
// certificate after the client's part of the handshake; when it closes the connection for it, the reason waits to be read, while
// what the client writes meanwhile fails for the connection's end alone.
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
	return count, err
}

func (c *tellingConn) Write(bytes []byte) (int, error) {
	count, err := c.Conn.Write(bytes)
	if err == nil || c.heard.Load() {
		return count, err
	}
	_ = c.SetReadDeadline(time.Now().Add(refusalWait))
	var refusal *net.OpError
	if _, reason := c.Conn.Read(make([]byte, 1)); errors.As(reason, &refusal) && refusal.Op == "remote error" {
		return count, reason
	}
	return count, err
}
