"""Golden messages: what an author is told, word for word, line and column."""
# ruff: noqa: E501 - a message stays on one line, as people read it

import pytest

from rollout.errors import PolicyError
from rollout.policy import parse_policy

#: name: (text of the file, what is told)
MISTAKES: dict[str, tuple[str, list[str]]] = {
    "empty file": (
        "",
        ["p.yaml:1:1: the file is empty: write at least `endpoint_name: …`"],
    ),
    "comments only": (
        "# to do\n",
        ["p.yaml:1:1: the file is empty: write at least `endpoint_name: …`"],
    ),
    "not a mapping": (
        "- endpoint_name: diners\n",
        ["p.yaml:1:1: a policy is made of fields: write at least `endpoint_name: …`"],
    ),
    "open bracket": (
        "endpoint_name: diners\nsteps: [5%, 100%\nalerts: [team]\n",
        ["p.yaml:3:7: a [ or { that opens at 2:8 is not closed, or a comma is missing here"],
    ),
    "open quote": (
        "endpoint_name: diners\ndescription: 'new model\n",
        ["p.yaml:2:14: the quote that opens here is never closed"],
    ),
    "tab": (
        "endpoint_name: diners\nchecks:\n\terror_rate: off\n",
        ["p.yaml:3:1: a tab: indent with spaces"],
    ),
    "two colons": (
        "endpoint_name: diners\ndescription: note: read this\n",
        ["p.yaml:2:18: a `: ` where none can stand: put the value in quotes, or begin a new line"],
    ),
    "no colon": (
        "endpoint_name: diners\nalerts\nbake: 10m\n",
        ["p.yaml:2:1: this line is neither `name: value` nor part of the lines above: check the `:`"],
    ),
    "indentation": (
        "endpoint_name: diners\nwhen:\n    drift: pause\n  suspicion: hold\n",
        [
            "p.yaml:4:3: this line does not fit the lines above: check its indentation, and the `:` after each field's name"
        ],
    ),
    "percent first": (
        "endpoint_name: diners\nholdback: %5\n",
        ["p.yaml:2:11: a value cannot begin with %: put it in quotes"],
    ),
    "key twice": (
        "endpoint_name: diners\nbake: 10m\nbake: 20m\n",
        ["p.yaml:3:1: bake: stands twice: line 2 has it already; take one of them out"],
    ),
    "merge key": (
        "endpoint_name: diners\nchecks: &c {error_rate: off}\nwhen:\n  <<: *c\n",
        ['p.yaml:4:3: when."<<": merge keys are not read here: write the fields out'],
    ),
    "unknown alias": (
        "endpoint_name: *diners\n",
        ["p.yaml:1:16: *diners names no anchor above it: write &diners at the value it repeats, or put it in quotes"],
    ),
    "tag": (
        "endpoint_name: !env ENDPOINT\n",
        ['p.yaml:1:16: endpoint_name: the tag "!env" means nothing here: take it out'],
    ),
    "two documents": (
        "endpoint_name: diners\n---\nendpoint_name: guests\n",
        ["p.yaml:2:1: a second document begins here: write one document in a file"],
    ),
    "control character": (
        "endpoint_name: diners\ndescription: bell \x07\n",
        [
            "p.yaml:2:19: the character U+0007 cannot stand in YAML: take it out, or write it as an escape in double quotes"
        ],
    ),
    "no endpoint": (
        "alerts: [team]\n",
        ["p.yaml:1:1: endpoint_name: is missing: write `endpoint_name: restaurant-recommender`"],
    ),
    "unknown field": (
        "endpoint_name: diners\nhold_back: 5%\n",
        ["p.yaml:2:1: hold_back: there is no such field; did you mean `holdback`?"],
    ),
    "unknown nested field": (
        "endpoint_name: diners\nchecks:\n  error_rate: {max_increse: 0.5pp}\n",
        ["p.yaml:3:16: checks.error_rate.max_increse: there is no such field; did you mean `max_increase`?"],
    ),
    "far from any field": (
        "endpoint_name: diners\nwhen: {xyzzy: 1}\n",
        [
            "p.yaml:2:8: when.xyzzy: there is no such field here; those that are: suspicion, regression, doubt, no_data, shared_incident, drift"
        ],
    ),
    "a secret": (
        "endpoint_name: diners\nalerts: [team]\nwebhook_token: hunter2\n",
        [
            "p.yaml:3:1: webhook_token: a secret never stands in this file: keep it in an environment variable or a file, and name it in the settings"
        ],
    ),
    "enum": (
        "endpoint_name: diners\nwhen: {suspicion: retret}\n",
        ['p.yaml:2:19: when.suspicion: "retret" is not one of retreat, hold; did you mean retreat?'],
    ),
    "enum far": (
        "endpoint_name: diners\nwhen: {regression: explode}\n",
        ['p.yaml:2:20: when.regression: "explode" cannot stand here: write rollback, pause or alert'],
    ),
    "a word for a list": (
        "endpoint_name: diners\nalerts: team-ml\n",
        ['p.yaml:2:9: alerts: "team-ml" is not a list: write [team-ml]'],
    ),
    "a list for a word": (
        "endpoint_name: [diners]\n",
        ["p.yaml:1:16: endpoint_name: a list cannot stand here: write one word or text"],
    ),
    "a number for a word": (
        "endpoint_name: diners\nalerts: [5]\n",
        ['p.yaml:2:10: alerts[0]: 5 is not text: put it in quotes, "5", if it is meant'],
    ),
    "a word for fields of which one must be": (
        "endpoint_name: diners\ntrigger: {schedule: daily}\n",
        ['p.yaml:2:21: trigger.schedule: "daily" cannot stand here: write fields below it, such as `expression: …`'],
    ),
    "a pair of one": (
        "endpoint_name: diners\ntrigger: {model: {name: stars, deployment: {file: a.yml, names: [blue]}}}\n",
        [
            (
                'p.yaml:2:51: trigger.model.deployment.file: "a.yml" cannot be read: '
                "files are named in policy files only; write the text here"
            ),
            "p.yaml:2:65: trigger.model.deployment.names[1]: is missing: the list needs one more",
        ],
    ),
    "a word for fields": (
        "endpoint_name: diners\nwhen: pause\n",
        ['p.yaml:2:7: when: "pause" cannot stand here: write fields below it, such as `suspicion: …`'],
    ),
    "yes": (
        "endpoint_name: diners\nexpert: {early: yes}\n",
        ['p.yaml:2:17: expert.early: "yes" is not a switch: write true or false'],
    ),
    "nothing": (
        "endpoint_name: diners\ndeadline:\n",
        ["p.yaml:2:10: deadline: is empty: write a value, or take the line out"],
    ),
    "bad name": (
        "endpoint_name: diners_2\n",
        [
            'p.yaml:1:16: endpoint_name: "diners_2" is no name of an endpoint or deployment: write 3 or more letters, digits and single dashes, a letter first'
        ],
    ),
    "page": (
        "endpoint_name: diners\nrunbook: wiki/recommender\n",
        ['p.yaml:2:10: runbook: "wiki/recommender" is not the address of a page: write https://…'],
    ),
    "same deployment": (
        "endpoint_name: diners\nstable: blue\ncandidate: Blue\n",
        ['p.yaml:3:12: candidate: "Blue" is the stable deployment too: name another one, or take one of them out'],
    ),
    "fraction for a share": (
        "endpoint_name: diners\nsteps: [0.05, 100%]\n",
        ["p.yaml:2:9: steps[0].traffic: 0.05 is not a whole percent: write 5%"],
    ),
    "half a percent": (
        "endpoint_name: diners\nsteps: [0.5%, 100%]\n",
        [
            'p.yaml:2:9: steps[0].traffic: "0.5%" is not a whole percent, and Azure splits traffic in whole percents: write a whole percent between 1% and 100%'
        ],
    ),
    "share out of range": (
        "endpoint_name: diners\nsteps: [5%, 150%]\n",
        ["p.yaml:2:13: steps[1].traffic: 150% is out of range: write a whole percent between 1% and 100%"],
    ),
    "number for a duration": (
        "endpoint_name: diners\nbake: 15\n",
        ["p.yaml:2:7: bake: 15 is not a duration: it has no unit; write 15m for minutes or 15s for seconds"],
    ),
    "words for a duration": (
        "endpoint_name: diners\nbake: 15 minutes\n",
        ['p.yaml:2:7: bake: "15 minutes" is not a duration: write 15m'],
    ),
    "bake in seconds": (
        "endpoint_name: diners\nbake: 90s\n",
        ["p.yaml:2:7: bake: 1m30s is not in whole minutes, in which data is judged: write 1m or 2m"],
    ),
    "percent for points": (
        "endpoint_name: diners\nchecks: {error_rate: {max_increase: 0.5%}}\n",
        [
            'p.yaml:2:37: checks.error_rate.max_increase: "0.5%" could mean two things: an increase of a rate is written in percentage points, 0.5pp'
        ],
    ),
    "fraction for points": (
        "endpoint_name: diners\nchecks: {error_rate: {max_increase: 0.005}}\n",
        ["p.yaml:2:37: checks.error_rate.max_increase: 0.005 has no unit: write 0.5pp (percentage points)"],
    ),
    "points for percent": (
        "endpoint_name: diners\nchecks: {latency_p95: {max_increase: 25pp}}\n",
        [
            'p.yaml:2:38: checks.latency_p95.max_increase: "25pp" is not a percent: an increase of latency is a part of stable\'s latency, such as 25%'
        ],
    ),
    "number for latency": (
        "endpoint_name: diners\nchecks: {latency_p95: {max: 800}}\n",
        ["p.yaml:2:29: checks.latency_p95.max: 800 has no unit: write 800ms or 800s"],
    ),
    "fraction for a rate": (
        "endpoint_name: diners\nchecks: {error_rate: {max: 0.05}}\n",
        ["p.yaml:2:28: checks.error_rate.max: 0.05 has no unit: write 5%"],
    ),
    "text for requests": (
        "endpoint_name: diners\nmin_requests: 1k\n",
        ['p.yaml:2:15: min_requests: "1k" is not a whole number: write digits, without a unit and without quotes'],
    ),
    "no requests": (
        "endpoint_name: diners\nmin_requests: 0\n",
        ["p.yaml:2:15: min_requests: 0 is out of range: write at least 1"],
    ),
    "alpha": (
        "endpoint_name: diners\nexpert: {alpha: 50%, ratio: 9}\n",
        [
            "p.yaml:2:17: expert.alpha: 50% is out of range: write between 0.1% and 20%",
            "p.yaml:2:29: expert.ratio: 9 is out of range: write at most 3",
        ],
    ),
    "falling shares": (
        "endpoint_name: diners\nsteps:\n  - {traffic: 25%, bake: 5m}\n  - {traffic: 5%, bake: 5m}\n  - 100%\n",
        ["p.yaml:4:15: steps[1].traffic: 5% does not rise above the 25% before it: write shares that rise"],
    ),
    "not to the end": (
        "endpoint_name: diners\nsteps: [5%, 50%]\n",
        ["p.yaml:2:13: steps[1].traffic: the last step ends at 50%: add a step of 100% after it"],
    ),
    "no steps": (
        "endpoint_name: diners\nsteps: []\n",
        [
            "p.yaml:2:8: steps: there is no step with traffic: write shares that rise to 100%, such as [5%, 25%, 50%, 100%]"
        ],
    ),
    "no room for the holdback": (
        "endpoint_name: diners\nsteps: [5%, 97%, 100%]\n",
        [
            "p.yaml:2:13: steps[1].traffic: 97% leaves no room for the 5% that `holdback` keeps on stable: write at most 95%, or `holdback: 0%`"
        ],
    ),
    "holdback": (
        "endpoint_name: diners\nholdback: 30%\n",
        ["p.yaml:2:11: holdback: 30% is out of range: write a whole percent between 0% and 20%"],
    ),
    "deadline too short": (
        "endpoint_name: diners\ndeadline: 1h\n",
        [
            "p.yaml:2:11: deadline: 1h is too short: the steps bake for 1h15m in all; write a longer deadline or shorter bakes"
        ],
    ),
    "approval at the end": (
        "endpoint_name: diners\nsteps: [5%, 100%, approve]\n",
        [
            "p.yaml:2:19: steps[2]: no step follows this approval: write the step that it is for after it, or take it out"
        ],
    ),
    "approval in a step": (
        "endpoint_name: diners\nsteps:\n  - {traffic: 100%, approve: {}}\n",
        ["p.yaml:3:5: steps[0]: an approval is an item of its own: write `- approve` on the line before the step"],
    ),
    "step without a share": (
        "endpoint_name: diners\nsteps:\n  - {bake: 10m}\n  - 100%\n",
        ["p.yaml:3:5: steps[0]: has no share of the traffic: write `traffic: 5%`, or `- approve`"],
    ),
    "every check off": (
        "endpoint_name: diners\nchecks: {error_rate: off, client_errors: off, latency_p95: off}\n",
        ["p.yaml:2:9: checks: every check is off: leave at least one on"],
    ),
    "empty check": (
        "endpoint_name: diners\nchecks:\n  error_rate:\n",
        ["p.yaml:3:14: checks.error_rate: is empty: write `{max_increase: …}`, or off, or take the line out"],
    ),
    "check on": (
        "endpoint_name: diners\nchecks: {latency_p99: true}\n",
        ["p.yaml:2:23: checks.latency_p99: true cannot stand here: write `{max_increase: …}`, or off"],
    ),
    "no evidence": (
        "endpoint_name: diners\nexpert: {evidence: []}\n",
        [
            "p.yaml:2:20: expert.evidence: is empty: write what to judge by, such as [logs, metrics], [metrics] or [probes]"
        ],
    ),
    "nothing that metrics can decide": (
        "endpoint_name: diners\nexpert: {evidence: [metrics]}\nchecks: {error_rate: off, client_errors: {dry_run: true}}\n",
        ["p.yaml:3:9: checks: metrics time no requests: leave error_rate on, or give a latency check its `max`"],
    ),
    "nothing that metrics can decide, beside probes": (
        (
            "endpoint_name: diners\nprobes: {requests: ['{}']}\nexpert: {evidence: [metrics, probes]}\n"
            "checks: {error_rate: off, client_errors: off}\n"
        ),
        ["p.yaml:4:9: checks: metrics time no requests: leave error_rate on, or give a latency check its `max`"],
    ),
    "unknown mode": (
        "endpoint_name: diners\nmode: observer\n",
        ['p.yaml:2:7: mode: "observer" is not one of act, observe; did you mean observe?'],
    ),
    "candidate file": (
        "endpoint_name: diners\ncandidate: {file: deployments/green.yml}\n",
        [
            'p.yaml:2:19: candidate.file: "deployments/green.yml" cannot be read: files are named in policy files only; write the text here'
        ],
    ),
    "mirror": (
        "endpoint_name: diners\nsteps:\n  - {mirror_traffic: 60%, bake: 10m}\n  - 100%\n",
        ['p.yaml:3:22: steps[0].mirror_traffic: "60%" is out of range: Azure mirrors 50% at most'],
    ),
    "mirror after live traffic": (
        "endpoint_name: diners\nsteps:\n  - 5%\n  - {mirror_traffic: 10%}\n  - {mirror_traffic: 10%, traffic: 100%}\n",
        [
            "p.yaml:5:5: steps[2]: Azure mirrors no traffic to a deployment that is live: write two steps, the mirror first",
        ],
    ),
    "mirror too late": (
        "endpoint_name: diners\nsteps:\n  - 5%\n  - {mirror_traffic: 10%}\n  - 100%\n",
        [
            "p.yaml:4:22: steps[1].mirror_traffic: comes after live traffic or an approval: Azure mirrors none to a deployment that is live; write it first",
        ],
    ),
    "mirror alone": (
        "endpoint_name: diners\nsteps:\n  - {mirror_traffic: 10%}\n",
        [
            "p.yaml:3:3: steps: there is no step with traffic: write shares that rise to 100%, such as [5%, 25%, 50%, 100%]",
        ],
    ),
    "approve by nobody": (
        "endpoint_name: diners\nsteps:\n  - approve: {by: []}\n  - 100%\n",
        [
            (
                "p.yaml:3:19: steps[0].approve.by: names nobody: write a group of the settings such as [ml-leads], "
                "or take `by` out: anybody may approve"
            )
        ],
    ),
    "approve by": (
        "endpoint_name: diners\nsteps:\n  - approve: {by: ml-leads, until: 4h}\n  - 100%\n",
        [
            'p.yaml:3:19: steps[0].approve.by: "ml-leads" is not a list: write [ml-leads]',
            "p.yaml:3:29: steps[0].approve.until: there is no such field here; those that are: by, timeout, on_timeout",
        ],
    ),
    "dry runs alone": (
        "endpoint_name: diners\nchecks: {error_rate: {dry_run: true}, client_errors: off, latency_p95: {dry_run: true}}\n",
        ["p.yaml:2:9: checks: every check is a dry run, so nothing would stop the candidate: let at least one decide"],
    ),
    "answer size": (
        "endpoint_name: diners\nchecks: {answer_size: {max_change: 0.5, on_regression: pause}}\n",
        [
            "p.yaml:2:36: checks.answer_size.max_change: 0.5 is out of range: write at least 1.1",
            "p.yaml:2:41: checks.answer_size.on_regression: there is no such field here; those that are: max_change, dry_run",
        ],
    ),
    "on regression": (
        "endpoint_name: diners\nchecks: {error_rate: {on_regression: retreat}}\n",
        ['p.yaml:2:38: checks.error_rate.on_regression: "retreat" cannot stand here: write rollback, pause or alert'],
    ),
    "harm budget": (
        "endpoint_name: diners\nexpert: {harm_budget: 0}\n",
        ["p.yaml:2:23: expert.harm_budget: 0 is out of range: write at least 1"],
    ),
    "custom": (
        "endpoint_name: diners\nchecks: {custom: [{name: x}]}\n",
        ["p.yaml:2:19: checks.custom[0]: has no query: write either kql_file or kql"],
    ),
    "a model's template": (
        "endpoint_name: diners\nstable: blue\ncandidate: green\ntrigger:\n  model: {name: m, deployment: {names: [blue, Blue]}}\n",
        [
            'p.yaml:5:40: trigger.model.deployment.names: "blue" stands twice: write two names',
        ],
    ),
    "a model's roles": (
        (
            "endpoint_name: diners\nmode: observe\nstable: blue\n"
            'trigger: {model: {name: m, deployment: {names: [blue, green], text: "instance_count: 1"}}}\n'
        ),
        [
            "p.yaml:2:7: mode: a model's deployment is created: write `mode: act`, or take `trigger.model` out",
            "p.yaml:3:9: stable: a model's deployment gets the name without traffic: take this out, or `trigger.model`",
        ],
    ),
    "a template that is none": (
        'endpoint_name: diners\ntrigger: {model: {name: m, deployment: {names: [blue, green], text: "[1, 2]"}}}\n',
        [
            "p.yaml:2:40: trigger.model.deployment: the template has no fields: write a deployment's file, as for `az ml online-deployment`",
        ],
    ),
    "windows and more": (
        "endpoint_name: diners\nwindows: {allow: [always]}\ncapacity: {}\ntrigger: {model: {name: m}}\nafter: drop\n",
        [
            (
                'p.yaml:2:19: windows.allow[0]: "always" is not an allowed time: write days, times and a time zone, such as '
                '"mon-thu 09:00-17:00 Europe/Paris"'
            ),
            "p.yaml:3:11: capacity: is empty: write keep, match_stable, {match_stable: 1.2} or {instances: 3}",
            "p.yaml:4:18: trigger.model.deployment: is missing: write `deployment: …`",
            'p.yaml:5:8: after.then: "drop" cannot stand here: write keep, scale_to_1 or delete',
        ],
    ),
    "after": (
        "endpoint_name: diners\nafter: {keep_stable: 24h, then: drop}\n",
        ['p.yaml:2:33: after.then: "drop" cannot stand here: write keep, scale_to_1 or delete'],
    ),
    "probes": (
        "endpoint_name: diners\nexpert: {evidence: [logs, probes]}\n",
        [
            "p.yaml:2:20: expert.evidence: needs requests to send: write `probes: {request_file: requests/sample.json}`, or take probes out"
        ],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_author_is_told(name: str) -> None:
    text, expected = MISTAKES[name]

    with pytest.raises(PolicyError) as caught:
        parse_policy(text, file="p.yaml")

    assert [str(mistake) for mistake in caught.value.mistakes] == expected
    assert caught.value.message == "\n".join(expected)


def test_all_mistakes_of_a_file_are_told_at_once_in_its_order() -> None:
    texts = [text.removeprefix("endpoint_name: diners\n") for text, _ in MISTAKES.values()]
    pieces = [text for text in texts if text.startswith(("holdback: 30%", "bake: 90s", "min_requests: 1k", "runbook:"))]
    assert len(pieces) == 4

    with pytest.raises(PolicyError) as caught:
        parse_policy("".join(pieces), file="p.yaml")

    told = caught.value.mistakes
    assert [mistake.path for mistake in told] == ["endpoint_name", "runbook", "bake", "min_requests", "holdback"]
    assert [mistake.line for mistake in told] == [1, 1, 2, 3, 4]


def test_of_very_many_mistakes_the_first_are_told_and_how_many_follow() -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy("endpoint_name: diners\n" + "".join(f"field_{at}: 1\n" for at in range(250)), file="p.yaml")

    assert len(caught.value.mistakes) == 101
    assert str(caught.value.mistakes[-1]) == "p.yaml:102:1: and 150 more mistakes from here on"


def test_what_the_defaults_of_the_settings_get_wrong_is_told_as_theirs() -> None:
    defaults = {"holdback": "50%", "checks": {"error_rate": {"max": 0.05}}}

    with pytest.raises(PolicyError) as caught:
        parse_policy("endpoint_name: diners\nchecks: {client_errors: off}\n", file="p.yaml", defaults=defaults)

    assert [str(mistake) for mistake in caught.value.mistakes] == [
        "p.yaml:1:1: holdback: 50% is out of range: write a whole percent between 0% and 20% (this comes from `defaults` in the settings)",
        "p.yaml:2:9: checks.error_rate.max: 0.05 has no unit: write 5% (this comes from `defaults` in the settings)",
    ]
