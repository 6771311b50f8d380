// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

// joining is what it takes to join a session.
type joining struct {
	id, token             string
	scheme, host          string
	port                  uint32
	jobsPath, reportsPath string
	fragmentBytes         int
}

// webSocketLink is a session's two paths: plain WebSockets that speak to nng's push and pull sockets.
type webSocketLink struct {
	ctx           context.Context
	cancel        context.CancelFunc
	jobs          *websocket.Conn
	reports       *websocket.Conn
	fragmentBytes int
}

func (w *Worker) dialWebSocket(done context.Context, to joining) (link, error) {
	ctx, cancel := context.WithCancel(done)
	l := &webSocketLink{cancel: cancel, fragmentBytes: to.fragmentBytes}
	base := w.options.url
	if base == "" {
		host := to.host
		if host == "" {
			host = w.client.dialledHost()
		}
		scheme := to.scheme
		if scheme == "" {
			scheme = "ws"
		}
		base = scheme + "://" + net.JoinHostPort(host, strconv.Itoa(int(to.port)))
	}
	var err error
	if l.jobs, err = w.dialPath(ctx, base+to.jobsPath, to.token, jobsSubprotocol); err == nil {
		l.jobs.SetReadLimit(deliveriesBytesMax)
		l.reports, err = w.dialPath(ctx, base+to.reportsPath, to.token, reportsSubprotocol)
	}
	if err != nil {
		l.close()
		return nil, &Error{Kind: ErrUnavailable, Message: fmt.Sprintf("cannot join the session at %s: %v", base, err), cause: err}
	}
	// Nothing comes on the reports path but its end.
	l.ctx = l.reports.CloseRead(ctx)
	w.options.logger.Info("joined", "transport", "nng", "url", base)
	return l, nil
}

func (w *Worker) dialPath(ctx context.Context, url, token, subprotocol string) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	options := &websocket.DialOptions{
		Subprotocols: []string{subprotocol}, HTTPHeader: http.Header{"Authorization": {"Bearer " + token}},
		CompressionMode: websocket.CompressionDisabled,
	}
	if config := w.client.options.tls; config != nil {
		options.HTTPClient = &http.Client{Transport: &http.Transport{TLSClientConfig: config.Clone(), Proxy: http.ProxyFromEnvironment}}
	}
	conn, _, err := websocket.Dial(ctx, url, options)
	return conn, err
}

func (l *webSocketLink) send(message *pb.Reports) error {
	bytes, err := proto.Marshal(message)
	if err != nil {
		return err
	}
	if len(bytes) <= l.fragmentBytes {
		return l.reports.Write(l.ctx, websocket.MessageBinary, bytes)
	}
	writer, err := l.reports.Writer(l.ctx, websocket.MessageBinary)
	if err != nil {
		return err
	}
	for len(bytes) > 0 {
		size := min(len(bytes), l.fragmentBytes)
		if _, err := writer.Write(bytes[:size]); err != nil {
			return err
		}
		bytes = bytes[size:]
	}
	return writer.Close()
}

func (l *webSocketLink) receive() (*pb.Deliveries, error) {
	kind, bytes, err := l.jobs.Read(l.ctx)
	if err != nil {
		return nil, err
	}
	if kind != websocket.MessageBinary {
		return nil, errors.New("a text message came on the jobs path")
	}
	message := &pb.Deliveries{}
	return message, proto.Unmarshal(bytes, message)
}

func (l *webSocketLink) close() {
	l.cancel()
	for _, conn := range []*websocket.Conn{l.jobs, l.reports} {
		if conn != nil {
			_ = conn.CloseNow() // it is given up: there is nobody to tell
		}
	}
}
