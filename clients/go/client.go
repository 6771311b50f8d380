// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

const (
	defaultAddress  = "127.0.0.1:7070"
	defaultTimeout  = 30 * time.Second
	receiveBytesMax = 16 << 20
	retryBytesMax   = 8 << 20 // the largest request is 4 MiB; what is not kept can't be sent again
	pingAfter       = 20 * time.Second
	pingTimeout     = 10 * time.Second
	modulePath      = "github.com/millrace/millrace/clients/go"
)

// serviceConfig is proto/service_config.json: UNAVAILABLE is tried again, and UNKNOWN, which means a broken connection.
//
//go:embed service_config.json
var serviceConfig string

// Client is one connection to a server, made when it is first needed and made anew when it breaks. All methods can be called from
// many goroutines at once. Every call has a deadline: the context's, or else the client's (WithTimeout).
type Client struct {
	options   clientOptions
	conn      *grpc.ClientConn
	jobs      pb.JobServiceClient
	schedules pb.ScheduleServiceClient
	chains    pb.ChainServiceClient
	batches   pb.BatchServiceClient
	queues    pb.QueueServiceClient
	workers   pb.WorkerServiceClient
	admin     pb.AdminServiceClient
	coalescer coalescer
}

type clientOptions struct {
	address    string
	token      string
	tokenFile  string
	tls        *tls.Config
	caFile     string
	certFile   string
	keyFile    string
	timeout    time.Duration
	codec      Codec
	routes     []Route
	tracer     Tracer
	coalescing bool
	dialer     func(context.Context, string) (net.Conn, error)
}

// ClientOption sets what is not the default of a client.
type ClientOption func(*clientOptions)

// WithAddress tells where the server is: "host:port" or "unix:/path". Default: MILLRACE_ADDRESS, else 127.0.0.1:7070.
func WithAddress(address string) ClientOption {
	return func(o *clientOptions) { o.address = address }
}

// WithToken sends a token with every call. Default: MILLRACE_TOKEN, else what the file MILLRACE_TOKEN_FILE holds.
func WithToken(token string) ClientOption { return func(o *clientOptions) { o.token = token } }

// WithCA encrypts (not on unix sockets), and trusts the authorities in this PEM file, or with "system" those that this machine
// trusts. Default: MILLRACE_CA; without it, "system" with a client certificate, else no encryption.
func WithCA(file string) ClientOption { return func(o *clientOptions) { o.caFile = file } }

// WithClientCertificate encrypts, and shows this certificate to the server (mutual TLS). Both are PEM files. Default:
// MILLRACE_CERTIFICATE and MILLRACE_KEY.
func WithClientCertificate(certFile, keyFile string) ClientOption {
	return func(o *clientOptions) { o.certFile, o.keyFile = certFile, keyFile }
}

// WithTLS encrypts with a configuration of one's own; WithCA and WithClientCertificate add to it.
func WithTLS(config *tls.Config) ClientOption {
	return func(o *clientOptions) { o.tls = config.Clone() }
}

// WithTimeout is the deadline of calls whose context has none. Default: 30 s.
func WithTimeout(d time.Duration) ClientOption { return func(o *clientOptions) { o.timeout = d } }

// WithCodec transforms payloads and results, on the way out and in.
func WithCodec(codec Codec) ClientOption { return func(o *clientOptions) { o.codec = codec } }

// WithRoutes says in which queue a job waits whose spec names none. The first route that matches decides.
func WithRoutes(routes ...Route) ClientOption {
	return func(o *clientOptions) { o.routes = append(o.routes, routes...) }
}

// WithTracer opens spans for creates and attempts: see the module millraceotel.
func WithTracer(tracer Tracer) ClientOption { return func(o *clientOptions) { o.tracer = tracer } }

// WithoutCoalescing sends each Create as a call of its own, also when many are made at the same time.
func WithoutCoalescing() ClientOption { return func(o *clientOptions) { o.coalescing = false } }

// WithDialer opens connections for gRPC in a way of one's own, such as in memory.
func WithDialer(dial func(ctx context.Context, address string) (net.Conn, error)) ClientOption {
	return func(o *clientOptions) { o.dialer = dial }
}

