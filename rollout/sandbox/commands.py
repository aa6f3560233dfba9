"""`rollout sandbox`: run a local Azure, send it load, inject faults, see what it does.

The rule: thin, and light until something runs: the server and the load are imported inside their commands. What is
wrong leaves as a RolloutError; whoever called says it.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from rollout.errors import SettingsError
from rollout.sandbox.faults import ArmKind, MonitorKind, ServingKind
from rollout.sandbox.local import STATE, ask, read_values

if TYPE_CHECKING:
    from rollout.sandbox.server import Sandbox

MAX_SPEED = 3_600.0
KINDS = (
    *(each.replace("_", "-") for each in get_args(ServingKind)),
    *(f"arm-{each.replace('_', '-')}" for each in get_args(ArmKind)),
    *(f"monitor-{each}" for each in get_args(MonitorKind)),
)
FAULT_WORDS = (
    ("factor", "{:g} times as slow", 1.0),
    ("extra_ms", "{:g} ms more", 0.0),
    ("minutes", "{:g} minutes", 0.0),
    ("status", "status {}", None),
    ("retry_after", "Retry-After {:g} s", None),
    ("count", "{} times more", None),
)

app = typer.Typer(
    name="sandbox",
    help="A local Azure for rehearsals: the real SDKs, real predictions, injected faults.",
    epilog="Without a command it starts, as with `start`.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


class Output(StrEnum):
    """How a command prints."""

    TABLE = "table"
    JSON = "json"


class Spacing(StrEnum):
    """How requests follow each other."""

    POISSON = "poisson"
    EVEN = "even"


Speed = Annotated[
    float,
    typer.Option("--speed", min=0.1, max=MAX_SPEED, help="How fast its clock runs; 60: a minute is a second."),
]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="The port on 127.0.0.1; 0: any free one.")]
State = Annotated[Path, typer.Option("--state", help="The folder of sandbox.json, certificate and client secret.")]
Seed = Annotated[
    bool,
    typer.Option("--seed/--no-seed", help="Begin with the sample endpoint, its deployment blue at 100 %."),
]
Format = Annotated[Output, typer.Option("-o", "--output", help="How to print.")]


@app.callback(invoke_without_command=True)
def begin(context: typer.Context, speed: Speed = 1.0, port: Port = 0, state: State = STATE, seed: Seed = True) -> None:
    """A local Azure for rehearsals: the real SDKs, real predictions, injected faults."""
    if context.invoked_subcommand is None:
        _run(speed=speed, port=port, state=state, seed=seed)


@app.command()
def start(speed: Speed = 1.0, port: Port = 0, state: State = STATE, seed: Seed = True) -> None:
    """Run the sandbox until Ctrl-C or SIGTERM. Its endpoints are gone when it ends."""
    _run(speed=speed, port=port, state=state, seed=seed)


@app.command()
def status(state: State = STATE, output: Format = Output.TABLE) -> None:
    """Show its clock, endpoints, requests so far and active faults."""
    told = ask(read_values(state), "GET", "status")
    print(json.dumps(told, indent=2) if output is Output.JSON else _status_text(told))


@app.command()
def load(
    *,
    rps: Annotated[float, typer.Option("--rps", help="Requests a second, real time.")] = 20.0,
    duration: Annotated[str, typer.Option("--duration", help="How long, real time: 90s, 10m, 1h30m.")] = "1m",
    endpoint: Annotated[str | None, typer.Option("-n", "--endpoint", help="Else the sample endpoint.")] = None,
    deployment: Annotated[
        str | None, typer.Option("-d", "--deployment", help="Ask this deployment, past the split.")
    ] = None,
    requests: Annotated[
        Path | None, typer.Option("--requests", help="Bodies: a .json document, or .jsonl with one a line.")
    ] = None,
    spacing: Annotated[Spacing, typer.Option("--spacing", help="How requests follow each other.")] = Spacing.POISSON,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help="The endpoint's key; else it is asked for.")
    ] = None,
    state: State = STATE,
    output: Format = Output.TABLE,
) -> None:
    """Send real predictions at a set rate, and say what came back."""
    values, seconds = read_values(state), _seconds(duration, "--duration")
    from rollout.sandbox.load import ENDPOINT, LoadOptions, read_bodies, report, send

    seen = send(
        LoadOptions(
            sandbox=values,
            endpoint=endpoint or ENDPOINT,
            rps=rps,
            seconds=seconds,
            spacing="even" if spacing is Spacing.EVEN else "poisson",
            bodies=read_bodies(requests) if requests else (),
            deployment=deployment,
            key=_read_key(key_file),
        )
    )
    print(json.dumps(seen.dump(), indent=2) if output is Output.JSON else report(seen))


@app.command()
def deploy(
    file: Annotated[Path, typer.Argument(help="A deployment in `az ml` format.", exists=True)],
    state: State = STATE,
) -> None:
    """Create or update a deployment with the Azure ML SDK.

    Waits until it is ready. It gets no traffic.
    """
    values = read_values(state)
    from rollout.sandbox.deploy import deploy as deployed

    print(f"{deployed(values, file)} is ready.")


INJECT_EPILOG = f"Kinds: {', '.join(KINDS)}. Times are of the sandbox's clock."


@app.command(epilog=INJECT_EPILOG)
def inject(
    *,
    kind: Annotated[str, typer.Argument(help="What goes wrong: see below.", show_default=False)],
    deployment: Annotated[str | None, typer.Option("-d", "--deployment", help="Else all: a shared incident.")] = None,
    endpoint: Annotated[str | None, typer.Option("-n", "--endpoint", help="Else all.")] = None,
    share: Annotated[str | None, typer.Option("--share", help="Of the requests: 7%.")] = None,
    factor: Annotated[float | None, typer.Option("--factor", help="latency: times as slow.")] = None,
    extra_ms: Annotated[
        float | None, typer.Option("--extra-ms", help="Slower by this; leak: more each minute.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="crash: down; cold-start: lasts; monitor-delay: later.")
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", help="arm: reads, writes, polls, tokens, all; monitor: logs, metrics, all.")
    ] = None,
    status: Annotated[int | None, typer.Option("--status", help="arm-error, monitor-error: 500, 502, 503.")] = None,
    retry_after: Annotated[
        float | None, typer.Option("--retry-after", help="throttle: seconds it names; else none.")
    ] = None,
    count: Annotated[int | None, typer.Option("--count", help="So many times; else until it is cleared.")] = None,
    lasts: Annotated[str | None, typer.Option("--for", help="So long: 90s, 10m, 1h30m.")] = None,
    state: State = STATE,
    output: Format = Output.TABLE,
) -> None:
    """Let something go wrong on purpose."""
    plane, name = _plane(kind)
    given: dict[str, Any] = {
        "deployment": deployment,
        "endpoint": endpoint,
        "share": None if share is None else _share(share),
        "factor": factor,
        "extra_ms": extra_ms,
        "minutes": minutes,
        "on": on,
        "status": status,
        "retry_after": retry_after,
        "count": count,
        "for_minutes": None if lasts is None else _seconds(lasts, "--for") / 60,
    }
    body = {"plane": plane, "kind": name, **{key: value for key, value in given.items() if value is not None}}
    told = ask(read_values(state), "POST", "faults", body)
    print(json.dumps(told, indent=2) if output is Output.JSON else f"Injected: {_fault_text(told)}")


@app.command()
def faults(state: State = STATE, output: Format = Output.TABLE) -> None:
    """List the active faults."""
    told = ask(read_values(state), "GET", "faults")
    if output is Output.JSON:
        print(json.dumps(told, indent=2))
    else:
        print("\n".join(_fault_text(each) for each in told) or "No fault is active.")


@app.command()
def clear(
    number: Annotated[int | None, typer.Argument(help="The fault's number; else all.", show_default=False)] = None,
    state: State = STATE,
) -> None:
    """End one fault, or all."""
    told = ask(read_values(state), "DELETE", "faults" if number is None else f"faults/{number}")
    ended = told["ended"]
    print("No fault was active." if not ended else "Ended 1 fault." if ended == 1 else f"Ended {ended} faults.")


def _run(*, speed: float, port: int, state: Path, seed: bool) -> None:
    import asyncio

    from rollout.sandbox.server import Options, serve

    def started(sandbox: "Sandbox") -> None:
        print(_started_text(sandbox, state=state), flush=True)

    asyncio.run(serve(Options(state=state, speed=speed, port=port, seed=seed), started=started))


def _started_text(sandbox: "Sandbox", *, state: Path) -> str:
    speed = float(sandbox.values["speed"])
    pace = "real time" if speed == 1 else f"speed {speed:g}: a minute of its clock takes {60 / speed:.3g} s"
    elsewhere = "" if state == STATE else f" --state {state}"
    lines = [f"Sandbox at {sandbox.values['address']}, {pace}."]
    for endpoint in sandbox.cloud.endpoints():
        traffic = ", ".join(f"{name} {share} %" for name, share in endpoint.spec.traffic.items())
        lines.append(f"Endpoint {endpoint.name} is there, traffic {traffic}.")
    lines += [
        "",
        "In rollout.yaml:",
        f"  cloud: {{sandbox: {state / 'sandbox.json'}}}",
        "From another terminal:",
        f"  rollout sandbox load --rps 20{elsewhere}",
        f"  rollout sandbox inject errors --deployment green --share 7%{elsewhere}",
        "",
        "Ctrl-C ends it.",
    ]
    return "\n".join(lines)


def _status_text(told: Mapping[str, Any]) -> str:
    now = datetime.fromisoformat(told["now"])
    lines = [f"Its clock reads {now:%Y-%m-%d %H:%M:%S} UTC, speed {told['speed']:g}."]
    for endpoint in told["endpoints"]:
        traffic = ", ".join(f"{name} {share} %" for name, share in endpoint["traffic"].items()) or "none"
        lines.append(f"\n{endpoint['name']}: {endpoint['state']}, traffic {traffic}")
        counts = told["requests"].get(endpoint["name"], {})
        for each in endpoint["deployments"]:
            seen = counts.get(each["name"], {})
            lines.append(
                f"  {each['name']:<16} {each['state']:<10} {seen.get('requests', 0):>8} requests, "
                f"{seen.get('bad', 0)} bad, {seen.get('client_errors', 0)} client errors"
            )
    lines.append("\nFaults:" if told["faults"] else "\nNo fault is active.")
    lines += [f"  {_fault_text(each)}" for each in told["faults"]]
    return "\n".join(lines)


def _fault_text(fault: Mapping[str, Any]) -> str:
    """One fault in one line: `3: errors, deployment green, share 7 %, until 09:12:31 on its clock`."""
    serving = fault["plane"] == "serving"
    prefix = "" if serving else f"{fault['plane']}-"
    parts = [f"{fault['id']}: {prefix}{fault['kind'].replace('_', '-')}"]
    if fault.get("endpoint", "*") != "*":
        parts.append(f"endpoint {fault['endpoint']}")
    if serving:
        parts.append("every deployment" if fault["deployment"] == "*" else f"deployment {fault['deployment']}")
    else:
        parts.append(f"on {fault['on']}")
    parts += [
        words.format(fault[key])
        for key, words, neutral in FAULT_WORDS
        if fault.get(key) is not None and fault[key] != neutral and (key != "status" or fault["kind"] == "error")
    ]
    if "share" in fault and fault["share"] != 1.0:
        parts.append(f"share {100 * fault['share']:g} %")
    if "until" in fault:
        parts.append(f"until {datetime.fromisoformat(fault['until']):%H:%M:%S} on its clock")
    return ", ".join(parts)


def _plane(kind: str) -> tuple[str, str]:
    """Plane and kind as the sandbox's own address calls them. Raises SettingsError with the nearest kinds."""
    if kind not in KINDS:
        near = get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(KINDS)}."
        raise SettingsError(f"Fault {kind} is unknown: {hint}")
    plane, _, name = kind.partition("-")
    if plane in ("arm", "monitor"):
        return plane, name.replace("-", "_")
    return "serving", kind.replace("-", "_")


def _share(text: str) -> float:
    """`7%` or `0.07` as a fraction."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text)
    if match is None:
        raise SettingsError(f"--share {text}: write a percentage such as 7%.")
    return float(match[1]) / (100 if match[2] else 1)


def _seconds(text: str, option: str) -> float:
    """Seconds of `90s`, `10m`, `1h30m`, `1d`."""
    units = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
    if not re.fullmatch(r"(\d+(?:\.\d+)?[dhms])+", text):
        raise SettingsError(f"{option} {text}: write a time such as 90s, 10m or 1h30m.")
    return sum(float(number) * units[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)([dhms])", text))


def _read_key(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{file}: the key cannot be read ({error.strerror}).") from None
