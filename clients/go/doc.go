// SPDX-License-Identifier: Apache-2.0

// Package millrace creates background jobs with Millrace, and does them.
//
// A [Client] is one connection, for all goroutines of a process. It finds the server by MILLRACE_ADDRESS:
//
//	client, err := millrace.NewClient()
//	created, err := client.Create(ctx, "send_email", Email{To: "a@example.org"}, millrace.WithPriority(millrace.PriorityHigh))
//	job, err := client.Wait(ctx, created.ID)
//
// When Create returns without an error, the job is on the server's disk. It has an id made here, so that a call that is sent again
// makes no second job. What many goroutines create at the same time goes out in few calls.
//
// A [Worker] runs handlers:
//
//	worker := millrace.NewWorker(client, millrace.WithConcurrency(20))
//	worker.Handle("send_email", millrace.Typed(sendEmail), millrace.WithMaxAttempts(5))
//	err := worker.Run(ctx) // until ctx ends: then gracefully
//
// A job is delivered at least once, so handlers must bear being run again. A handler's error is a failed attempt, after which the
// job's policy decides; [Permanent], [RetryLater] and [Snooze] say more. Its context ends when the job is cancelled, its time is
// over, or the worker stops; [context.Cause] tells which. A handler that does not obey a terminate ends its process, with
// [ExitStuck]: nobody is told that work has stopped that has not.
//
// # Errors
//
// Calls fail with an [*Error], which errors.Is knows by its kind ([ErrJobNotFound], [ErrJobExists], [ErrInvalidArgument],
// [ErrQueueFull], [ErrUnavailable] …), and which names the field at fault. Waits that run out of time are [ErrWaitTimeout].
//
// # Deadlines and retries
//
// Every call has a deadline: its context's, or else the client's ([WithTimeout], 30 s). Calls that the server could not take
// (UNAVAILABLE) are tried again a few times for about a second; that is safe, because ids are made here. Waits go on through
// restarts of the server, until their context ends.
//
// # Payloads
//
// [NewPayload] tells how values are encoded. A struct or map is keyword arguments for handlers of languages that have them, a slice
// positional ones, a [Call] both. Integers of 64 bits stay exact; NaN, infinities, and bytes inside JSON are refused.
//
// # Testing
//
// Package millracetest is a server in the test's own process, with a clock that the test moves.
package millrace
