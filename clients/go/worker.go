// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

const (
	defaultConcurrency    = 10
	defaultStopGrace      = 30 * time.Second
	defaultTerminateGrace = 10 * time.Second
	// handlersReturn is what handlers get once they were told to stop, goodbye what the last reports get to be accepted.
	handlersReturn = 3 * time.Second
	goodbye        = 5 * time.Second
	// ExitStuck is the exit code of a worker process one of whose handlers did not obey a terminate.
	ExitStuck = 75
)

// Transport says over what a worker gets its deliveries.
type Transport string

// The transports.
const (
	// TransportAuto: nng, and gRPC if that is refused again and again.
	TransportAuto Transport = "auto"
	// TransportNNG: two WebSockets to the server's worker port.
	TransportNNG Transport = "nng"
	// TransportGRPC: a stream of the connection that the client has anyway.
	TransportGRPC Transport = "grpc"
)

// Worker is a worker process's session: it takes jobs from the server and runs handlers. Register handlers, then Run.
type Worker struct {
	client     *Client
	options    workerOptions
	tasks      map[string]*taskSettings
	exit       func(code int)
	stopOnce   sync.Once
	stopping   chan struct{} // closed: Shutdown was called, or Run's context has ended
	hurry      chan struct{} // closed: the grace is over now
	hurryOnce  sync.Once
	ended      chan struct{} // closed: Run has returned
	hasStarted bool

	state workerState
}

type workerOptions struct {
	queues         []*pb.WorkerQueue
	concurrency    int
	prefetch       int
	transport      Transport
	url            string
	labels         map[string]string
	hostname       string
	stopGrace      time.Duration
	terminateGrace time.Duration
	middleware     []Middleware
	logger         *slog.Logger
}

// WorkerOption sets what is not the default of a worker.
type WorkerOption func(*workerOptions)

// WithQueues adds queues to serve, each with weight 1. Default: "default".
func WithQueues(names ...string) WorkerOption {
	return func(o *workerOptions) {
		for _, name := range names {
			o.queues = append(o.queues, &pb.WorkerQueue{Name: name})
		}
	}
}

// WithWeightedQueue adds a queue to serve, with its share (1 to 1,000) against the worker's others within one priority.
func WithWeightedQueue(name string, weight int) WorkerOption {
	return func(o *workerOptions) {
		o.queues = append(o.queues, &pb.WorkerQueue{Name: name, Weight: uint32(max(weight, 0))})
	}
}

// WithConcurrency says how many jobs run at a time. Default: 10.
func WithConcurrency(n int) WorkerOption { return func(o *workerOptions) { o.concurrency = n } }

// WithPrefetch lets the server send so many jobs beyond those that run, for handlers so quick that the way to the server counts.
// Default: 0.
func WithPrefetch(n int) WorkerOption { return func(o *workerOptions) { o.prefetch = n } }

// WithTransport chooses the transport. Default: TransportAuto.
func WithTransport(transport Transport) WorkerOption {
	return func(o *workerOptions) { o.transport = transport }
}

// WithWorkerURL is where the worker port is ("ws://host:port"), if it is not where the server says, as behind a proxy. Default:
// MILLRACE_WORKER_URL.
func WithWorkerURL(url string) WorkerOption { return func(o *workerOptions) { o.url = url } }

// WithWorkerLabels describe this process to people.
func WithWorkerLabels(labels map[string]string) WorkerOption {
	return func(o *workerOptions) { o.labels = labels }
}

// WithStopGrace is how long running jobs may go on after a stop. Default: 30 s.
func WithStopGrace(d time.Duration) WorkerOption {
	return func(o *workerOptions) { o.stopGrace = d }
}

// WithTerminateGrace is how long a handler has to obey a terminate before the process exits with ExitStuck. Default: 10 s.
func WithTerminateGrace(d time.Duration) WorkerOption {
	return func(o *workerOptions) { o.terminateGrace = d }
}

// WithMiddleware wraps every handler; the first is the outermost.
func WithMiddleware(middleware ...Middleware) WorkerOption {
	return func(o *workerOptions) { o.middleware = append(o.middleware, middleware...) }
}

// WithLogger takes the worker's log: a line per attempt, and what happens to the session. Default: slog.Default().
func WithLogger(logger *slog.Logger) WorkerOption {
	return func(o *workerOptions) { o.logger = logger }
}

// taskSettings is a task that a worker handles.
type taskSettings struct {
	handler Handler
	message *pb.WorkerTask
}

// TaskOption declares a policy for a task: WithRetry, WithMaxAttempts, WithAttemptTimeout. It holds for jobs that set none.
type TaskOption interface{ applyTask(*taskSettings) }

// NewWorker makes a worker.
func NewWorker(client *Client, options ...WorkerOption) *Worker {
	o := workerOptions{
		concurrency: defaultConcurrency, transport: TransportAuto, url: os.Getenv("MILLRACE_WORKER_URL"), stopGrace: defaultStopGrace,
		terminateGrace: defaultTerminateGrace, logger: slog.Default(),
	}
	o.hostname, _ = os.Hostname()
	for _, option := range options {
		option(&o)
	}
	if len(o.queues) == 0 {
		WithQueues("default")(&o)
	}
	w := &Worker{
		client: client, options: o, tasks: map[string]*taskSettings{}, exit: os.Exit, stopping: make(chan struct{}),
		hurry: make(chan struct{}), ended: make(chan struct{}),
	}
	w.state.init(w)
	return w
}

