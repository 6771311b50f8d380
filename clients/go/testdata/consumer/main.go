// SPDX-License-Identifier: Apache-2.0

// An application that requires the released module: module_test.sh builds and runs it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/millrace/millrace/clients/go"
)

func main() {
	client, err := millrace.NewClient()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err = client.Create(ctx, "task", nil)
	fmt.Println(millrace.Version(), errors.Is(err, millrace.ErrUnavailable))
}
