// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/millrace/millrace/clients/go"
	"github.com/millrace/millrace/clients/go/millraceotel"
	"github.com/millrace/millrace/clients/go/millracetest"
)

func TestConsumer(t *testing.T) {
	fake := millracetest.New(t)
	client := fake.Client(millrace.WithTracer(millraceotel.New()))
	if _, err := client.Create(t.Context(), "task", 1); err != nil {
		t.Fatal(err)
	}
	fake.RequireCreated(t, "task", millracetest.WithPayload(1))
}