// Handle registers the handler of a task, or of "*": all tasks that have none of their own. Call it before Run.
func (w *Worker) Handle(task string, handler Handler, options ...TaskOption) {
	if w.hasStarted {
		panic("millrace: Handle after Run")
	}
	if w.tasks[task] != nil {
		panic("millrace: task " + task + " has a handler already")
	}
	for _, wrap := range slices.Backward(w.options.middleware) {
		handler = wrap(handler)
	}
	settings := &taskSettings{handler: handler, message: &pb.WorkerTask{Name: task}}
	for _, option := range options {
		option.applyTask(settings)
	}
	w.tasks[task] = settings
}

// HandleFunc is Handle for a function.
func (w *Worker) HandleFunc(task string, handler func(ctx context.Context, delivery *Delivery) (any, error), options ...TaskOption) {
	w.Handle(task, HandlerFunc(handler), options...)
}

func (w *Worker) handlerOf(task string) Handler {
	settings := w.tasks[task]
	if settings == nil {
		settings = w.tasks["*"]
	}
	if settings == nil {
		return nil
	}
	return settings.handler
}

// Run works until ctx ends, Shutdown is called, or the server drains this worker (all nil), or until the server refuses the worker.
// It stops gracefully: it takes nothing new, lets jobs end within the stop grace, gives back the rest, and deregisters. A server
// that can't be reached is no error: it tries again. To stop at SIGTERM, give it the context of signal.NotifyContext.
func (w *Worker) Run(ctx context.Context) error {
	if w.hasStarted {
		return errors.New("millrace: a worker runs only once")
	}
	if len(w.tasks) == 0 {
		return invalid("tasks", "the worker handles no tasks: register handlers before Run")
	}
	w.hasStarted = true
	defer close(w.ended)
	defer context.AfterFunc(ctx, w.stop)()

	// Handlers keep the values of ctx, but outlive it: they have the grace.
	base := context.WithoutCancel(ctx)
	done, finish := context.WithCancel(base)
	defer finish()
	w.state.base = base
	go func() {
		w.awaitEnd(done)
		finish()
	}()
	err := w.session(done)
	if err == nil {
		w.deregister(base)
		w.options.logger.Info("worker stopped")
	}
	return err
}

// Shutdown stops the worker gracefully and waits until Run has returned. When ctx ends first, the grace is over: handlers are told to
// stop at once.
func (w *Worker) Shutdown(ctx context.Context) error {
	w.stop()
	select {
	case <-w.ended:
		return nil
	case <-ctx.Done():
		w.hurryOnce.Do(func() { close(w.hurry) })
		<-w.ended
		return ctx.Err()
	}
}

func (w *Worker) stop() { w.stopOnce.Do(func() { close(w.stopping) }) }

// awaitEnd waits for a stop or a drain, and returns when everything has ended as well as it can.
func (w *Worker) awaitEnd(done context.Context) {
	select {
	case <-done.Done(): // Run fails
		return
	case <-w.stopping:
	case <-w.state.drained:
		w.state.await(w.stopping, math.MaxInt64, w.state.isIdle)
	}
	w.beginStop()
	graceEnd := time.Now().Add(w.options.stopGrace)
	w.state.await(w.hurry, w.options.stopGrace, w.state.isIdle)
	if w.state.stopHandlers(ErrShutdown) > 0 {
		w.state.await(nil, handlersReturn, w.state.isIdle)
	}
	if stuck := w.state.releaseRunning(); stuck != nil {
		// To deregister would say that it has stopped.
		w.state.await(nil, goodbye, w.state.isReported)
		w.exitStuck(stuck)
		return
	}
	// What ended early has the rest of the grace, too: the server may be away.
	w.state.await(w.hurry, time.Until(graceEnd), w.state.isReported)
	w.state.await(nil, goodbye, w.state.isReported)
}

// obeyOrExit is called when the grace of a terminate is over. While the code runs nobody may be told that it has stopped: so the
// process ends, even if it does come back now: the worker has stopped. What else runs is told to stop; what comes back is still
// reported, and the rest is given back.
func (w *Worker) obeyOrExit(stuck *run) {
	if !w.state.isRunning(stuck) {
		return
	}
	w.options.logger.Error("the handler does not obey the terminate: the process exits", "job", stuck.delivery.JobID,
		"task", stuck.delivery.Task, "grace", w.options.terminateGrace, "code", ExitStuck)
	w.beginStop()
	w.state.stopHandlers(ErrShutdown)
	w.state.await(nil, handlersReturn, w.state.onlyStuck)
	w.state.releaseRunning()
	w.state.await(nil, handlersReturn, w.state.isReported)
	w.exitStuck(stuck)
}

func (w *Worker) exitStuck(stuck *run) {
	w.options.logger.Error("exit", "code", ExitStuck, "job", stuck.delivery.JobID)
	w.exit(ExitStuck)
}

// beginStop: from now on nothing is started, and the server is asked not to send any more.
func (w *Worker) beginStop() {
	go w.quiet()
	w.options.logger.Info("worker stops", "running", w.state.beginStop())
}

// quiet asks the server not to send any more. If it does not hear, what comes is given back.
func (w *Worker) quiet() {
	id, _ := w.state.credentials()
	if id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	if _, err := w.client.workers.QuietWorker(ctx, &pb.QuietWorkerRequest{SessionId: id}); err != nil {
		w.options.logger.Debug("cannot tell the server to send no more", "error", err)
	}
}

func (w *Worker) deregister(base context.Context) {
	id, token := w.state.credentials()
	if id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(base, goodbye)
	defer cancel()
	if _, err := w.client.workers.Deregister(ctx, &pb.DeregisterRequest{SessionId: id, SessionToken: token}); err != nil {
		w.options.logger.Warn("cannot deregister", "session", id, "error", err)
	}
}
