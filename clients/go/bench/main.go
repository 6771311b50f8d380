// SPDX-License-Identifier: Apache-2.0

// Bench measures this client against a running server: how many jobs a second it creates, by each way of creating, and how many
// no-op jobs a second one worker process does.
//
//	MILLRACE_ADDRESS=… go run ./bench --seconds 3
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/clients/go"
)

const perCall = 1000

var payload = map[string]any{"to": "someone@example.org", "template": "welcome", "number": 42}

type bench struct {
	client  *millrace.Client
	single  *millrace.Client // without coalescing
	seconds float64
	run     string // makes queues of this run
}

func main() {
	seconds := flag.Float64("seconds", 3, "how long each measurement takes")
	jobs := flag.Int("jobs", 100_000, "how many no-op jobs the worker does")
	concurrency := flag.Int("concurrency", 100, "of the worker")
	prefetch := flag.Int("prefetch", 400, "of the worker")
	flag.Parse()
	client, err := millrace.NewClient()
	single, err2 := millrace.NewClient(millrace.WithoutCoalescing())
	if err := errors.Join(err, err2); err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	defer single.Close()
	b := &bench{client: client, single: single, seconds: *seconds, run: fmt.Sprintf("bench-%d", time.Now().UnixNano())}
	ctx := context.Background()
	if _, err := client.ServerInfo(ctx); err != nil {
		log.Fatal(err)
	}
	b.show("creates/s, unary, 1 at a time", b.create(ctx, single, 1))
	b.show("creates/s, unary, 64 at a time", b.create(ctx, single, 64))
	b.show("creates/s, coalesced, 64 at a time", b.create(ctx, client, 64))
	b.show("creates/s, coalesced, 1,000 at a time", b.create(ctx, client, 1000))
	b.show("creates/s, bulk of 1,000", b.bulk(ctx))
	b.show("creates/s, stream", b.stream(ctx))
	for _, transport := range []millrace.Transport{millrace.TransportNNG, millrace.TransportGRPC} {
		name := fmt.Sprintf("no-op jobs/s of one worker, %s, concurrency %d, prefetch %d", transport, *concurrency, *prefetch)
		rate := b.work(ctx, transport, *jobs, *concurrency, *prefetch)
		b.show(name, rate)
	}
}

func (b *bench) show(name string, rate float64) { fmt.Printf("%-75s %10.0f\n", name, rate) }

func (b *bench) end() time.Time {
	return time.Now().Add(time.Duration(b.seconds * float64(time.Second)))
}

func (b *bench) queue(name string) millrace.JobOption { return millrace.WithQueue(b.run + "-" + name) }

// create has so many goroutines create job after job.
func (b *bench) create(ctx context.Context, client *millrace.Client, depth int) float64 {
	var count atomic.Int64
	var all sync.WaitGroup
	start, end := time.Now(), b.end()
	for range depth {
		all.Add(1)
		go func() {
			defer all.Done()
			for time.Now().Before(end) {
				if _, err := client.Create(ctx, "noop", payload, b.queue("created")); err != nil {
					log.Fatal(err)
				}
				count.Add(1)
			}
		}()
	}
	all.Wait()
	return float64(count.Load()) / time.Since(start).Seconds()
}

func (b *bench) specs(queue string, count int) []*millrace.JobSpec {
	specs := make([]*millrace.JobSpec, count)
	for i := range specs {
		specs[i] = millrace.NewJob("noop", payload, b.queue(queue))
	}
	return specs
}

func (b *bench) bulk(ctx context.Context) float64 {
	count := 0
	start, end := time.Now(), b.end()
	for time.Now().Before(end) {
		outcomes, err := b.client.CreateMany(ctx, b.specs("bulk", perCall)...)
		if err != nil {
			log.Fatal(err)
		}
		count += len(outcomes)
	}
	return float64(count) / time.Since(start).Seconds()
}

func (b *bench) stream(ctx context.Context) float64 {
	count := 0
	start, end := time.Now(), b.end()
	specs := func(yield func(*millrace.JobSpec) bool) {
		for time.Now().Before(end) && yield(millrace.NewJob("noop", payload, b.queue("stream"))) {
		}
	}
	for outcome, err := range b.client.CreateStream(ctx, specs) {
		if err := errors.Join(err, outcome.Err); err != nil {
			log.Fatal(err)
		}
		count++
	}
	return float64(count) / time.Since(start).Seconds()
}

// work measures from the first to the last of so many jobs, all created before.
func (b *bench) work(ctx context.Context, transport millrace.Transport, jobs, concurrency, prefetch int) float64 {
	queue := "work-" + string(transport)
	for left := jobs; left > 0; left -= perCall {
		if _, err := b.client.CreateMany(ctx, b.specs(queue, min(left, perCall))...); err != nil {
			log.Fatal(err)
		}
	}
	worker := millrace.NewWorker(b.client, millrace.WithQueues(b.run+"-"+queue), millrace.WithTransport(transport),
		millrace.WithConcurrency(concurrency), millrace.WithPrefetch(prefetch), millrace.WithLogger(slog.New(slog.DiscardHandler)))
	var count atomic.Int64
	var first time.Time
	var once sync.Once
	done := make(chan struct{})
	worker.HandleFunc("noop", func(context.Context, *millrace.Delivery) (any, error) {
		once.Do(func() { first = time.Now() })
		if count.Add(1) == int64(jobs) {
			close(done)
		}
		return nil, nil
	})
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(ctx) }()
	select {
	case <-done:
	case err := <-ended:
		log.Fatal(err)
	}
	rate := float64(jobs) / time.Since(first).Seconds()
	if err := errors.Join(worker.Shutdown(ctx), <-ended); err != nil {
		log.Fatal(err)
	}
	return rate
}
