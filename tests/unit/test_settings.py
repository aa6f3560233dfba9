"""Settings: what a daemon is told, what the environment overrides, and that no secret stands or is repeated in them."""
# ruff: noqa: E501 - a message stays on one line, as people read it

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.errors import Mistake, SettingsError
from rollout.policy import parse_policy
from rollout.settings import Settings, Workspace, parse_settings, with_sandbox

ID = "11111111-2222-3333-4444-555555555555"
PROD = f"{{subscription_id: {ID}, resource_group: rg-food, workspace_name: mlw-food, region: West Europe, log_workspace: {ID}}}"
EVERYTHING = f"""
cloud: AzureChinaCloud
credential: {{type: client_secret, tenant_id: {ID}, client_id: {ID}, secret_env: AZURE_CLIENT_SECRET}}
workspaces:
  prod: {PROD}
store: sqlite:///state/rollout.db
policies: ./our-policies
api: {{listen: "127.0.0.1:9000", token_file: /run/rollout/token}}
channels:
  team-ml: {{url_env: TEAM_ML_URL, severity: [action, page], template: teams.json}}
  file: {{url_file: secrets/team}}
  all: {{webhook: "https://hooks.example/rollouts", secret_env: HOOK_SECRET}}
polling: {{endpoints: 10s, logs: 2m, metrics: 1m, lag: 5m}}
defaults: {{holdback: 10%, checks: {{error_rate: {{max_increase: 0.2pp}}}}}}
"""
SANDBOX = {
    "address": "https://127.0.0.1:4443",
    "ca_file": "ca.pem",
    "tenant_id": ID,
    "client_id": ID,
    "client_secret_file": ".rollout/sandbox/secret",
    "subscription_id": ID,
    "resource_group": "rg-sandbox",
    "workspace_name": "mlw-sandbox",
    "region": "westeurope",
    "log_workspace": ID,
}


def parse(text: str, **environ: str) -> Settings:
    return parse_settings(text, file="r.yaml", environ=environ)


def told(text: str, **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse(text, **environ)
    return [str(mistake) for mistake in caught.value.mistakes]


def test_everything_that_can_be_written() -> None:
    found = parse(EVERYTHING)

    assert (found.cloud.name, found.cloud.sandbox) == ("AzureChinaCloud", None)
    assert (found.credential.type, found.credential.secret_env) == ("client_secret", "AZURE_CLIENT_SECRET")
    assert found.workspaces == {
        "prod": Workspace(
            subscription_id=ID,
            resource_group="rg-food",
            workspace_name="mlw-food",
            region="westeurope",
            log_workspace=ID,
        )
    }
    assert found.workspaces["prod"].metrics == "batch"
    assert (found.store, found.policies) == ("sqlite:///state/rollout.db", "./our-policies")
    assert (found.api.host, found.api.port, found.api.token_file) == ("127.0.0.1", 9000, "/run/rollout/token")
    assert found.channels["team-ml"].severity == ("action", "page")
    assert found.channels["team-ml"].template == "teams.json"
    assert found.channels["file"].url_file == "secrets/team"
    assert found.channels["all"].severity == ("notice", "action", "page")
    assert (found.channels["all"].webhook, found.channels["all"].secret_env) == (
        "https://hooks.example/rollouts",
        "HOOK_SECRET",
    )
    seconds = [found.polling.endpoints.seconds, found.polling.logs.seconds, found.polling.metrics.seconds]
    assert (seconds, found.polling.lag) == ([10, 120, 60], timedelta(minutes=5))


def test_little_is_enough() -> None:
    found = parse(f"workspaces: {{prod: {PROD}}}\n")

    assert (found.cloud.name, found.credential.type, found.store) == ("AzureCloud", "default", "sqlite:///rollout.db")
    assert (found.policies, found.api.host, found.api.port) == ("./policies", "127.0.0.1", 8123)
    seconds = [found.polling.endpoints.seconds, found.polling.logs.seconds, found.polling.metrics.seconds]
    assert (seconds, found.polling.lag, found.channels, found.defaults) == ([15, 60, 30], None, {}, {})


def test_defaults_are_fields_of_policies() -> None:
    defaults = parse(EVERYTHING).defaults

    policy = parse_policy("endpoint_name: diners\n", file="p.yaml", defaults=defaults)

    assert policy.holdback == 10
    assert policy.checks.error_rate is not None
    assert policy.checks.error_rate.max_increase == 0.002


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        (
            "ROLLOUT_STORE",
            "sqlite:////var/lib/rollout.db",
            lambda found: found.store == "sqlite:////var/lib/rollout.db",
        ),
        ("ROLLOUT_API__LISTEN", "[::1]:0", lambda found: (found.api.host, found.api.port) == ("::1", 0)),
        ("ROLLOUT_POLLING__LAG", "auto", lambda found: found.polling.lag is None),
        ("ROLLOUT_CHANNELS__ALL__SEVERITY", "[page]", lambda found: found.channels["all"].severity == ("page",)),
        ("ROLLOUT_CLOUD", "{sandbox: s.json}", lambda found: found.cloud.sandbox == "s.json"),
        ("ROLLOUT_CLOUD__SANDBOX", "s.json", lambda found: found.cloud.sandbox == "s.json"),
        ("ROLLOUT_DEFAULTS__HOLDBACK", "0%", lambda found: found.defaults["holdback"] == "0%"),
        ("ROLLOUT_TEAM_URL", "[not ours", lambda found: found == parse(EVERYTHING)),
        ("STORE", "sqlite:///x.db", lambda found: found == parse(EVERYTHING)),
    ],
)
def test_the_environment_wins(name: str, value: str, read: Any) -> None:
    assert read(parse(EVERYTHING, **{name: value}))


