// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"

	"google.golang.org/protobuf/proto"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

// outbox keeps a session's reports until the server says that they are durable. Guarded by the state's lock.
type outbox struct {
	bytesMax   int
	seq        uint64
	waiting    []waitingReport
	unaccepted []*sentReports // oldest first; never changed in place: senders hold slices of it
	newsBytes  int
}

type waitingReport struct {
	report *pb.Report
	bytes  int
	final  *run // nil: news
}

// sentReports is a message, and what becomes of it when it is accepted.
type sentReports struct {
	message   *pb.Reports
	finals    []*run
	newsBytes int
}

const bytesPerReport = 8 // tag and length

func (o *outbox) add(report *pb.Report, final *run) {
	o.waiting = append(o.waiting, waitingReport{report, proto.Size(report) + bytesPerReport, final})
}

func (o *outbox) addNews(report *pb.Report) bool {
	bytes := proto.Size(report) + bytesPerReport
	if o.newsBytes+bytes > newsBytesMax {
		return false
	}
	o.newsBytes += bytes
	o.waiting = append(o.waiting, waitingReport{report, bytes, nil})
	return true
}

func (o *outbox) isEmpty() bool { return len(o.waiting) == 0 && len(o.unaccepted) == 0 }

// next makes a message of what waits, as much as fits; nil: nothing waits.
func (o *outbox) next() *pb.Reports {
	if len(o.waiting) == 0 {
		return nil
	}
	sent := &sentReports{message: &pb.Reports{}}
	bytes, count := 0, 0
	for _, waiting := range o.waiting {
		if count == reportsPerMessage || (count > 0 && bytes+waiting.bytes > o.bytesMax) {
			break
		}
		count++
		bytes += waiting.bytes
		sent.message.Reports = append(sent.message.Reports, waiting.report)
		if waiting.final != nil {
			sent.finals = append(sent.finals, waiting.final)
		} else {
			sent.newsBytes += waiting.bytes
		}
	}
	o.waiting = o.waiting[count:]
	if len(o.waiting) == 0 {
		o.waiting = nil
	}
	o.seq++
	sent.message.ReportSeq = o.seq
	o.unaccepted = append(o.unaccepted, sent)
	return sent.message
}

// accepted forgets reports up to a number, and returns the runs that end with that.
func (o *outbox) accepted(seq uint64) []*run {
	var ended []*run
	for len(o.unaccepted) > 0 && o.unaccepted[0].message.ReportSeq <= seq {
		ended = append(ended, o.unaccepted[0].finals...)
		o.newsBytes -= o.unaccepted[0].newsBytes
		o.unaccepted = o.unaccepted[1:]
	}
	return ended
}

// sender says what goes out next over one connection.
type sender struct {
	state     *workerState
	session   *workerSession
	heartbeat bool
	resend    []*sentReports
	wake      chan struct{}
}

func (s *sender) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// next waits for something to send; nil: ctx has ended.
func (s *sender) next(ctx context.Context) *pb.Reports {
	for {
		if message := s.pick(); message != nil {
			return message
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *sender) pick() *pb.Reports {
	s.state.lock.Lock()
	defer s.state.lock.Unlock()
	switch {
	case s.state.sender != s || s.state.session != s.session:
		return nil // what it took would be lost with its connection: the next one knows already what to send again
	case s.heartbeat:
		s.heartbeat = false
		return s.heartbeatLocked()
	case len(s.resend) > 0:
		message := s.resend[0].message
		s.resend = s.resend[1:]
		return message
	}
	return s.session.outbox.next()
}

func (s *sender) heartbeatLocked() *pb.Reports {
	concurrency := s.state.worker.options.concurrency
	beat := &pb.Heartbeat{
		ReceivedUpTo: s.session.receivedUpTo, Ping: s.session.ping, FreeSlots: uint32(max(concurrency-len(s.session.held), 0)),
		Held: make([]*pb.HeldDelivery, 0, len(s.session.held)),
	}
	for key := range s.session.held {
		beat.Held = append(beat.Held, &pb.HeldDelivery{JobId: key.job, Delivery: key.number})
	}
	return &pb.Reports{Heartbeat: beat}
}
