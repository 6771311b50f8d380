module github.com/millrace/millrace/clients/go

go 1.24.0

require (
	github.com/coder/websocket v1.8.13
	github.com/google/uuid v1.6.0
	github.com/robfig/cron/v3 v3.0.1
	google.golang.org/genproto/googleapis/rpc v0.0.0-20250707201910-8d1bb00bc6a7
	google.golang.org/grpc v1.75.1
	google.golang.org/protobuf v1.36.7
)

require (
	golang.org/x/net v0.41.0 // indirect
	golang.org/x/sys v0.33.0 // indirect
	golang.org/x/text v0.26.0 // indirect
)
