// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"errors"
	"sync"
	"time"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

// workerState is what a worker knows: its session, what it holds, what it has to report. One lock guards all of it and is held for
// very short times, so that no handler can hold up a heartbeat.
//
//	link ──take──► queue ──► goroutines (handlers) ──final reports──► outbox ──sender──► link
//
// A delivery is held from its arrival until its final report was accepted. When a session is gone, so is its struct: what belongs
// to it finds that it is not the current one any more, and nothing of it is reported.
type workerState struct {
	worker  *Worker
	base    context.Context // of handlers
	drained chan struct{}   // closed: the server drains this worker

	lock       sync.Mutex
	session    *workerSession // nil: none
	queue      []*run         // not started yet
	running    int            // handlers of the current session
	releasing  bool           // what comes is given back
	isDraining bool
	sender     *sender // nil: not connected
	waiters    int
	changed    chan struct{} // closed, and made anew, at each change while somebody waits
}

// workerSession is what lives as long as a session: numbers are dense over it.
type workerSession struct {
	joining
	heartbeat, silence time.Duration
	limits             limits
	receivedUpTo, ping uint64
	held               map[heldKey]*run
	outbox             outbox
}

type heldKey struct {
	job    string
	number uint32
}

type phase int

const (
	phaseQueued phase = iota
	phaseRunning
	phaseReported
)

// run is a delivery on its way through this worker.
type run struct {
	session     *workerSession
	delivery    *Delivery
	phase       phase
	stop        context.CancelCauseFunc // while it runs
	asked       error                   // why it was told to stop; nil: it was not
	terminating bool
	started     time.Time
}

func (r *run) key() heldKey { return heldKey{r.delivery.JobID, uint32(r.delivery.Number)} }

// errGap makes the worker join again: the server then sends what is missing.
var errGap = errors.New("deliveries are missing")

func (s *workerState) init(w *Worker) {
	s.worker = w
	s.drained = make(chan struct{})
	s.changed = make(chan struct{})
}

// ---- session ----

func (s *workerState) credentials() (id, token string) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.session == nil {
		return "", ""
	}
	return s.session.id, s.session.token
}

func (s *workerState) joining() joining {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.session.joining
}

func (s *workerState) rhythm() (heartbeat, silence time.Duration) {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.session.heartbeat, s.session.silence
}

// registered takes what the server told: about a new session, or the one that goes on.
func (s *workerState) registered(m *pb.RegisterResponse) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.session != nil && !m.GetResumed() {
		s.orphanLocked()
	}
	if s.session == nil {
		s.session = &workerSession{held: map[heldKey]*run{}}
	}
	session := s.session
	token := m.GetSessionToken()
	if token == "" {
		token = session.token
	}
	session.limits = limitsOf(m.GetLimits())
	session.outbox.bytesMax = session.limits.reportsBytesMax - reportsOverheadMax
	session.joining = joining{
		id: m.GetSessionId(), token: token, scheme: m.GetScheme(), host: m.GetHost(), port: m.GetPort(), jobsPath: m.GetJobsPath(),
		reportsPath: m.GetReportsPath(), fragmentBytes: session.limits.fragmentBytes,
	}
	session.heartbeat, session.silence = m.GetHeartbeatInterval().AsDuration(), m.GetSilenceTimeout().AsDuration()
	if session.heartbeat <= 0 {
		session.heartbeat = defaultHeartbeat
	}
	if session.silence <= 0 {
		session.silence = defaultSilence
	}
}

// orphan gives up the session with all that it held. False: there was none.
func (s *workerState) orphan() bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.session == nil {
		return false
	}
	s.orphanLocked()
	return true
}

func (s *workerState) orphanLocked() {
	for _, run := range s.session.held {
		s.askLocked(run, ErrLost)
	}
	s.session = nil
	s.queue = nil
	s.running = 0
	s.changedLocked()
}

