// SPDX-License-Identifier: Apache-2.0

// Shop is a small application with all five levels of jobs: at once, later, again and again, one after the other, many together.
// Start a server (millraced --dev), then: go run ./examples/shop
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os/signal"
	"syscall"
	"time"

	"github.com/millrace/millrace/clients/go"
)

const queue = "shop"

type order struct {
	Number int    `json:"number"`
	Email  string `json:"email"`
}

type receipt struct {
	Number int `json:"number"`
	Cents  int `json:"cents"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	client, err := millrace.NewClient(millrace.WithRoutes(millrace.Route{Tasks: "shop_*", Queue: queue}))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	worker := newWorker(client)
	working, finish := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(working) }()
	err = tour(ctx, client)
	finish()
	if err := errors.Join(err, <-ended); err != nil {
		log.Fatal(err)
	}
}

func newWorker(client *millrace.Client) *millrace.Worker {
	worker := millrace.NewWorker(client, millrace.WithQueues(queue), millrace.WithConcurrency(20))
	worker.Handle("shop_welcome", millrace.TypedNoResult(welcome), millrace.WithMaxAttempts(5), millrace.WithAttemptTimeout(time.Minute))
	worker.Handle("shop_charge", millrace.Typed(charge))
	worker.HandleFunc("shop_ship", ship)
	worker.Handle("shop_newsletter", millrace.TypedNoResult(welcome))
	worker.HandleFunc("shop_report", func(context.Context, *millrace.Delivery) (any, error) { return "all is well", nil })
	return worker
}

func welcome(ctx context.Context, to order) error {
	if to.Email == "" {
		return millrace.Permanent(errors.New("there is no address to write to"))
	}
	millrace.DeliveryFrom(ctx).Logf("written to %s", to.Email)
	return nil
}

func charge(_ context.Context, o order) (receipt, error) {
	return receipt{Number: o.Number, Cents: 1995}, nil
}

func ship(_ context.Context, delivery *millrace.Delivery) (any, error) {
	var paid receipt
	if err := delivery.DecodePreviousResult(&paid); err != nil {
		return nil, err
	}
	return fmt.Sprintf("order %d shipped, %d cents paid", paid.Number, paid.Cents), nil
}

// tour goes through the levels.
func tour(ctx context.Context, client *millrace.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	customer := order{Number: 7, Email: "a@example.org"}

	created, err := client.Create(ctx, "shop_welcome", customer, millrace.WithPriority(millrace.PriorityHigh))
	if err != nil {
		return err
	}
	job, err := client.Wait(ctx, created.ID)
	if err != nil {
		return err
	}
	fmt.Println("1. at once:", job.State)

	created, err = client.Create(ctx, "shop_welcome", customer, millrace.WithDelay(time.Second))
	if err != nil {
		return err
	}
	if job, err = client.Wait(ctx, created.ID); err != nil {
		return err
	}
	fmt.Println("2. later:", job.State, job.StartedAt.Sub(job.CreatedAt) >= time.Second)

	if err := schedule(ctx, client); err != nil {
		return err
	}
	if err := chain(ctx, client, customer); err != nil {
		return err
	}
	return newsletter(ctx, client)
}

func schedule(ctx context.Context, client *millrace.Client) error {
	report := millrace.ScheduleSpec{
		Name: "shop-report", Timing: millrace.Timing{Cron: "0 9 * * *", TimeZone: "Europe/Berlin"}, Job: millrace.NewJob("shop_report", nil),
	}
	if _, err := client.DeclareSchedules(ctx, "shop", true, report); err != nil {
		return err
	}
	id, err := client.RunSchedule(ctx, "shop-report") // not waiting for nine o'clock
	if err != nil {
		return err
	}
	job, err := client.Wait(ctx, id)
	if err != nil {
		return err
	}
	fmt.Println("3. again and again:", job.State, string(job.Result.JSON))
	return nil
}

func chain(ctx context.Context, client *millrace.Client, customer order) error {
	made, err := client.Chain(ctx, millrace.NewJob("shop_charge", customer), millrace.NewJob("shop_ship", customer, millrace.WithPreviousResult()))
	if err != nil {
		return err
	}
	if made, err = client.WaitChain(ctx, made.ID); err != nil {
		return err
	}
	fmt.Println("4. one after the other:", made.State, string(made.Result.JSON))
	return nil
}

func newsletter(ctx context.Context, client *millrace.Client) error {
	batch, err := client.CreateBatch(ctx, millrace.BatchSpec{
		Defaults:   millrace.NewJob("shop_newsletter", nil, millrace.WithPriority(millrace.PriorityLow)),
		OnComplete: millrace.NewJob("shop_report", nil),
		Items: func(yield func(*millrace.JobSpec) bool) {
			for number := range 1200 {
				if !yield(millrace.NewJob("shop_newsletter", order{Number: number, Email: fmt.Sprintf("%d@example.org", number)})) {
					return
				}
			}
		},
	})
	if err != nil {
		return err
	}
	if batch, err = client.WaitBatch(ctx, batch.ID); err != nil {
		return err
	}
	fmt.Println("5. many together:", batch.State, batch.Succeeded, "of", batch.Total)
	return nil
}
