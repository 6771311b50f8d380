# SPDX-License-Identifier: Apache-2.0
"""Expectations must be able to fail; and no scenario may say what the runner does not understand."""
import pytest
import yaml
from expect import Loader, differences, field_matches
from scenario import Scenario

SEEN = {"state": "failed", "attempts": 2, "error": {"type": "com.example.Agent$Boom", "message": "no such customer"}, "list": [1, "two"],
        "result": None, "big": 9007199254740993, "sent": True}


@pytest.mark.parametrize("wanted", ["{}", "{state: failed, attempts: 2}", "{error: {type: !type Boom , message: !contains such}}",
                                    "{list: [1, two]}", "{list: !length 2 }", "{result: !absent , other: !absent , state: !any }",
                                    "{attempts: !at_least 2 , big: 9007199254740993}", "{attempts: !between [1, 2]}", "{sent: true}",
                                    "{state: !one_of [failed, expired], error: {message: !lacks order}}"])
def test_what_is_as_wanted(wanted):
    assert differences(yaml.load(wanted, Loader), SEEN) == []


@pytest.mark.parametrize("wanted", ["{state: succeeded}", "{attempts: '2'}", "{error: {type: !type oom }}", "{error: {message: !contains other }}",
                                    "{list: [1]}", "{list: [two, 1]}", "{list: !length 1 }", "{result: !any }", "{state: !absent }",
                                    "{attempts: !at_least 3 }", "{attempts: !at_most 1 }", "{attempts: !between [3, 4]}", "{sent: 1}",
                                    "{big: 9007199254740992}", "{other: 1}", "{result: {json: null}}", "{state: !one_of [expired]}",
                                    "{error: {message: !lacks customer }}", "{list: !bytes 00 }"])
def test_what_is_not(wanted):
    assert differences(yaml.load(wanted, Loader), SEEN)


def test_the_field_at_fault():
    assert field_matches("job.task", "task") and field_matches("task", "task") and field_matches("steps[1].task", "steps[1].task")
    assert not field_matches("job.subtask", "task") and not field_matches(None, "task") and not field_matches("job.task.x", "task")


@pytest.mark.parametrize("step", ["{create: {tusk: echo}}", "{wait: job, expects: {}}", "{worker: {concurency: 1}}", "{stays: job, status: x}"])
def test_a_misspelt_scenario_is_refused(tmp_path, step):
    path = tmp_path / "misspelt.yaml"
    path.write_text(f"title: x\nsteps: [{step}]\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="misspelt.yaml"):
        Scenario(path)
