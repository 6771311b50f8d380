# SPDX-License-Identifier: Apache-2.0
"""Plays one scenario: a YAML file's steps, one after the other, against a server, with the agents of one client."""
import pathlib
import re

import yaml
from agent import AgentError
from expect import Bytes, Loader, Matcher, Soon, Special, Text, Unset, differences, field_matches, rfc3339

from harness import api
from harness.wait import SOON_S, never, wait_until

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "scenarios"
MODIFIERS = {"as", "expect", "unless_killed", "error", "background", "within", "eventually"}
SPEC = {"id", "task", "queue", "priority", "payload", "delay", "run_at", "expires_in", "expires_at", "total_timeout", "attempt_timeout",
        "retry", "labels", "unique", "concurrency", "retention", "traceparent", "wants_previous_result"}
SPEC_LISTS = ("jobs", "steps", "items")
SPEC_FIELDS = ("defaults", "on_success", "on_complete", "on_failure", "job")
SCHEDULE = {"name", "cron", "interval", "time_zone", "start_at", "end_at", "overlap", "catch_up_window", "description", "job"}
WAIT, CANCEL = {"id", "timeout"}, {"id", "terminate", "reason"}
# The commands of the protocol: what a bare word after the command stands for, and the fields.
COMMANDS = {
    "create": (None, SPEC),
    "create_many": ("mode", {"mode", "jobs", "repeat"}),
    "get": ("id", {"id", "log"}),
    "wait": ("id", WAIT),
    "watch": ("id", {"id", "until", "timeout"}),
    "list": (None, {"queues", "tasks", "states", "ids", "labels", "batch_id", "chain_id"}),
    "cancel": ("id", CANCEL),
    "retry": ("id", {"id"}),
    "chain_create": (None, {"id", "steps", "on_failure"}),
    "chain_get": ("id", {"id"}),
    "chain_wait": ("id", WAIT),
    "chain_cancel": ("id", CANCEL),
    "batch_create": (None, {"id", "description", "defaults", "items", "seal", "on_success", "on_complete"}),
    "batch_add": ("id", {"id", "chunk", "items", "last"}),
    "batch_seal": ("id", {"id"}),
    "batch_get": ("id", {"id"}),
    "batch_wait": ("id", WAIT),
    "batch_cancel": ("id", CANCEL),
    "schedule_create": (None, SCHEDULE),
    "schedules_declare": (None, {"owner", "schedules", "prune"}),
    "schedule_get": ("name", {"name"}),
    "schedule_list": (None, {"owner"}),
    "schedule_pause": ("name", {"name"}),
    "schedule_resume": ("name", {"name"}),
    "schedule_run": ("name", {"name"}),
    "schedule_delete": ("name", {"name"}),
    "schedule_preview": (None, {"cron", "interval", "time_zone", "after", "count"}),
    "queue_get": ("name", {"name"}),
    "queue_pause": ("name", {"name"}),
    "queue_resume": ("name", {"name"}),
    "queue_purge": ("name", {"name"}),
}
# The runner's own verbs and their fields; the README tells them.
VERBS = {
    "worker": {"name", "dies", "queues", "concurrency", "handlers", "tasks", "stop_grace", "terminate_grace", "middleware"},
    "stop_worker": set(), "terminate_worker": set(), "kill_worker": set(), "worker_dies": {"codes"},
    "replace_worker": {"if_ended_with"}, "worker_log": {"line_with"}, "worker_is_quiet": set(),
    "kill_server": set(), "stop_server": set(), "start_server": set(), "may_die": set(),
    "inspect": set(), "in_order": set(), "together_at_most": {"jobs"}, "stays": {"state", "seconds"}, "all_created": set(),
    "join": set(), "event": {"state"}, "limit_queue": set(),
}
# What an agent is told of its workers once for all.
ONCE_FOR_ALL = ("handlers", "tasks", "middleware", "terminate_grace")
OUTCOMES = {value: name.lower() for name, value in api.AttemptOutcome.__members__.items()}


class Scenario:
    """A file."""

    def __init__(self, path):
        self.name = path.stem
        document = yaml.load(path.read_text(encoding="utf-8"), Loader)
        self.title = document.pop("title")
        self.steps = document.pop("steps")
        self.only = document.pop("only", None)
        self.client_options = document.pop("client", {})
        assert not document, f"{path.name}: what is {list(document)}?"
        for step in self.steps:
            verb, value = next(iter(step.items()))
            fields = set(step) - {verb} - MODIFIERS | (set(value) if isinstance(value, dict) else set())
            unknown = fields - (COMMANDS[verb][1] if verb in COMMANDS else VERBS[verb])
            assert not unknown, f"{path.name}: {verb} has no {unknown}"
        self.may_die = [victim for step in self.steps for victim in step.get("may_die", ())]
        assert self.may_die == list(dict.fromkeys(self.may_die)), f"{path.name}: each may die once"

    def __repr__(self):
        return self.name