// connected begins a connection: a heartbeat first, then all that was not accepted.
func (s *workerState) connected() *sender {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.sender = &sender{state: s, session: s.session, heartbeat: true, resend: s.session.outbox.unaccepted, wake: make(chan struct{}, 1)}
	s.sender.wakeUp()
	return s.sender
}

func (s *workerState) disconnected(sender *sender) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.sender == sender {
		s.sender = nil
	}
}

func (s *workerState) heartbeatIsDue() {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.heartbeatLocked()
}

func (s *workerState) heartbeatLocked() {
	if s.sender != nil {
		s.sender.heartbeat = true
		s.sender.wakeUp()
	}
}

// ---- intake ----

// take takes a message of the server: a repeat is dropped, a gap is an error.
func (s *workerState) take(m *pb.Deliveries) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	session := s.session
	if session == nil {
		return errors.New("the session is gone")
	}
	if m.GetPing() != 0 {
		session.ping = m.GetPing()
	}
	if seq := m.GetAcceptedReportSeq(); seq != 0 {
		for _, run := range session.outbox.accepted(seq) {
			delete(session.held, run.key())
		}
		s.changedLocked()
	}
	switch {
	case m.GetDeliverySeq() == session.receivedUpTo+1:
		s.holdLocked(m)
	case m.GetDeliverySeq() > session.receivedUpTo:
		return errGap
	}
	for _, command := range m.GetCommands() {
		s.obeyLocked(command)
	}
	s.startLocked()
	return nil
}

func (s *workerState) holdLocked(m *pb.Deliveries) {
	session := s.session
	session.receivedUpTo = m.GetDeliverySeq()
	for _, message := range m.GetDeliveries() {
		delivery := deliveryOf(message)
		delivery.lineBytesMax = session.limits.lineBytesMax
		run := &run{session: session, delivery: delivery}
		session.held[run.key()] = run
		s.queue = append(s.queue, run)
	}
	if s.releasing {
		s.releaseQueuedLocked()
	}
}

func (s *workerState) obeyLocked(command *pb.Command) {
	log := s.worker.options.logger
	switch command.GetKind() {
	case pb.CommandKind_COMMAND_KIND_QUIET:
		log.Info("the server made this worker quiet: nothing new will come")
	case pb.CommandKind_COMMAND_KIND_DRAIN:
		if !s.isDraining {
			log.Info("the server drains this worker: it ends when its jobs have")
			s.isDraining = true
			close(s.drained)
		}
	}
	run := s.session.held[heldKey{command.GetJobId(), command.GetDelivery()}]
	if run == nil || run.phase == phaseReported {
		return
	}
	switch command.GetKind() {
	case pb.CommandKind_COMMAND_KIND_CANCEL:
		s.askLocked(run, ErrCancelRequested)
	case pb.CommandKind_COMMAND_KIND_TERMINATE:
		s.askLocked(run, ErrTerminated)
	case pb.CommandKind_COMMAND_KIND_LOST:
		s.askLocked(run, ErrLost)
	}
}

// askLocked tells a handler to stop. What has not started yet is stopped with that.
func (s *workerState) askLocked(run *run, why error) {
	switch run.phase {
	case phaseRunning:
		run.asked = why
		run.stop(why)
		if why == ErrTerminated && !run.terminating {
			run.terminating = true
			time.AfterFunc(s.worker.options.terminateGrace, func() { s.worker.obeyOrExit(run) })
		}
	case phaseQueued:
		for i, queued := range s.queue {
			if queued == run {
				s.queue = append(s.queue[:i:i], s.queue[i+1:]...)
				break
			}
		}
		if why == ErrLost {
			s.dropLocked(run)
		} else {
			s.finalLocked(run, &pb.Report{Event: &pb.Report_Failed{Failed: &pb.Failed{Cancelled: true}}})
		}
	}
}

// dropLocked ends the hold on a delivery that is no longer ours; the heartbeat says so.
func (s *workerState) dropLocked(run *run) {
	delete(run.session.held, run.key())
	s.heartbeatLocked()
}

