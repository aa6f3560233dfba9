"""Parts of the commands that talk to Azure themselves: progress, waiting, remedies, shares, explained answers."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ServiceRequestError

from rollout.azure.remedies import told, why_failed
from rollout.azure.waiting import Stage, Waiting
from rollout.cli.endpoints import parse_shares
from rollout.cli.inventory import short_id
from rollout.cli.predicting import explained, view
from rollout.cli.progress import Progress
from rollout.cli.terminal import Look
from rollout.errors import PolicyError, RefusedError, UnavailableError
from rollout.ports import Answer


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Hands:
    """A clock that moves when somebody pauses."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


class Told:
    """The answers to the questions how an operation stands, in order; the last one stays."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)

    def operation(self, address: str) -> Any:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def waiting(hands: Hands, *answers: Any) -> Waiting:
    return Waiting(Told(*answers), monotonic=hands, pause=hands.pause, every=5.0)  # type: ignore[arg-type]


def gone() -> HttpResponseError:
    error = HttpResponseError(message="gone")
    error.status_code = 404
    return error


def await_create(wait: Waiting, *states: str | None) -> list[Stage]:
    seen: list[Stage] = []
    left: Iterator[str | None] = iter(states)
    state: Callable[[], str | None] = lambda: next(left)  # noqa: E731
    wait.ended("https://…", doing="Creating blue", failing="create blue", state=state, told=seen.append)
    return seen


# --- waiting


def test_an_operation_is_looked_at_until_it_succeeds() -> None:
    hands = Hands()
    running = {"status": "Updating", "percentComplete": 40}
    seen = await_create(waiting(hands, running, ServiceRequestError("no line"), running, {"status": "Succeeded"}))
    assert [stage.percent for stage in seen] == [40, 40, None]
    assert hands.now == 115.0, "three pauses of five seconds; a look that failed is none"


def test_an_operation_that_fails_tells_why_and_what_to_do() -> None:
    error = {"code": "ImageBuildFailure", "message": "Image build failed.", "details": [{"message": "no such package"}]}
    with pytest.raises(RefusedError) as caught:
        await_create(waiting(Hands(), {"status": "Failed", "error": error}))
    assert caught.value.message == (
        "Cannot create blue: ImageBuildFailure: Image build failed; no such package. "
        "environment: correct the environment's image or conda file."
    )


def test_where_the_address_is_gone_the_resource_tells() -> None:
    assert len(await_create(waiting(Hands(), gone()), "Creating", "Succeeded")) == 2
    with pytest.raises(RefusedError, match="Azure says Failed, and no longer why"):
        await_create(waiting(Hands(), gone()), "Creating", "Failed")
    await_create(waiting(Hands(), gone()), None)


def test_waiting_ends_after_an_hour_and_when_azure_is_silent() -> None:
    hands = Hands()
    with pytest.raises(
        UnavailableError, match=r"Creating blue has not ended after 60 minutes\. Run the command again\."
    ):
        await_create(waiting(hands, {"status": "Updating"}))
    assert 3600 <= hands.now - 100 <= 3610
    with pytest.raises(UnavailableError, match="Azure does not say how far it is"):
        await_create(waiting(Hands(), ServiceRequestError("no line")))


# --- progress


def test_on_a_terminal_one_line_is_drawn_again_and_goes_away() -> None:
    stream, hands = Terminal(), Hands()
    progress = Progress(stream, monotonic=hands, look=Look(width=60))
    progress.tell(Stage(doing="Creating deployment green"))
    hands.pause(130)
    progress.tell(Stage(doing="Creating deployment green", percent=30))
    progress.clear()
    assert "\n" not in stream.getvalue()
    assert stream.getvalue().split("\r\x1b[K") == [
        "",
        "Creating deployment green …",
        "Creating deployment green …, 30 %, 2 min",
        "",
    ]
    progress.tell(Stage(doing="x" * 100))
    assert max(len(part) for part in stream.getvalue().split("\r\x1b[K")) < 60


def test_in_a_pipe_a_line_comes_with_each_stage_and_now_and_then() -> None:
    stream, hands = io.StringIO(), Hands()
    progress = Progress(stream, monotonic=hands, look=Look())
    for _ in range(13):
        progress.tell(Stage(doing="Creating blue"))
        hands.pause(10)
    progress.tell(Stage(doing="Setting the traffic"))
    progress.clear()
    assert stream.getvalue().splitlines() == [
        "Creating blue …",
        "Creating blue …, 60 s",
        "Creating blue …, 2 min",
        "Setting the traffic …",
    ]


# --- remedies


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ("BadRequest VmSize: Not enough quota available for Standard_F4s_v2 in SubscriptionId x.", "instance_type"),
        ("OutOfQuota: the quota is used up", "instance_type"),
        ("There is already an endpoint with this name, Endpoint name needs to be unique within a region.", "name"),
        ("ImageBuildFailure: see the build log", "environment"),
        ("Asset '/subscriptions/s/…/models/m/versions/9' does not exist", "model"),
        ("Asset '/subscriptions/s/…/environments/m/versions/9' does not exist", "environment"),
        ("requestTimeout must be at most 180 s", "request_settings"),
        ("Compute 'x' is not attached to the workspace", "compute"),
        ("sku.capacity must be a whole number from 1 to 50", "instance_count"),
    ],
)
def test_azures_words_lead_to_the_field(said: str, field: str) -> None:
    assert told(said).startswith(f" {field}: ")


def test_words_that_nobody_knows_have_no_remedy() -> None:
    assert told("SomethingNew: it did not work") == ""
    assert (
        why_failed({"status": "Failed"}, doing="create blue").message
        == "Cannot create blue: Failed: Azure gave no reason."
    )


# --- words


def test_shares_are_written_as_az_takes_them() -> None:
    assert parse_shares(["blue=90", "green=10"]) == parse_shares(["blue=90 green=10%"]) == {"blue": 90, "green": 10}
    assert parse_shares(["blue=0"]) == {"blue": 0}


@pytest.mark.parametrize(
    ("words", "said"), [(["blue"], "blue is no share"), (["blue=50"], "add up to 50 %"), (["blue=-5"], "no share")]
)
def test_a_wrong_share_is_told(words: list[str], said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        parse_shares(words)


def test_ids_are_shown_short() -> None:
    assert short_id("/subscriptions/s/…/models/stars/versions/2") == "stars:2"
    assert short_id("azureml://registries/r/models/stars/versions/1") == "stars:1"
    assert short_id(None) == "-"
    assert len(short_id(f"/…/models/{'a' * 64}/versions/1")) == 19


# --- predictions


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(status=401, cls="4xx", milliseconds=3, why="401"), "The key or token was refused"),
        (Answer(status=408, cls="timeout", milliseconds=3, deployment="blue", why="408"), "longer than its request_timeout_ms"),
        (Answer(status=429, cls="throttled", milliseconds=3, deployment="blue", why="429"), "Too many requests are pending"),
        (
            Answer(status=424, cls="model_5xx", milliseconds=3, deployment="blue", why="424, the model answered 500: oh"),
            "the model answered 500: oh. The model failed: see rollout deployment logs -n shop -d blue.",
        ),
        (
            Answer(status=424, cls="model_4xx", milliseconds=3, why="424, the model answered 400", body=b"no\n column x"),
            'Endpoint shop answered 424, the model answered 400 ("no column x"). The model refused the request',
        ),
        (Answer(status=None, cls="timeout", milliseconds=3, why="no answer within 60 s"), "Endpoint shop did not answer: no"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_answer_is_explained(answer: Answer, words: str) -> None:
    assert words in explained(answer, "shop", None)


def test_an_answer_is_shown_whole() -> None:
    good = Answer(status=200, cls="ok", milliseconds=12.345, deployment="blue", body=b"[1]")
    assert explained(good, "shop", None) == ""
    shown = {"status": 200, "deployment": "blue", "milliseconds": 12.3, "answer": [1], "problem": None}
    assert view(good, "") == shown
    assert view(Answer(status=200, cls="ok", milliseconds=1, body=b"plain"), "")["answer"] == "plain"
