// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

// ChainSpec is jobs that run one after the other.
type ChainSpec struct {
	// ID is a UUID. Default: CreateChain makes one.
	ID string
	// Steps, 1 to 1,000. A step starts once the one before has succeeded; WithPreviousResult hands it that one's result.
	Steps []*JobSpec
	// OnFailure is created once, when a step ends otherwise than by success.
	OnFailure *JobSpec
}

// Chain is a chain as it was when the server was asked.
type Chain struct {
	ID string
	// State: running, succeeded, failed or cancelled.
	State State
	// JobIDs of the steps, in order.
	JobIDs []string
	// Succeeded counts the steps that have succeeded.
	Succeeded int
	// CurrentStep is the one at work, or the one that failed, from 0.
	CurrentStep int
	// Error of the failed step.
	Error          *JobError
	OnFailureJobID string
	CreatedAt      time.Time
	FinishedAt     time.Time
	// Result of the last step, once it has succeeded; not in lists.
	Result Payload
}

// Chain creates a chain of these steps.
func (c *Client) Chain(ctx context.Context, steps ...*JobSpec) (*Chain, error) {
	return c.CreateChain(ctx, ChainSpec{Steps: steps})
}

// CreateChain creates a chain. Sent again with the same ID and steps it answers with the chain that is there.
func (c *Client) CreateChain(ctx context.Context, spec ChainSpec) (*Chain, error) {
	request := &pb.CreateChainRequest{Id: spec.ID}
	if request.Id == "" {
		request.Id = newID()
	}
	var err error
	for i, step := range spec.Steps {
		step, end := c.traced(ctx, step)
		defer func() { end(err) }()
		var message *pb.JobSpec
		if message, err = c.outgoingIn(spec.ID != "", step); err != nil {
			return nil, fmt.Errorf("step %d: %w", i, err)
		}
		request.Steps = append(request.Steps, message)
	}
	if request.OnFailure, err = c.template(spec.OnFailure); err != nil {
		return nil, fmt.Errorf("on failure: %w", err)
	}
	var response *pb.CreateChainResponse
	if response, err = invoke(ctx, c, c.chains.CreateChain, request); err != nil {
		return nil, err
	}
	return c.chainOf(response.GetChain())
}

func (c *Client) chainOf(m *pb.Chain) (*Chain, error) {
	result, err := c.decode(m.GetResult())
	return &Chain{
		ID: m.GetId(), State: State(wireName(m.GetState().String(), "CHAIN_STATE_")), JobIDs: m.GetJobIds(),
		Succeeded: int(m.GetSucceeded()), CurrentStep: int(m.GetCurrentStep()), Error: jobErrorOf(m.GetError()),
		OnFailureJobID: m.GetOnFailureJobId(), CreatedAt: timeOf(m.GetCreatedAt()), FinishedAt: timeOf(m.GetFinishedAt()), Result: result,
	}, err
}

// GetChain tells how a chain stands.
func (c *Client) GetChain(ctx context.Context, id string) (*Chain, error) {
	response, err := invoke(ctx, c, c.chains.GetChain, &pb.GetChainRequest{Id: id})
	if err != nil {
		return nil, err
	}
	return c.chainOf(response.GetChain())
}

// WaitChain waits until the chain has ended, as Wait does for a job.
func (c *Client) WaitChain(ctx context.Context, id string) (*Chain, error) {
	var chain *Chain
	err := c.waitInSlices(ctx, func(ctx context.Context, slice time.Duration) (bool, error) {
		response, err := c.chains.WaitChain(ctx, &pb.WaitChainRequest{Id: id, Timeout: durationpb.New(slice)})
		if err != nil {
			return false, callError(err, false)
		}
		chain, err = c.chainOf(response.GetChain())
		return err == nil && chain.State.IsTerminal(), err
	})
	if errors.Is(err, ErrWaitTimeout) {
		timeout := &WaitTimeoutError{ID: id, State: "not known"}
		if chain != nil {
			timeout.State = string(chain.State)
		}
		err = timeout
	}
	return chain, err
}

// Chains yields all chains, by id.
func (c *Client) Chains(ctx context.Context) iter.Seq2[*Chain, error] {
	return pages(func(token string) ([]*Chain, string, error) {
		response, err := invoke(ctx, c, c.chains.ListChains, &pb.ListChainsRequest{PageToken: token})
		if err != nil {
			return nil, "", err
		}
		result := make([]*Chain, len(response.GetChains()))
		for i, message := range response.GetChains() {
			if result[i], err = c.chainOf(message); err != nil {
				return result[:i], "", err
			}
		}
		return result, response.GetNextPageToken(), nil
	})
}

// CancelChain cancels the steps that have not ended. False: the chain had ended already.
func (c *Client) CancelChain(ctx context.Context, id string, options ...CancelOption) (accepted bool, err error) {
	o := cancelling(options)
	response, err := invoke(ctx, c, c.chains.CancelChain, &pb.CancelChainRequest{Id: id, Terminate: o.terminate, Reason: o.reason})
	return response.GetAccepted(), err
}