def load_all():
    """Every scenario, by name."""
    return [Scenario(path) for path in sorted(FOLDER.glob("*.yaml"))]


class Play:
    """A scenario on its way. `server` is a harness Server, `producer` an Agent, `agents` has others for workers, `killed` is who dies
    in it (None, "server", "worker")."""

    def __init__(self, scenario, server, producer, agents, killed=None):
        self.scenario = scenario
        self.server = server
        self.producer = producer
        self.killed = killed
        self.workers = {}  # name -> (agent, what it was started with)
        self._pool = agents
        self._agents = []  # (agent, what it was made for)
        run = api.new_id()[:8]
        self.known = {"run": run, "queue": f"q-{run}"}

    def run(self):
        """All steps. Workers that still run at the end are stopped, after a failure by force."""
        try:
            for number, step in enumerate(self.scenario.steps, 1):
                try:
                    self._step(dict(step))
                except (AssertionError, AgentError, api.Failure) as error:
                    raise AssertionError(f"{self.scenario.name}.yaml, step {number}: {step}\n{error}\n{self._logs()}") from error
        except BaseException:
            for agent, _ in self._agents:
                agent.kill()
            raise
        for agent, made_for in self._agents:
            self._pool.give_back(agent, made_for)

    def _logs(self):
        return "\n".join(f"--- stderr of worker {i}\n{agent.log()}" for i, (agent, _) in enumerate(self._agents) if agent.log())

    # ---- steps ----

    def _step(self, step):
        verb = next(iter(step))
        value = self._resolve(step.pop(verb))
        modifiers = {key: step.pop(key) for key in list(step) if key in MODIFIERS}
        step = self._resolve(step)
        if isinstance(value, dict):
            step = {**value, **step}
            value = None
        if verb in VERBS:
            self._judge(getattr(self, "_do_" + verb)(value, step, modifiers), modifiers)
            return
        fields = self._fields(verb, value, step)
        if modifiers.get("background"):
            self.known[modifiers["as"]] = self.producer.send(verb, **fields)
        elif modifiers.get("eventually"):
            wait_until(lambda: self._judge(self._try(verb, fields, modifiers), modifiers) or True, f"{verb} as expected",
                       modifiers.get("within", SOON_S))
        else:
            self._judge(self._answer(self.producer.send(verb, **fields), modifiers), modifiers)

    def _try(self, verb, fields, modifiers):
        """One of several calls; a server that can't be reached may come back."""
        try:
            return self._answer(self.producer.send(verb, **fields), modifiers)
        except AgentError as error:
            assert error.error["kind"] != "unavailable", error
            raise

    def _answer(self, call, modifiers):
        """What came of a call; an error that is expected becomes {"error": …}."""
        timeout_s = call.fields.get("timeout", 0) + 2 * SOON_S
        try:
            return call.result(modifiers.get("within", timeout_s))
        except AgentError as error:
            if "error" not in modifiers:
                raise
            return {"error": error.error}

    def _judge(self, seen, modifiers):
        if "error" in modifiers:
            wanted = self._resolve(modifiers["error"])
            wanted = {"kind": wanted} if isinstance(wanted, str) else dict(wanted)
            error = seen.get("error") if isinstance(seen, dict) else None
            assert error, f"should be refused with {wanted}, answered {seen!r}"
            field = wanted.pop("field", None)
            wrong = differences(wanted, error)
            if field and not field_matches(error.get("field"), field):
                wrong.append(f"the field at fault should be {field!r}, is {error.get('field')!r}")
            assert not wrong, "; ".join(wrong) + f"\n{error}"
        for key in ("expect", "unless_killed"):
            if key in modifiers and not (key == "unless_killed" and self.killed):
                wrong = differences(self._expectation(modifiers[key]), seen)
                assert not wrong, "; ".join(wrong) + f"\n{seen}"
        if modifiers.get("as"):
            self.known[modifiers["as"]] = seen

    # ---- what steps say ----

    def _resolve(self, value):
        """$name and $name.path in strings; a string that is nothing else becomes the value itself. Times become text."""
        if isinstance(value, str):
            whole = re.fullmatch(r"\$([a-z_0-9.]+)", value)
            if whole:
                return self._lookup(whole[1])
            return re.sub(r"\$\{?([a-z_0-9]+)\}?", lambda found: str(self._lookup(found[1])), value)
        if isinstance(value, Soon):
            return value.text()
        if isinstance(value, Matcher):
            return Matcher(value.tag, self._resolve(value.value))
        if isinstance(value, list):
            return [self._resolve(item) for item in value]
        if isinstance(value, dict):
            return {self._resolve(key): self._resolve(item) for key, item in value.items()}
        return value

    def _lookup(self, path):
        value = self.known
        for part in path.split("."):
            value = value[int(part)] if isinstance(value, list) else value[part]
        return value

    def _expectation(self, wanted):
        """A result is expected as its plain value."""
        wanted = self._resolve(wanted)
        if isinstance(wanted, dict) and "result" in wanted and not isinstance(wanted["result"], (Bytes, Text, Matcher)):
            wanted["result"] = {"json": wanted["result"]}
        return wanted

    def _fields(self, verb, word, fields):
        """A command's fields, from the short forms of a scenario."""
        if word is not None:
            if word in self.known and word != "queue":
                fields["id"] = self.known[word]["id"]
            else:
                fields[COMMANDS[verb][0]] = word
        elif verb.startswith("queue"):
            fields.setdefault("name", self.known["queue"])
        if verb == "create":
            return self._spec(fields)
        for key in SPEC_LISTS:
            if key in fields:
                fields[key] = [self._spec(spec) for spec in fields[key]]
        for key in SPEC_FIELDS:
            if key in fields:
                fields[key] = self._spec(fields[key])
        if "schedules" in fields:
            fields["schedules"] = [{**schedule, "job": self._spec(schedule["job"])} for schedule in fields["schedules"]]
        if "repeat" in fields:
            fields["jobs"] = fields["jobs"] * fields.pop("repeat")
        return fields

    def _spec(self, spec):
        """A job's own queue is the scenario's; a payload is a plain value."""
        spec = {"queue": self.known["queue"], **spec}
        spec = {key: value for key, value in spec.items() if not isinstance(value, Unset)}
        if "payload" in spec:
            payload = spec["payload"]
            spec["payload"] = payload.payload() if isinstance(payload, (Bytes, Special, Text)) else {"json": payload}
        return spec

    # ---- verbs of the runner's own ----

    def _do_worker(self, name, options, _):
        """Starts a worker of the scenario's queue and waits until it is attached, unless a job of the queue makes it die."""
        options = {"queues": {self.known["queue"]: 1}, "concurrency": 2, "stop_grace": 30, **options}
        self._start_worker(options.pop("name", name) or "worker", options)

    def _start_worker(self, name, options):
        made_for = {"open": self.scenario.client_options, **{name: options[name] for name in ONCE_FOR_ALL if name in options}}
        agent = self._pool.take(self.producer.client, self.producer.transport, self.server.target, made_for)
        self._agents.append((agent, made_for))
        self.workers[name] = (agent, options)
        options = dict(options)
        queue = next(iter(options["queues"]))
        before = {worker.session_id for worker in self.server.client.ListWorkers(queue=queue).workers}
        dies = options.pop("dies", False)
        agent.call("worker_start", **options)
        if dies:
            return

        def attached():
            workers = self.server.client.ListWorkers(queue=queue).workers
            assert agent.is_alive(), f"the worker has ended\n{agent.log()}"
            return [w for w in workers if w.session_id not in before and w.state == api.WorkerState.ACTIVE]

        wait_until(attached, "a worker is attached", 2 * SOON_S)

    def _do_replace_worker(self, name, fields, _):
        """As a supervisor does: a worker whose process ended with this code is started again; one that goes on is left alone."""
        agent, options = self.workers[name]
        queue = next(iter(options["queues"]))

        def attached():
            return any(w.state == api.WorkerState.ACTIVE for w in self.server.client.ListWorkers(queue=queue).workers)

        wait_until(lambda: not agent.is_alive() or attached(), "the worker has ended, or goes on")
        if not agent.is_alive():
            assert agent.exit_code() == fields["if_ended_with"], f"ended with {agent.exit_code()}\n{agent.log()}"
            self._start_worker(name, options)

    def _restart_server(self, restart):
        """Then waits until the producer reaches it: its connection tries again by itself, but not all the time."""
        restart()
        wait_until(lambda: self._try("queue_get", {"name": self.known["queue"]}, {}), "the producer reaches the server again", 2 * SOON_S)

    def _do_may_die(self, victims, _fields, _modifiers):
        """Here the server or the worker is killed and started again, in the plays that do."""
        if self.killed not in victims:
            return
        if self.killed == "server":
            self._restart_server(self.server.restart)
            return
        for name, (agent, options) in list(self.workers.items()):
            agent.kill()
            self._start_worker(name, options)

    def _do_kill_server(self, *_):
        """kill -9, and up again."""
        self._restart_server(self.server.restart)

    def _do_stop_server(self, *_):
        """Down until start_server."""
        self.server.stop()

    def _do_start_server(self, *_):
        """Up again, on the same port."""
        self._restart_server(self.server.start)

    def _do_kill_worker(self, name, *_):
        """kill -9."""
        self.workers.pop(name)[0].kill()

    def _do_stop_worker(self, name, _fields, modifiers):
        """Graceful, by the client's own call."""
        stop = self.workers[name][0].send("worker_stop")
        return stop if modifiers.get("background") else stop.result(60 + SOON_S)

    def _do_terminate_worker(self, name, *_):
        """SIGTERM; the process ends by itself with 0."""
        agent = self.workers.pop(name)[0]
        agent.terminate()
        assert agent.exit_code() == 0, f"ended with {agent.exit_code()}\n{agent.log()}"

    def _do_worker_dies(self, name, fields, _modifiers):
        """It has ended by itself, in one of these ways."""
        code = self.workers[name][0].exit_code()
        assert code in fields["codes"], f"ended with {code}, should be one of {fields['codes']}"
        del self.workers[name]

    def _do_inspect(self, word, *_):
        """What the server itself knows of a job: its whole history, whatever the client shows of it."""
        job = self.server.client.job(self.known[word]["id"] if word in self.known else word)
        history = [{"outcome": OUTCOMES[entry.outcome], "started": api.unix(entry.started_at), "finished": api.unix(entry.finished_at)}
                   for entry in job.history]
        return {"state": api.JobState(job.state).name.lower(), "deliveries": job.deliveries, "attempts": job.attempts,
                "lost": job.lost_count, "generation": job.generation, "outcomes": [entry["outcome"] for entry in history],
                "pauses": [after["started"] - before["finished"] for before, after in zip(history, history[1:])],
                "waited": api.unix(job.started_at) - api.unix(job.created_at) if job.HasField("started_at") else None,
                "payload": job.payload.json or job.payload.data.hex(), "trace": job.error.trace}

    def _do_in_order(self, words, *_):
        """These jobs started in this order, at different times."""
        starts = [api.unix(self.server.client.job(self.known[word]["id"]).started_at) for word in words]
        assert starts == sorted(set(starts)), f"started {dict(zip(words, map(rfc3339, starts)))}"

    def _do_join(self, word, _fields, modifiers):
        """The answer of a step that was sent to the background."""
        return self._answer(self.known[word], modifiers)

    def _do_event(self, word, fields, _):
        """Waits for an event of a step in the background."""
        seen = self.known[word].event()
        wrong = differences(fields, seen)
        assert not wrong, "; ".join(wrong)

    def _do_stays(self, word, fields, _):
        """For so many seconds, nothing else becomes of a job."""
        state = api.JobState[fields["state"].upper()]
        never(lambda: self.server.client.job(self.known[word]["id"]).state != state, f"{word} left {fields['state']}", fields["seconds"])

    def _do_together_at_most(self, limit, fields, _):
        """Of these jobs, which have ended, no more than so many ran at a time."""
        jobs = [self.server.client.job(self.known[word]["id"]) for word in fields["jobs"]]
        moments = sorted([(api.unix(job.started_at), 1) for job in jobs] + [(api.unix(job.finished_at), -1) for job in jobs])
        running = most = 0
        for _, change in moments:
            running += change
            most = max(most, running)
        assert most <= limit, f"{most} ran at a time"

    def _do_limit_queue(self, length, *_):
        """An administrator limits the scenario's queue."""
        settings = api.QueueSettings(max_length=api.UInt64Value(value=length))
        self.server.client.UpdateQueue(name=self.known["queue"], settings=settings)

    def _do_all_created(self, words, *_):
        """Every outcome of these creates is a job of its own."""
        outcomes = [outcome for word in words for outcome in self.known[word]["outcomes"]]
        refused = [outcome for outcome in outcomes if outcome.get("error") or outcome.get("existing")]
        assert not refused, refused[:3]
        assert len({outcome["id"] for outcome in outcomes}) == len(outcomes)

    def _do_worker_log(self, word, fields, _):
        """A line of the worker's log has all of these."""
        agent = self.workers[word][0]
        words = [str(text) for text in fields["line_with"]]
        wait_until(lambda: any(all(text in line for text in words) for line in agent.log().splitlines()), f"a line with {words}")

    def _do_worker_is_quiet(self, word, *_):
        """The server knows that it is to send nothing new to a worker, the only one of its queue, and is connected with it."""
        queue = next(iter(self.workers[word][1]["queues"]))

        def states():
            return [worker.state for worker in self.server.client.ListWorkers(queue=queue).workers]

        wait_until(lambda: states() == [api.WorkerState.QUIET], f"{word} is quiet")
