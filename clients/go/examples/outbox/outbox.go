// SPDX-License-Identifier: Apache-2.0

// Package outbox is the recipe of docs/from-asynq.md: jobs that exist exactly when a change to your database does. Rows are written in
// the transaction that makes the change, and a relay creates jobs from them. A row's id is its job's id, so that a relay may do the
// same create twice.
package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"log"

	"github.com/millrace/millrace/clients/go"
)

// Schema of the table.
const Schema = `CREATE TABLE outbox (
    id      uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    task    text NOT NULL,
    payload jsonb NOT NULL,
    created timestamptz NOT NULL DEFAULT now()
)`

// Relay moves up to 1,000 rows to Millrace, and tells how many. Rows that another relay has locked are skipped.
func Relay(ctx context.Context, db *sql.DB, client *millrace.Client) (int, error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback() // does nothing after the commit
	specs, err := locked(ctx, tx)
	if err != nil {
		return 0, err
	}
	outcomes, err := client.CreateMany(ctx, specs...)
	if err != nil {
		return 0, err // nothing is deleted; the next relay sends the same ids
	}
	done := 0
	for _, outcome := range outcomes {
		if outcome.Err != nil {
			log.Printf("outbox row %s stays: %v", outcome.ID, outcome.Err)
			continue
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM outbox WHERE id = $1`, outcome.ID); err != nil {
			return 0, err
		}
		done++
	}
	return done, tx.Commit()
}

func locked(ctx context.Context, tx *sql.Tx) ([]*millrace.JobSpec, error) {
	rows, err := tx.QueryContext(ctx, `SELECT id, task, payload FROM outbox ORDER BY created LIMIT 1000 FOR UPDATE SKIP LOCKED`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var specs []*millrace.JobSpec
	for rows.Next() {
		var id, task, payload string
		if err := rows.Scan(&id, &task, &payload); err != nil {
			return nil, err
		}
		specs = append(specs, millrace.NewJob(task, json.RawMessage(payload), millrace.WithID(id)))
	}
	return specs, rows.Err()
}