def test_the_environment_is_enough() -> None:
    found = parse("", ROLLOUT_CLOUD__SANDBOX="s.json", ROLLOUT_API__LISTEN="127.0.0.1:0")

    assert (found.cloud.name, found.cloud.sandbox, found.api.port) == ("sandbox", "s.json", 0)


def test_mistakes_in_the_environment_name_the_variable() -> None:
    variables = {"ROLLOUT_API__PORT": "5", "ROLLOUT_CHANNELS": "[", "ROLLOUT_POLLING__LOGS": "3", "ROLLOUT_STORE": ""}

    assert told("cloud: {sandbox: s.json}\nstroe: x\n", **variables) == [
        "ROLLOUT_API__PORT (environment):1:1: api.port: there is no such field here; those that are: listen, token_file",
        'ROLLOUT_CHANNELS (environment):1:1: channels: "[" cannot stand here: write fields below it',
        "ROLLOUT_POLLING__LOGS (environment):1:1: polling.logs: 3 is not a duration: it has no unit; write 3m for minutes or 3s for seconds",
        "ROLLOUT_STORE (environment):1:1: store: is empty: write a value, or take the line out",
        "r.yaml:2:1: stroe: there is no such field; did you mean `store`?",
    ]


SECRET = "hunter2abc"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "r.yaml:1:1: workspaces: names no workspace: write at least one below it, such as `prod: {subscription_id: …}`"),
        ("- a\n", "r.yaml:1:1: settings are made of fields: write `cloud: …`"),
        ("cloud: AzureClod\n", "r.yaml:1:8: cloud.name: \"AzureClod\" is not one of AzureCloud, AzureChinaCloud, AzureUSGovernment, sandbox; did you mean AzureCloud?"),
        ("cloud: sandbox\n", "r.yaml:1:8: cloud: a sandbox is named by its file: write `cloud: {sandbox: .rollout/sandbox/sandbox.json}`"),
        ("credential: client_secret\n", "r.yaml:1:13: credential: client_secret needs tenant_id and client_id: write them below `credential:`"),
        (f"credential: {{type: client_secret, tenant_id: {ID}, client_id: {ID}}}\n", "r.yaml:1:13: credential: client_secret needs its secret from one place: write `secret_env` or `secret_file`"),
        (f"credential: {{type: client_secret, tenant_id: {ID}, client_id: {ID}, secret: {SECRET}}}\n", "r.yaml:1:133: credential.secret: a secret never stands in this file: keep it in an environment variable or a file, and name where it is with `secret_env` or `secret_file` or `certificate_file`"),
        (f"credential: {{type: managed_identity, client_id: {SECRET}}}\n", f"r.yaml:1:49: credential.client_id: is not an id: write one such as {ID}"),
        (f"workspaces: {{prod: {PROD[:-1]}, metrics: per_resource}}}}\n", "r.yaml:1:210: workspaces.prod.metrics: not yet: metrics of single endpoints; write batch, or none"),
        (f"store: postgresql+psycopg://me:{SECRET}@db/x\n", "r.yaml:1:8: store: not yet: PostgreSQL; write sqlite:///rollout.db"),
        (f"store: mysql://me:{SECRET}@db/x\n", "r.yaml:1:8: store: \"mysql://…\" is not a store: write sqlite:///rollout.db"),
        ("api: {listen: 0.0.0.0:8123}\n", "r.yaml:1:15: api.listen: not yet: \"0.0.0.0:8123\" can be reached from outside; write an address of this machine, 127.0.0.1:8123"),
        ("api: {listen: rollout.example:8123}\n", "r.yaml:1:15: api.listen: not yet: \"rollout.example:8123\" can be reached from outside; write an address of this machine, 127.0.0.1:8123"),
        ("api: {listen: 8123}\n", "r.yaml:1:15: api.listen: 8123 is not text: put it in quotes, \"8123\", if it is meant"),
        (f"api: {{token: {SECRET}}}\n", "r.yaml:1:7: api.token: a secret never stands in this file: keep it in an environment variable or a file, and name where it is with `token_file`"),
        ("channels: {a: {}}\n", "r.yaml:1:15: channels.a: has no single way out: write one of `url_env`, `url_file` and `webhook`"),
        (f"channels: {{a: {{url: https://hooks.slack.com/services/T0/B0/{SECRET}}}}}\n", "r.yaml:1:16: channels.a.url: there is no such field; did you mean `url_env`?"),
        (f"channels: {{a: {{url_env: https://hooks.example/{SECRET}}}}}\n", "r.yaml:1:25: channels.a.url_env: is not the name of an environment variable: write a name such as TEAM_ML_URL"),
        (f"channels: {{a: {{webhook: https://u:{SECRET}@h.example/, secret_env: X}}}}\n", "r.yaml:1:25: channels.a.webhook: this address holds a secret: put all of it in an environment variable, named with `url_env`"),
        (f"channels: {{a: {{webhook: https://hooks.slack.com/services/{SECRET}, secret_env: X}}}}\n", "r.yaml:1:25: channels.a.webhook: this address holds a secret: put all of it in an environment variable, named with `url_env`"),
        (f"channels: {{a: {{webhook: 'https://h.example/?key={SECRET}', secret_env: X}}}}\n", "r.yaml:1:25: channels.a.webhook: this address holds a secret: put all of it in an environment variable, named with `url_env`"),
        (f"channels: {{a: {{webhook: https://h.example/{SECRET}0123456789, secret_env: X}}}}\n", "r.yaml:1:25: channels.a.webhook: this address holds a secret: put all of it in an environment variable, named with `url_env`"),
        ("channels: {a: {webhook: http://h.example/x, secret_env: X}}\n", "r.yaml:1:25: channels.a.webhook: would be sent unencrypted: write https://…"),
        ("channels: {a: {webhook: https://h.example/x}}\n", "r.yaml:1:15: channels.a: a web hook is signed: write one of `secret_env` and `secret_file`"),
        ("channels: {a: {url_env: X, secret_env: Y}}\n", "r.yaml:1:15: channels.a: only a web hook is signed: take `secret_env` out"),
        ("channels: {a: {url_env: X, severity: [pages]}}\n", "r.yaml:1:39: channels.a.severity[0]: \"pages\" is not one of notice, action, page; did you mean page?"),
        ("channels: {a: {url_env: X, severity: []}}\n", "r.yaml:1:38: channels.a.severity: names no severity, so nothing would ever be sent: write [action, page], or take the line out"),
        ("polling: {endpoints: 1s}\n", "r.yaml:1:22: polling.endpoints: 1s is too short: write a duration between 5s and 10m"),
    ],
)  # fmt: skip
def test_who_set_it_up_is_told(text: str, expected: str) -> None:
    extra = f"workspaces: {{prod: {PROD}}}\n" if text.startswith(tuple("csap")) else ""

    lines = told(text + extra)

    assert lines == [expected]
    assert SECRET not in "".join(lines)