// NewClient makes a client. It does not wait for the server: the first call does.
func NewClient(options ...ClientOption) (*Client, error) {
	o := clientOptions{
		address: os.Getenv("MILLRACE_ADDRESS"), token: os.Getenv("MILLRACE_TOKEN"), tokenFile: os.Getenv("MILLRACE_TOKEN_FILE"),
		caFile: os.Getenv("MILLRACE_CA"), certFile: os.Getenv("MILLRACE_CERTIFICATE"), keyFile: os.Getenv("MILLRACE_KEY"),
		timeout: defaultTimeout, coalescing: true,
	}
	for _, option := range options {
		option(&o)
	}
	if o.address == "" {
		o.address = defaultAddress
	}
	if err := o.loadToken(); err != nil {
		return nil, err
	}
	if err := o.loadTLS(); err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(o.address, o.dialOptions()...)
	if err != nil {
		return nil, invalid("address", "%q is not an address of a server: %v", o.address, err)
	}
	c := &Client{
		options: o, conn: conn, jobs: pb.NewJobServiceClient(conn), schedules: pb.NewScheduleServiceClient(conn),
		chains: pb.NewChainServiceClient(conn), batches: pb.NewBatchServiceClient(conn), queues: pb.NewQueueServiceClient(conn),
		workers: pb.NewWorkerServiceClient(conn), admin: pb.NewAdminServiceClient(conn),
	}
	c.coalescer.send = c.createTogether
	return c, nil
}

func (o *clientOptions) dialOptions() []grpc.DialOption {
	transport := insecure.NewCredentials()
	if o.tls != nil && !strings.HasPrefix(o.address, "unix:") {
		transport = tellingCredentials{credentials.NewTLS(o.tls)}
	}
	reconnect := backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond}
	result := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: 5 * time.Second}),
		// A peer or a path that has died without a word would otherwise be waited for as long as TCP likes.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(receiveBytesMax), grpc.MaxRetryRPCBufferSize(retryBytesMax)),
		grpc.WithUserAgent("millrace-go/" + Version()),
	}
	if o.token != "" {
		result = append(result, grpc.WithPerRPCCredentials(bearer(o.token)))
	}
	if o.dialer != nil {
		result = append(result, grpc.WithContextDialer(o.dialer))
	}
	return result
}

func (o *clientOptions) loadToken() error {
	if o.token != "" || o.tokenFile == "" {
		return nil
	}
	text, err := os.ReadFile(o.tokenFile)
	if err != nil {
		return fmt.Errorf("millrace: cannot read the token's file (MILLRACE_TOKEN_FILE): %w", err)
	}
	o.token = strings.TrimSpace(string(text))
	return nil
}

func (o *clientOptions) loadTLS() error {
	if (o.certFile == "") != (o.keyFile == "") {
		return invalid("certificate", "a client certificate needs both its file (MILLRACE_CERTIFICATE) and that of its key (MILLRACE_KEY)")
	}
	if o.caFile == "" && o.certFile == "" {
		return nil
	}
	if o.tls == nil {
		o.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	switch o.caFile {
	case "":
	case "system":
		o.tls.RootCAs = nil
	default:
		text, err := os.ReadFile(o.caFile)
		if err != nil {
			return fmt.Errorf("millrace: cannot read the CA file (MILLRACE_CA): %w", err)
		}
		o.tls.RootCAs = x509.NewCertPool()
		if !o.tls.RootCAs.AppendCertsFromPEM(text) {
			return invalid("ca", "%s has no certificate in PEM form", o.caFile)
		}
	}
	if o.certFile != "" {
		certificate, err := tls.LoadX509KeyPair(o.certFile, o.keyFile)
		if err != nil {
			return fmt.Errorf("millrace: cannot load the client certificate: %w", err)
		}
		o.tls.Certificates = append(o.tls.Certificates, certificate)
	}
	return nil
}

type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// A server without TLS is only reached on this machine, unless its operator said --insecure.
func (b bearer) RequireTransportSecurity() bool { return false }

// Close ends the connection. Calls under way fail.
func (c *Client) Close() error { return c.conn.Close() }

// Address is where the server is.
func (c *Client) Address() string { return c.options.address }

// dialledHost is where a worker finds the port whose number alone the server tells.
func (c *Client) dialledHost() string {
	address := strings.TrimPrefix(c.options.address, "dns:///")
	host, _, err := net.SplitHostPort(address)
	if err != nil || strings.HasPrefix(address, "unix:") {
		return "127.0.0.1"
	}
	return host
}

// deadline gives the context one if it has none.
func (c *Client) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, c.options.timeout)
}

type unary[Request, Response any] func(context.Context, Request, ...grpc.CallOption) (Response, error)

// invoke makes one unary call, with a deadline and with errors of ours.
func invoke[Request, Response any](ctx context.Context, c *Client, method unary[Request, Response], request Request) (Response, error) {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	response, err := method(ctx, request)
	return response, callError(err, false)
}

// invokeJob is invoke for calls about a job: NOT_FOUND is ErrJobNotFound.
func invokeJob[Request, Response any](ctx context.Context, c *Client, method unary[Request, Response], request Request) (Response, error) {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	response, err := method(ctx, request)
	return response, callError(err, true)
}

// Version of this module, as the program was built with it; "devel" in its own repository.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == modulePath && module.Version != "" {
				return strings.TrimPrefix(module.Version, "v")
			}
		}
	}
	return "devel"
}
