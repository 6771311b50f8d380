// SPDX-License-Identifier: Apache-2.0

// Package hook lets millracetest run the handlers of a worker without a server. Package millrace fills it in.
package hook

import (
	"context"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

// Worker is what a *millrace.Worker can do for a fake server.
type Worker interface {
	// Task is what the worker declares for a task; nil: it does not handle it.
	Task(name string) *pb.WorkerTask
	// Queues that it serves.
	Queues() []*pb.WorkerQueue
	// Perform runs a handler to its end and returns the final report. news gets what it reports meanwhile.
	Perform(ctx context.Context, delivery *pb.Delivery, news func(*pb.Report)) *pb.Report
}

// Open gives the Worker of a *millrace.Worker.
var Open func(worker any) Worker
