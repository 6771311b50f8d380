// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"time"

	"github.com/millrace/millrace/clients/go/internal/hook"
	pb "github.com/millrace/millrace/clients/go/millracepb"
)

func init() {
	hook.Open = func(worker any) hook.Worker { return hooked{worker.(*Worker)} }
}

// hooked runs a worker's handlers for package millracetest.
type hooked struct{ worker *Worker }

func (h hooked) Task(name string) *pb.WorkerTask {
	for _, known := range []string{name, "*"} {
		if settings := h.worker.tasks[known]; settings != nil {
			return settings.message
		}
	}
	return nil
}

func (h hooked) Queues() []*pb.WorkerQueue { return h.worker.options.queues }

func (h hooked) Perform(ctx context.Context, message *pb.Delivery, news func(*pb.Report)) *pb.Report {
	delivery := deliveryOf(message)
	delivery.news = news
	delivery.lineBytesMax = logLineBytesMax
	started := time.Now()
	var result verdict
	ended := make(chan struct{})
	go func() { // a handler may end its goroutine
		defer close(ended)
		inner := &handlerContext{Context: ctx, delivery: delivery, end: delivery.deadline(started)}
		h.worker.perform(inner, delivery, started, limitsOf(nil), &result)
	}()
	<-ended
	return result.report
}
