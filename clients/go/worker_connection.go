// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"time"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

// A worker's session:
//
//	register ──► dial ──► serve ──► (broken, silent) ──► dial …          refused, or broken twice in 10 s: register to resume;
//	   ▲                    │                                            NOT_FOUND: all that is held is lost, a new session
//	   └── server away: back off, for ever            stopped, drained: Run deregisters
const (
	registerTimeout     = 10 * time.Second
	registerBackoff     = 200 * time.Millisecond
	registerBackoffMax  = 3 * time.Second
	backoffDoublings    = 4
	twiceWithin         = 10 * time.Second
	refusalsBeforeGRPC  = 2
	defaultHeartbeat    = 5 * time.Second
	defaultSilence      = 15 * time.Second
	dialTimeout         = 10 * time.Second
	deliveriesBytesMax  = 16 << 20
	reportsOverheadMax  = 1 << 10
	reportsPerMessage   = 1000
	startedAfter        = 10 * time.Millisecond
	deadlineSlack       = 2 * time.Second
	newsBytesMax        = 8 << 20
	jobsSubprotocol     = "push.sp.nanomsg.org"
	reportsSubprotocol  = "pull.sp.nanomsg.org"
	silenceLooksPerTime = 4
)

// link is a connection of a session: deliveries in, reports out.
type link interface {
	// send is called by one goroutine at a time, receive by another.
	send(*pb.Reports) error
	receive() (*pb.Deliveries, error)
	close()
}

// session keeps a session going until done ends. An error says that the server refuses this worker.
func (w *Worker) session(done context.Context) error {
	mustRegister := true
	overGRPC := w.options.transport == TransportGRPC
	refusals := 0
	var brokenAt time.Time
	for done.Err() == nil {
		if mustRegister {
			if err := w.register(done); err != nil {
				if done.Err() != nil {
					return nil
				}
				return err
			}
			mustRegister = false
		}
		link, err := w.dial(done, overGRPC)
		if err != nil {
			if done.Err() != nil {
				return nil
			}
			w.options.logger.Warn("cannot join the session", "error", err)
			if refusals++; refusals >= refusalsBeforeGRPC && w.options.transport == TransportAuto && !overGRPC {
				w.options.logger.Warn("going on over gRPC")
				overGRPC = true
			}
			mustRegister = true
			pause(done, backoffAfter(refusals))
			continue
		}
		refusals = 0
		if w.state.isReleasing() { // the server may have been away when it was asked to send no more
			go w.quiet()
		}
		err = w.serve(done, link)
		if done.Err() != nil {
			return nil
		}
		w.options.logger.Warn("the connection broke: joining again", "error", err)
		brokenTwice := time.Since(brokenAt) < twiceWithin
		mustRegister = brokenTwice || errors.Is(callError(err, false), ErrNotFound)
		brokenAt = time.Now()
		if brokenTwice {
			pause(done, registerBackoff)
		}
	}
	return nil
}

// backoffAfter so many refusals in a row.
func backoffAfter(refusals int) time.Duration {
	return min(registerBackoff<<min(refusals-1, backoffDoublings), registerBackoffMax)
}

func (w *Worker) dial(done context.Context, overGRPC bool) (link, error) {
	joining := w.state.joining()
	if overGRPC {
		return w.dialGRPC(done, joining)
	}
	return w.dialWebSocket(done, joining)
}

// register tries until it is registered, refused, or done ends.
func (w *Worker) register(done context.Context) error {
	for wait := registerBackoff; ; {
		err := w.registerOnce(done)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrNotFound) && w.state.orphan():
			w.options.logger.Warn("the session is gone: its jobs run elsewhere, those here are told to stop")
			continue
		case errors.Is(err, ErrInvalidArgument), errors.Is(err, ErrPermissionDenied), errors.Is(err, ErrUnauthenticated),
			errors.Is(err, ErrUnimplemented), errors.Is(err, ErrFailedPrecondition):
			return err
		}
		w.options.logger.Warn("cannot register, trying again", "in", wait, "error", err)
		if !pause(done, wait+rand.N(wait/4)) {
			return done.Err()
		}
		wait = min(wait*2, registerBackoffMax)
	}
}

func (w *Worker) registerOnce(done context.Context) error {
	ctx, cancel := context.WithTimeout(done, registerTimeout)
	defer cancel()
	id, token := w.state.credentials()
	request := &pb.RegisterRequest{
		Queues: w.options.queues, Concurrency: uint32(max(w.options.concurrency, 0)), Prefetch: uint32(max(w.options.prefetch, 0)),
		Hostname: cut(w.options.hostname, 256), Pid: uint32(os.Getpid()), Labels: w.options.labels, Sdk: "millrace-go/" + Version(),
		ResumeSessionId: id, ResumeSessionToken: token,
	}
	for _, task := range w.tasks {
		request.Tasks = append(request.Tasks, task.message)
	}
	response, err := w.client.workers.Register(ctx, request)
	if err != nil {
		return callError(err, false)
	}
	w.state.registered(response)
	word := "registered"
	if response.GetResumed() {
		word = "resumed"
	}
	w.options.logger.Info(word, "session", response.GetSessionId(), "server", w.client.Address())
	return nil
}

// serve works over a link until it breaks or done ends.
func (w *Worker) serve(done context.Context, link link) error {
	defer link.close()
	ctx, cancel := context.WithCancelCause(done)
	defer cancel(nil)
	sender := w.state.connected()
	defer w.state.disconnected(sender)
	heard := make(chan struct{}, 1)
	go func() {
		for {
			message, err := link.receive()
			if err == nil {
				err = w.state.take(message)
			}
			if err != nil {
				cancel(err)
				return
			}
			select {
			case heard <- struct{}{}:
			default:
			}
		}
	}()
	go func() {
		for {
			message := sender.next(ctx)
			if message == nil {
				return
			}
			if err := link.send(message); err != nil {
				cancel(err)
				return
			}
		}
	}()
	w.beat(ctx, cancel, heard)
	return context.Cause(ctx)
}

// beat makes heartbeats due, and ends a connection on which nothing was heard.
func (w *Worker) beat(ctx context.Context, cancel context.CancelCauseFunc, heard <-chan struct{}) {
	heartbeat, silence := w.state.rhythm()
	beats := time.NewTicker(heartbeat)
	defer beats.Stop()
	looks := time.NewTicker(silence / silenceLooksPerTime)
	defer looks.Stop()
	quiet := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-beats.C:
			w.state.heartbeatIsDue()
		case <-heard:
			quiet = 0
		case <-looks.C:
			if quiet++; quiet > silenceLooksPerTime {
				cancel(errors.New("the server has been silent for " + silence.String()))
				return
			}
		}
	}
}
