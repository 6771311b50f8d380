// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

// grpcLink is WorkerService.Attach.
type grpcLink struct {
	cancel context.CancelFunc
	stream grpc.BidiStreamingClient[pb.AttachRequest, pb.AttachResponse]
}

func (w *Worker) dialGRPC(done context.Context, to joining) (link, error) {
	ctx, cancel := context.WithCancel(done)
	stream, err := w.client.workers.Attach(ctx)
	if err == nil {
		hello := &pb.AttachHello{SessionId: to.id, SessionToken: to.token}
		err = stream.Send(&pb.AttachRequest{Message: &pb.AttachRequest_Hello{Hello: hello}})
	}
	if err != nil {
		cancel()
		return nil, callError(err, false)
	}
	w.options.logger.Info("joined", "transport", "grpc")
	return &grpcLink{cancel: cancel, stream: stream}, nil
}

func (l *grpcLink) send(message *pb.Reports) error {
	err := l.stream.Send(&pb.AttachRequest{Message: &pb.AttachRequest_Reports{Reports: message}})
	if errors.Is(err, io.EOF) {
		return nil // receive tells why
	}
	return err
}

func (l *grpcLink) receive() (*pb.Deliveries, error) {
	message, err := l.stream.Recv()
	if err != nil {
		return nil, err
	}
	return message.GetDeliveries(), nil
}

func (l *grpcLink) close() { l.cancel() }
