// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/clients/go"
)

type run func(a *agent, ctx context.Context, c *command) (any, error)

// with is for commands that need no more than the client.
func with(f func(ctx context.Context, m *millrace.Client, c *command) (any, error)) run {
	return func(a *agent, ctx context.Context, c *command) (any, error) {
		client, err := a.millrace()
		if err != nil {
			return nil, err
		}
		return f(ctx, client, c)
	}
}

var commands = map[string]run{
	"open": open, "create": with(create), "create_many": with(createMany), "get": with(get), "wait": with(wait), "watch": watch,
	"list": with(list), "cancel": with(cancel), "retry": with(retryJob),
	"chain_create": with(chainCreate), "chain_get": with(chainGet), "chain_wait": with(chainWait), "chain_cancel": with(chainCancel),
	"batch_create": with(batchCreate), "batch_add": with(batchAdd), "batch_seal": with(batchSeal), "batch_get": with(batchGet),
	"batch_wait": with(batchWait), "batch_cancel": with(batchCancel),
	"schedule_create": with(scheduleCreate), "schedules_declare": with(schedulesDeclare), "schedule_get": with(scheduleGet),
	"schedule_pause": with(schedulePause), "schedule_resume": with(scheduleResume), "schedule_list": with(scheduleList),
	"schedule_delete": with(scheduleDelete), "schedule_run": with(scheduleRun), "schedule_preview": with(schedulePreview),
	"queue_get": with(queueGet), "queue_pause": with(queuePause), "queue_resume": with(queueResume), "queue_purge": with(queuePurge),
	"worker_start": workerStart, "worker_stop": workerStop,
}

// out turns a result of the client into an answer.
func out[T any](show func(T) any) func(T, error) (any, error) {
	return func(value T, err error) (any, error) {
		if err != nil {
			return nil, err
		}
		return show(value), nil
	}
}

func showJob(job *millrace.Job) any { return jobOut(job) }

// limit gives ctx the command's time-out.
func (c *command) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.Timeout == nil {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, c.Timeout.duration())
}

func (c *command) cancelling() []millrace.CancelOption {
	options := []millrace.CancelOption{millrace.Reason(c.Reason)}
	if c.Terminate {
		options = append(options, millrace.Terminate())
	}
	return options
}

func open(a *agent, _ context.Context, c *command) (any, error) {
	var options []millrace.ClientOption
	for tasks, queue := range c.Routes {
		options = append(options, millrace.WithRoutes(millrace.Route{Tasks: tasks, Queue: queue}))
	}
	if c.Codec == "reverse" {
		options = append(options, millrace.WithCodec(reverse{}))
	}
	_, err := a.millrace(options...)
	return struct{}{}, err
}

// ---- jobs ----

func create(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	spec, err := c.jobSpec.job()
	if err != nil {
		return nil, err
	}
	created, err := m.CreateJob(ctx, spec)
	return map[string]any{"id": created.ID, "existing": created.Existing}, err
}

func createMany(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	specs, err := jobsOf(c.Jobs)
	if err != nil {
		return nil, err
	}
	outcomes := make([]millrace.Outcome, len(specs))
	switch c.Mode {
	case "bulk":
		outcomes, err = m.CreateMany(ctx, specs...)
	case "stream":
		i := 0
		for outcome, fault := range m.CreateStream(ctx, slices.Values(specs)) {
			if err = fault; err == nil {
				outcomes[i] = outcome
				i++
			}
		}
	case "coalesced":
		var all sync.WaitGroup
		for i, spec := range specs {
			all.Add(1)
			go func() {
				defer all.Done()
				outcomes[i].Created, outcomes[i].Err = m.CreateJob(ctx, spec)
			}()
		}
		all.Wait()
	default:
		return nil, errUnsupported
	}
	answers := make([]any, len(outcomes))
	for i, outcome := range outcomes {
		answers[i] = outcomeOut(outcome)
	}
	return map[string]any{"outcomes": answers}, err
}

func get(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	if !c.Log {
		return out(showJob)(m.Get(ctx, c.ID))
	}
	job, lines, err := m.GetWithLog(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	texts := []string{}
	for _, line := range lines {
		texts = append(texts, line.Text)
	}
	answer := jobOut(job)
	answer["log"] = texts
	return answer, nil
}

func wait(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	ctx, cancel := c.limit(ctx)
	defer cancel()
	return out(showJob)(m.Wait(ctx, c.ID))
}

func watch(a *agent, ctx context.Context, c *command) (any, error) {
	client, err := a.millrace()
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.limit(ctx)
	defer cancel()
	var states []millrace.State
	for event, err := range client.Watch(ctx, millrace.Filter{IDs: []string{c.ID}}) {
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, millrace.ErrWaitTimeout
		}
		if err != nil {
			return nil, err
		}
		if event.Job == nil || (len(states) > 0 && states[len(states)-1] == event.Job.State) {
			continue
		}
		states = append(states, event.Job.State)
		a.write(map[string]any{"number": c.Number, "event": "state", "state": event.Job.State})
		if event.Job.State == c.Until {
			break
		}
	}
	return map[string]any{"states": states}, nil
}