// finalLocked queues the last word about a delivery.
func (s *workerState) finalLocked(run *run, report *pb.Report) {
	run.phase = phaseReported
	report.JobId, report.Delivery = run.delivery.JobID, uint32(run.delivery.Number)
	run.session.outbox.add(report, run)
	if s.sender != nil {
		s.sender.wakeUp()
	}
}

// news queues a report that is not final. Far too many are dropped.
func (s *workerState) news(run *run, report *pb.Report) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if run.session == s.session && run.phase == phaseRunning && run.session.outbox.addNews(report) && s.sender != nil {
		s.sender.wakeUp()
	}
}

// ---- handlers ----

// startLocked starts handlers for what is queued, as many as there may be.
func (s *workerState) startLocked() {
	for len(s.queue) > 0 && s.running < s.worker.options.concurrency {
		next := s.queue[0]
		s.queue = s.queue[1:]
		next.phase = phaseRunning
		s.running++
		ctx, stop := context.WithCancelCause(s.base)
		next.stop = stop
		go s.worker.execute(ctx, next)
	}
	if len(s.queue) == 0 {
		s.queue = nil
	}
}

// finished takes the verdict about a run whose handler has returned. False: nobody is told, the delivery was lost.
func (s *workerState) finished(run *run, result verdict) bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	if run.session != s.session {
		run.phase = phaseReported
		return false
	}
	s.running--
	told := run.asked != ErrLost
	switch {
	case run.phase == phaseReported: // given back meanwhile, because the worker stops
	case told:
		s.finalLocked(run, result.report)
	default:
		run.phase = phaseReported
		s.dropLocked(run)
	}
	s.startLocked()
	s.changedLocked()
	return told
}

// ---- stopping ----

// beginStop: from now on nothing is started.
func (s *workerState) beginStop() (running int) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.releasing = true
	s.releaseQueuedLocked()
	return s.running
}

func (s *workerState) isReleasing() bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.releasing
}

func (s *workerState) releaseQueuedLocked() {
	for _, run := range s.queue {
		s.finalLocked(run, released(pb.ReleaseReason_RELEASE_REASON_STOPPING))
	}
	s.queue = nil
}

// stopHandlers tells all that run to stop, and returns how many run.
func (s *workerState) stopHandlers(why error) int {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.session != nil {
		for _, run := range s.session.held {
			if run.phase == phaseRunning && run.asked == nil {
				s.askLocked(run, why)
			}
		}
	}
	return s.running
}

// releaseRunning gives back what still runs, but says nothing about a job that was cancelled and whose handler has not stopped: it
// returns one of those.
func (s *workerState) releaseRunning() (stuck *run) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.session == nil {
		return nil
	}
	for _, run := range s.session.held {
		switch {
		case run.phase != phaseRunning || run.asked == ErrLost:
		case run.asked == ErrShutdown:
			s.finalLocked(run, released(pb.ReleaseReason_RELEASE_REASON_STOPPING))
		default:
			stuck = run
		}
	}
	return stuck
}

func (s *workerState) isRunning(run *run) bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	return run.phase == phaseRunning
}

func (s *workerState) isIdle() bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.running == 0 && len(s.queue) == 0
}

// onlyStuck: all handlers that run were terminated.
func (s *workerState) onlyStuck() bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.session != nil {
		for _, run := range s.session.held {
			if run.phase == phaseRunning && !run.terminating {
				return false
			}
		}
	}
	return true
}

func (s *workerState) isReported() bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.session == nil || s.session.outbox.isEmpty()
}

func (s *workerState) changedLocked() {
	if s.waiters > 0 {
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

// await waits until the condition holds, the time is over, or cut is closed.
func (s *workerState) await(cut <-chan struct{}, limit time.Duration, condition func() bool) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		s.lock.Lock()
		s.waiters++
		changed := s.changed
		s.lock.Unlock()
		holds := condition()
		if !holds {
			select {
			case <-changed:
			case <-timer.C:
				holds = true
			case <-cut:
				holds = true
			}
		}
		s.lock.Lock()
		s.waiters--
		s.lock.Unlock()
		if holds {
			return
		}
	}
}