def test_a_web_hook_on_this_machine_needs_no_encryption() -> None:
    text = f"workspaces: {{prod: {PROD}}}\nchannels: {{a: {{webhook: 'http://127.0.0.1:5000/x', secret_file: s}}}}\n"

    assert parse(text).channels["a"].webhook == "http://127.0.0.1:5000/x"


def test_a_sandbox_brings_its_own_workspace_and_client() -> None:
    found = with_sandbox(parse("cloud: {sandbox: s.json}\n"), SANDBOX)

    assert list(found.workspaces) == ["sandbox"]
    assert found.workspaces["sandbox"].workspace_name == "mlw-sandbox"
    assert (found.credential.type, found.credential.secret_file) == ("client_secret", ".rollout/sandbox/secret")


def test_what_the_settings_say_of_a_sandbox_stays() -> None:
    text = EVERYTHING.replace("AzureChinaCloud", "{sandbox: s.json}")

    assert with_sandbox(parse(text), SANDBOX) == parse(text)


def test_a_file_that_is_no_sandbox_is_told() -> None:
    with pytest.raises(SettingsError, match=r"s\.json is not of this version of the sandbox"):
        with_sandbox(parse("cloud: {sandbox: s.json}\n"), {**SANDBOX, "log_workspace": "x"})


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_change_gives_settings_or_mistakes(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(EVERYTHING)))
    until = data.draw(st.integers(at, min(at + 10, len(EVERYTHING))))
    text = (
        EVERYTHING[:at]
        + data.draw(st.sampled_from(["null", "{}", "[", "5", "\n", ": ", "- ", "x"]))
        + EVERYTHING[until:]
    )

    mistakes: Sequence[Mistake] = ()
    try:
        parse(text, ROLLOUT_POLLING__LAG=data.draw(st.text(max_size=5)))
    except SettingsError as error:
        mistakes = error.mistakes

    for mistake in mistakes:
        assert "Input should" not in mistake.message
        assert 1 <= mistake.line <= max(len(text.splitlines()), 1)
