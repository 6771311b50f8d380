-- SPDX-License-Identifier: Apache-2.0
CREATE TABLE IF NOT EXISTS orders (
    id   uuid PRIMARY KEY,
    item text NOT NULL
);

-- Jobs that are to be handed to Millrace. A row's id becomes the job's id, so handing it over twice makes one job.
CREATE TABLE IF NOT EXISTS outbox (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    task       text NOT NULL,
    kwargs     jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS outbox_created_at ON outbox (created_at);