func list(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	filter := millrace.Filter{IDs: c.IDs, States: c.States, Labels: c.Labels, BatchID: c.BatchID, ChainID: c.ChainID}
	for text, names := range map[*json.RawMessage]*[]string{&c.Queues: &filter.Queues, &c.TasksOrPolicy: &filter.Tasks} {
		if *text != nil {
			if err := json.Unmarshal(*text, names); err != nil {
				return nil, err
			}
		}
	}
	jobs, err := all(m.List(ctx, filter), showJob)
	return map[string]any{"jobs": jobs}, err
}

func all[T any](items iter.Seq2[T, error], show func(T) any) ([]any, error) {
	result := []any{}
	for item, err := range items {
		if err != nil {
			return nil, err
		}
		result = append(result, show(item))
	}
	return result, nil
}

func cancel(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	accepted, err := m.Cancel(ctx, c.ID, c.cancelling()...)
	return map[string]any{"accepted": accepted}, err
}

func retryJob(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	return out(showJob)(m.Retry(ctx, c.ID))
}

// ---- chains and batches ----

func chainCreate(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	steps, err := jobsOf(c.Steps)
	if err != nil {
		return nil, err
	}
	onFailure, err := c.OnFailure.job()
	if err != nil {
		return nil, err
	}
	return out(chainOut)(m.CreateChain(ctx, millrace.ChainSpec{ID: c.ID, Steps: steps, OnFailure: onFailure}))
}

func chainGet(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	return out(chainOut)(m.GetChain(ctx, c.ID))
}

func chainWait(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	ctx, cancel := c.limit(ctx)
	defer cancel()
	return out(chainOut)(m.WaitChain(ctx, c.ID))
}

func chainCancel(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	if _, err := m.CancelChain(ctx, c.ID, c.cancelling()...); err != nil {
		return nil, err
	}
	return chainGet(ctx, m, c)
}

func batchCreate(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	spec := millrace.BatchSpec{ID: c.ID, Description: c.Description, Open: !c.Seal}
	for from, to := range map[*jobSpec]**millrace.JobSpec{c.Defaults: &spec.Defaults, c.OnSuccess: &spec.OnSuccess, c.OnComplete: &spec.OnComplete} {
		job, err := from.job()
		if err != nil {
			return nil, err
		}
		if from != nil {
			*to = job
		}
	}
	items, err := jobsOf(c.Items)
	if err != nil {
		return nil, err
	}
	spec.Items = slices.Values(items)
	return out(batchOut)(m.CreateBatch(ctx, spec))
}

func batchAdd(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	items, err := jobsOf(c.Items)
	if err != nil {
		return nil, err
	}
	outcomes, err := m.AddBatchItems(ctx, c.ID, c.Chunk, c.Last, items...)
	answers := []any{}
	for _, outcome := range outcomes {
		answers = append(answers, outcomeOut(outcome))
	}
	return map[string]any{"outcomes": answers}, err
}

func batchSeal(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	return out(batchOut)(m.SealBatch(ctx, c.ID))
}

func batchGet(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	return out(batchOut)(m.GetBatch(ctx, c.ID))
}

func batchWait(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	ctx, cancel := c.limit(ctx)
	defer cancel()
	return out(batchOut)(m.WaitBatch(ctx, c.ID))
}

func batchCancel(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	if _, err := m.CancelBatch(ctx, c.ID, c.cancelling()...); err != nil {
		return nil, err
	}
	return batchGet(ctx, m, c)
}

// ---- schedules ----

func scheduleCreate(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	spec, err := c.scheduleFields.spec()
	if err != nil {
		return nil, err
	}
	return out(scheduleOut)(m.CreateSchedule(ctx, spec))
}

func schedulesDeclare(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	var specs []millrace.ScheduleSpec
	for _, fields := range c.Schedules {
		spec, err := fields.spec()
		if err != nil {
			return nil, err
		}
		specs = append(specs, spec)
	}
	done, err := m.DeclareSchedules(ctx, c.Owner, c.Prune, specs...)
	return map[string]any{"created": done.Created, "updated": done.Updated, "unchanged": done.Unchanged, "deleted": done.Deleted}, err
}

