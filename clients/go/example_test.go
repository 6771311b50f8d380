// SPDX-License-Identifier: Apache-2.0

package millrace_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"slices"
	"time"

	"github.com/millrace/millrace/clients/go"
)

// Order is what the examples are about.
type Order struct {
	Number int `json:"number"`
}

func charge(_ context.Context, order Order) (string, error) {
	return fmt.Sprintf("receipt for order %d", order.Number), nil
}

// startWorker stands for a worker process of its own.
func startWorker(ctx context.Context, client *millrace.Client, queue string) {
	worker := millrace.NewWorker(client, millrace.WithQueues(queue))
	worker.Handle("charge", millrace.Typed(charge))
	worker.HandleFunc("ship", func(_ context.Context, delivery *millrace.Delivery) (any, error) {
		var receipt string
		err := delivery.DecodePreviousResult(&receipt)
		return "shipped with " + receipt, err
	})
	go func() {
		if err := worker.Run(ctx); err != nil {
			log.Print(err)
		}
	}()
}

func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := millrace.NewClient() // MILLRACE_ADDRESS
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	startWorker(ctx, client, "example")

	created, err := client.Create(ctx, "charge", Order{Number: 7}, millrace.WithQueue("example"), millrace.WithPriority(millrace.PriorityHigh))
	if err != nil {
		log.Fatal(err)
	}
	job, err := client.Wait(ctx, created.ID)
	if err != nil {
		log.Fatal(err)
	}
	var receipt string
	if err := errors.Join(job.Err(), job.DecodeResult(&receipt)); err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.State, receipt)
	// Output: succeeded receipt for order 7
}

func ExampleClient_Create_delayed() {
	ctx := context.Background()
	client, err := millrace.NewClient()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	created, err := client.Create(ctx, "remind", Order{Number: 7}, millrace.WithDelay(72*time.Hour))
	if err != nil {
		log.Fatal(err)
	}
	job, err := client.Get(ctx, created.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.State, job.RunAt.Sub(job.CreatedAt).Round(time.Hour))
	// The order was paid, so nobody needs to be reminded.
	accepted, err := client.Cancel(ctx, created.ID)
	fmt.Println(accepted, err)
	// Output:
	// scheduled 72h0m0s
	// true <nil>
}

func ExampleClient_DeclareSchedules() {
	ctx := context.Background()
	client, err := millrace.NewClient()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	// When the application starts, in every process of it:
	declared, err := client.DeclareSchedules(ctx, "example-shop", true,
		millrace.ScheduleSpec{
			Name:   "daily-report",
			Timing: millrace.Timing{Cron: "0 9 * * mon-fri", TimeZone: "Europe/Berlin"},
			Job:    millrace.NewJob("report", nil, millrace.WithQueue("reports")),
		},
		millrace.ScheduleSpec{
			Name:   "tidy-up",
			Timing: millrace.Timing{Interval: 6 * time.Hour},
			Job:    millrace.NewJob("tidy_up", nil),
		},
	)
	fmt.Println(declared.Created, declared.Deleted, err)
	// Output: 2 0 <nil>
}

func ExampleClient_Chain() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := millrace.NewClient()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	startWorker(ctx, client, "example-chain")

	queue := millrace.WithQueue("example-chain")
	chain, err := client.Chain(ctx,
		millrace.NewJob("charge", Order{Number: 7}, queue),
		millrace.NewJob("ship", Order{Number: 7}, queue, millrace.WithPreviousResult()),
	)
	if err != nil {
		log.Fatal(err)
	}
	chain, err = client.WaitChain(ctx, chain.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(chain.State, string(chain.Result.JSON))
	// Output: succeeded "shipped with receipt for order 7"
}

func ExampleClient_CreateBatch() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := millrace.NewClient()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	startWorker(ctx, client, "example-batch")

	batch, err := client.CreateBatch(ctx, millrace.BatchSpec{
		Description: "orders of March",
		Defaults:    millrace.NewJob("charge", nil, millrace.WithQueue("example-batch"), millrace.WithPriority(millrace.PriorityLow)),
		OnComplete:  millrace.NewJob("charge", Order{Number: 0}, millrace.WithQueue("example-batch")),
		Items: func(yield func(*millrace.JobSpec) bool) { // as many as one likes
			for number := range 2500 {
				if !yield(millrace.NewJob("charge", Order{Number: number})) {
					return
				}
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	batch, err = client.WaitBatch(ctx, batch.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(batch.State, batch.Succeeded)
	// Output: succeeded 2500
}

func ExampleClient_CreateStream() {
	ctx := context.Background()
	client, err := millrace.NewClient()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	specs := []*millrace.JobSpec{
		millrace.NewJob("charge", Order{Number: 1}, millrace.WithQueue("stream")),
		millrace.NewJob("no spaces", Order{Number: 2}, millrace.WithQueue("stream")),
	}
	for outcome, err := range client.CreateStream(ctx, slices.Values(specs)) {
		if err != nil {
			log.Fatal(err) // the stream has ended
		}
		var refused *millrace.Error
		if errors.As(outcome.Err, &refused) {
			fmt.Println("refused because of", refused.Field)
		} else {
			fmt.Println("created")
		}
	}
	// Output:
	// created
	// refused because of jobs[1].task
}

func ExampleError() {
	client, err := millrace.NewClient()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	_, err = client.Get(context.Background(), "0198c5a1-0000-7000-8000-000000000000")
	fmt.Println(errors.Is(err, millrace.ErrJobNotFound))
	// Output: true
}

func ExampleSnooze() {
	paid := func(Order) bool { return false }
	handler := millrace.TypedNoResult(func(_ context.Context, order Order) error {
		if !paid(order) {
			return millrace.Snooze(10 * time.Minute) // look again then; uses up no attempt
		}
		return nil
	})
	_, err := handler.Handle(context.Background(), &millrace.Delivery{Payload: millrace.Payload{JSON: []byte(`{"number": 7}`)}})
	fmt.Println(err)
	// Output: snoozed for 10m0s
}