func scheduleGet(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	return out(scheduleOut)(m.GetSchedule(ctx, c.Name))
}

func schedulePause(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	return out(scheduleOut)(m.PauseSchedule(ctx, c.Name))
}

func scheduleResume(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	return out(scheduleOut)(m.ResumeSchedule(ctx, c.Name))
}

func scheduleList(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	schedules, err := all(m.Schedules(ctx, c.Owner), scheduleOut)
	return map[string]any{"schedules": schedules}, err
}

func scheduleDelete(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	return struct{}{}, m.DeleteSchedule(ctx, c.Name)
}

func scheduleRun(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	id, err := m.RunSchedule(ctx, c.Name)
	return map[string]any{"job_id": id}, err
}

func schedulePreview(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	times, err := m.PreviewSchedule(ctx, c.timing(), c.After, c.Count)
	answers := []any{}
	for _, t := range times {
		answers = append(answers, timeOut(t))
	}
	return map[string]any{"times": answers}, err
}

// ---- queues ----

func queueGet(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	return out(queueOut)(m.Queue(ctx, c.Name))
}

func queuePause(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	return out(queueOut)(m.PauseQueue(ctx, c.Name))
}

func queueResume(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	return out(queueOut)(m.ResumeQueue(ctx, c.Name))
}

func queuePurge(ctx context.Context, m *millrace.Client, c *command) (any, error) {
	purged, err := m.PurgeQueue(ctx, c.Name)
	return map[string]any{"purged": purged}, err
}

// ---- worker ----

func workerStart(a *agent, ctx context.Context, c *command) (any, error) {
	client, err := a.millrace()
	if err != nil {
		return nil, err
	}
	options := []millrace.WorkerOption{millrace.WithTransport(a.transport)}
	var queues map[string]int
	if c.Queues != nil {
		if err := json.Unmarshal(c.Queues, &queues); err != nil {
			return nil, err
		}
	}
	for name, weight := range queues {
		options = append(options, millrace.WithWeightedQueue(name, weight))
	}
	if c.Concurrency != nil {
		var n int
		if err := json.Unmarshal(c.Concurrency, &n); err != nil {
			return nil, err
		}
		options = append(options, millrace.WithConcurrency(n))
	}
	for grace, option := range map[*seconds]func(time.Duration) millrace.WorkerOption{
		c.StopGrace: millrace.WithStopGrace, c.TerminateGrace: millrace.WithTerminateGrace,
	} {
		if grace != nil {
			options = append(options, option(grace.duration()))
		}
	}
	if c.Middleware {
		options = append(options, millrace.WithMiddleware(logTask))
	}
	worker := millrace.NewWorker(client, options...)
	if err := register(worker, c); err != nil {
		return nil, err
	}
	a.lock.Lock()
	defer a.lock.Unlock()
	a.worker = worker
	a.stopped = make(chan error, 1)
	go func() {
		err := worker.Run(ctx)
		if err != nil {
			slog.Error("the worker has ended", "error", err)
		}
		a.stopped <- err
	}()
	return struct{}{}, nil
}

func workerStop(a *agent, _ context.Context, _ *command) (any, error) {
	a.stopWorker()
	return struct{}{}, nil
}

func logTask(next millrace.Handler) millrace.Handler {
	return millrace.HandlerFunc(func(ctx context.Context, delivery *millrace.Delivery) (any, error) {
		delivery.Log("middleware: " + delivery.Task)
		return next.Handle(ctx, delivery)
	})
}

// register registers the standard handlers that the command asks for.
func register(worker *millrace.Worker, c *command) error {
	var policies map[string]struct {
		Retry          *retry   `json:"retry"`
		AttemptTimeout *seconds `json:"attempt_timeout"`
	}
	if c.TasksOrPolicy != nil {
		if err := json.Unmarshal(c.TasksOrPolicy, &policies); err != nil {
			return err
		}
	}
	for task, handler := range handlers {
		if c.Handlers != nil && !slices.Contains(c.Handlers, task) {
			continue
		}
		var options []millrace.TaskOption
		if policy, declared := policies[task]; declared {
			if policy.Retry != nil {
				options = append(options, millrace.WithRetry(policy.Retry.policy()))
			}
			if policy.AttemptTimeout != nil {
				options = append(options, millrace.WithAttemptTimeout(policy.AttemptTimeout.duration()))
			}
		}
		worker.Handle(task, handler, options...)
	}
	return nil
}
