"""What a person sees: the status of a rollout, at several widths, with and without colours."""

import io
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.cli import listing, render, words
from rollout.cli.demo.acts import ACTS, UNFINISHED, Played, summary
from rollout.cli.terminal import COLOURS, Look, Screen, cells, fold, look_of, table
from rollout.lifecycle import Phase
from tests.support.views import a_view, an_event_view, finding

NOW = datetime(2026, 11, 22, 14, 20, 40, tzinfo=UTC)
HISTORY = [
    an_event_view("2026-11-22T14:02:00+00:00", "anna asked for a rollout of restaurant-recommender."),
    an_event_view("2026-11-22T14:14:31+00:00", "Retreated from 25 % to 5 % while in doubt.", "notice"),
]

AT_80 = """\
restaurant-recommender  blue → green  ·  workspace prod  ·  policy canary
▶ Progressing  step 2 of 4  since 14:14 (7 min ago)  ·  started 14:02 by anna

Step 1 of 4 passed: errors 0.31 % vs 0.29 % (15 of 4 812 vs 42 of 14 390), p95
84 ms vs 86 ms.

Traffic   blue 75 % + green 25 %  seen 14:20:31
          ██████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░ green 25 %
Steps     ✔ 5 %   ▶ 25 %   ○ 50 % after approval   ○ 100 %
Bake      ████████████░░░░░░░░ 6 of 10 judged minutes
Requests  green 900, blue 2 700 in this step  ·  ~58 harmed
Next      decision 14:26 (in 5 min)
          promoted 15:40 (in 1 h 19 min) if all goes well

  Check         Source                green                blue Allowed Evidence
▼ error_rate    logs      6.8 % (61 of 900) 0.30 % (8 of 2 700) +0.5 pp      3.1
· client_errors logs      0.33 % (3 of 900) 0.30 % (8 of 2 700)   +1 pp      0.2
· latency_p95   logs            84 ms (900)       86 ms (2 700)   +25 %      0.2
· error_rate    metrics 5.1 % (61 of 1 200) 0.22 % (8 of 3 700) +0.5 pp   9 999+
Evidence against the candidate: 20 ends it.
Errors 6.8 % vs 0.30 % (61 of 900 vs 8 of 2 700): evidence 3.1 of 20.

14:02:00  anna asked for a rollout of restaurant-recommender.
14:14:31  Retreated from 25 % to 5 % while in doubt."""


def shown(view: dict, *, width: int = 80, colours: int = 0, unicode: bool = True, history: list | None = None) -> str:
    look = Look(width=width, colours=colours, unicode=unicode)
    return "\n".join(render.status(view, look, zone=UTC, history=history or []))


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_the_whole_picture_at_80_columns() -> None:
    assert shown(a_view(), history=HISTORY).replace("\u2009", " ") == AT_80


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
@pytest.mark.parametrize("colours", [0, 8, 256])
def test_no_line_of_words_is_wider_than_the_terminal(width: int, colours: int) -> None:
    text = shown(a_view(), width=width, colours=colours, history=HISTORY)
    most = max(cells(line) for line in text.splitlines())
    assert most <= max(width, 59)  # the narrowest table of checks


def test_colour_adds_nothing_that_words_do_not_say() -> None:
    assert plain(shown(a_view(), colours=256, history=HISTORY)) == shown(a_view(), history=HISTORY)


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_has_an_icon_and_words(phase: Phase) -> None:
    assert phase.value in render.PHASES
    assert render.PHASES[phase.value][2] in shown(a_view(phase=phase.value, ended=phase.ended))


def test_a_terminal_without_unicode_gets_ascii() -> None:
    text = shown(a_view(), unicode=False, history=HISTORY)
    assert text.isascii()
    assert "?" not in text
    assert "> Progressing" in text


def test_a_split_that_is_not_the_wanted_one_is_shown_beside_it() -> None:
    traffic = {**a_view()["traffic"], "observed": {"blue": 95, "green": 5}, "state": "Updating"}
    text = shown(a_view(traffic=traffic)).replace("\u2009", " ")
    assert "blue 95 % + green 5 %  wanted blue 75 % + green 25 %  Updating, seen 14:20:31" in text


def test_before_anything_was_seen_nothing_is_made_up() -> None:
    nothing = {"wanted": None, "observed": None, "observed_at": None, "state": None}
    text = shown(
        a_view(
            phase="pending",
            started_at=None,
            traffic=nothing,
            checks=[],
            verdict=None,
            requests=None,
            harmed=0.0,
            eta=None,
        )
    )
    assert "Traffic   not seen yet" in text
    assert "Bake" not in text
    assert "Next" not in text


def test_a_check_without_requests_says_so() -> None:
    view = a_view()
    view["checks"][0]["candidate"]["value"] = None
    assert "no requests" in shown(view)


def test_checks_without_any_requests_are_left_out() -> None:
    nothing = (0, 0, None)
    view = a_view(checks=[finding("error_rate", "metrics", "share", nothing, nothing), a_view()["checks"][0]])
    assert "metrics" not in shown(view)
    assert "logs" in shown(view)
    view = a_view(checks=view["checks"][:1])
    assert "No requests of this step were seen yet." in shown(view)
    assert "Evidence" not in shown(view)
    assert "No requests" not in shown(view | {"ended": True, "requests": {"baseline": 0, "candidate": 0}})


def test_while_guarding_a_check_shows_its_own_bound_or_that_it_is_watched() -> None:
    nobody = (0, 0, None)
    checks = [
        finding("error_rate", "probes", "share", (99, 0, 0.0), nobody, role="bound"),
        finding("client_errors", "probes", "share", (99, 0, 0.0), nobody, role="bound", maximum=0.02),
        finding("latency_p95", "probes", "ms", (99, 0, 22.3), nobody, role="bound", maximum=800),
        finding("latency_p50", "probes", "ms", (99, 0, 12.3), nobody, role="alert"),
    ]
    text = shown(a_view(phase="guarding", checks=checks)).replace("\u2009", " ")
    rows = [line.split() for line in text.splitlines() if line.startswith("·")]
    assert [row[-1] for row in rows] == ["watched", "only", "only", "alert"]
    assert "≤ 2.0 %" in text
    assert "≤ 800 ms" in text
    assert "ends it" not in shown(a_view(phase="succeeded", ended=True, checks=checks))


def test_mirror_steps_stand_before_the_live_ones() -> None:
    steps = [{"mirror_traffic": 10, "bake_minutes": 5, "state": "done"}]
    steps += [{"mirror_traffic": 30, "bake_minutes": 5, "state": "now"}]
    text = shown(a_view(mirror_steps=steps)).replace("\u2009", " ")
    assert "\nSteps     ✔ mirror 10 %   ▶ mirror 30 %   ✔ 5 %   ▶ 25 %" in text


def test_sizes_that_are_too_wide_stand_below_each_other() -> None:
    sizes = {"baseline": {"count": 2, "per_minute": 4105.5}, "candidate": {"count": 3, "per_minute": 3333.3}}
    narrow, wide = shown(a_view(instances=sizes)), shown(a_view(instances=sizes), width=120)
    assert max(map(cells, narrow.splitlines())) <= 80
    assert [line for line in narrow.splitlines() if "requests a minute each" in line] == [
        "Instances blue 2 (4105.5 requests a minute each)",
        "          green 3 (3333.3 requests a minute each)",
    ]
    assert wide.count("requests a minute each") == 2
    assert sum("requests a minute each" in line for line in wide.splitlines()) == 1


def test_checks_show_what_part_they_take() -> None:
    ms, own = (990, 40, 123.0), "recommendations_without_any_dish"
    checks = [
        finding("error_rate", "logs", "share", (900, 61, 61 / 900), (2700, 8, 8 / 2700)),
        finding("latency_p50", "logs", "ms", ms, ms, role="dry_run", evidence=99.0),
        finding("latency_p95", "metrics", "ms", (9, 0, 880.0), (9, 0, 490.0), role="bound", maximum=800, action="fail"),
        finding("answer_size", "logs", "bytes", (990, 0, 292.0), (8910, 0, 14_000.0), role="alert", alert=True),
        finding(own, "custom", "share", (1000, 10, 0.01), (9000, 90, 0.01), margin=0.01),
    ]
    verdict = a_view()["verdict"] | {"notes": ["The probes show nothing of this step."]}
    text = shown(a_view(checks=checks, verdict=verdict)).replace("\u2009", " ")
    assert [line for line in text.splitlines() if line[:1] in set("·✖!") or " Check " in line] == [
        "  Check              Source                green                blue Evidence",
        "· error_rate         logs      6.8 % (61 of 900) 0.30 % (8 of 2 700)      0.2",
        "· latency_p50        logs           123 ms (990)        123 ms (990)  dry run",
        "✖ latency_p95        metrics      880 ms (9 min)      490 ms (9 min) max only",
        "! answer_size        logs            292 B (990)       14 kB (8 910)    alert",
        "· recommendations_w… custom  1.0 % (10 of 1 000) 1.0 % (90 of 9 000)      0.2",
    ]
    assert "The probes show nothing of this step." in text
    wide = shown(a_view(checks=checks, verdict=verdict), width=120).replace("\u2009", " ")
    assert re.findall(r"(\+0.5 pp|≤ 800 ms|×2|\+25 %)", wide) == ["+0.5 pp", "+25 %", "≤ 800 ms", "×2"]


@pytest.mark.parametrize(
    ("size", "told"),
    [(0, "0 B"), (412.4, "412 B"), (999.4, "999 B"), (1400, "1.4 kB"), (14_000, "14 kB"), (2.34e6, "2.3 MB")],
)
def test_sizes_in_words(size: float, told: str) -> None:
    assert words.size(size).replace("\u2009", " ") == told


def test_an_ended_rollout_has_no_next() -> None:
    text = shown(a_view(phase="succeeded", ended=True, outcome="promoted"))
    assert "✔ Promoted" in text
    assert "Next" not in text


def test_the_clock_of_a_sandbox_is_named() -> None:
    assert "clock × 60" in shown(a_view(clock={"now": "2026-11-22T14:20:40+00:00", "speed": 60.0}))


def test_a_demo_that_did_not_end_as_it_should_says_what_may_be_why() -> None:
    unfinished = Played(act=ACTS[0], outcome=UNFINISHED, minutes=151, real_seconds=151)
    lines = [line.replace("\u2009", " ") for line in summary([unfinished], 275, Look(width=80))]
    assert "Version 2: not finished after 151 minutes of the rollout's clock (151 s)" in lines
    assert "NOT as it should be: 275 s, 0 alerts received." in lines
    assert lines[-1].endswith("when it is less busy.")


def test_the_policies_fit_80_columns() -> None:
    one = {"name": "restaurant-recommender", "endpoint": "restaurant-recommender", "workspace": None, "mistakes": []}
    files = [one | {"file": f"/srv/rollout/policies/of/the/team/{name}.yaml"} for name in ("canary", "two-lines")]
    lines = listing.policies(files, Look(width=80))
    assert max(map(cells, lines)) <= 80
    assert "two-lines.yaml" in lines[2]
    assert "/srv/rollout/policies/of/the/team/canary.yaml" in listing.policies(files, Look(width=140))[1]


def test_the_list_fits_80_columns_and_shows_what_matters() -> None:
    lines = listing.overview([a_view(), a_view(phase="rolled_back", ended=True)], Look(width=80))
    assert max(cells(line) for line in lines) <= 80
    assert "▶ Progressing" in lines[1]
    assert "2/4" in lines[1]
    assert listing.overview([], Look()) == ["No rollouts yet. Start one with: rollout start POLICY"]


def test_alerts_show_what_failed() -> None:
    one = {
        "at": "2026-11-22T14:20:31+00:00",
        "channel": "team-ml",
        "state": "dead",
        "severity": "action",
        "attempts": 1,
        "sentence": "Rolled back.",
        "error": "410 Gone",
    }
    assert listing.deliveries([one], Look(), now=NOW, zone=UTC) == [
        "14:20:31  team-ml  dead  action, 1 attempt",
        "  Rolled back.",
        "  410 Gone",
    ]


# --- colours that read on any ground


def luminance(index: int) -> float:
    if index >= 232:
        level = 8 + 10 * (index - 232)
        channels = [level] * 3
    else:
        steps = (0, 95, 135, 175, 215, 255)
        number = index - 16
        channels = [steps[number // 36], steps[number // 6 % 6], steps[number % 6]]
    linear = [(c / 255 / 12.92) if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("name", list(COLOURS))
def test_every_colour_reads_on_black_and_on_white(name: str) -> None:
    """Contrast as WCAG 2.2 has it: 3 : 1 is wanted of large text and signs."""
    shade = luminance(COLOURS[name])
    assert (shade + 0.05) / 0.05 >= 3.5
    assert 1.05 / (shade + 0.05) >= 3.5


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "terminal", "colours"),
    [
        ({"TERM": "xterm-256color"}, True, 256),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, True, 256),
        ({"TERM": "xterm"}, True, 8),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, True, 0),
        ({"TERM": "dumb"}, True, 0),
        ({"TERM": "xterm-256color"}, False, 0),
        ({"TERM": "xterm-256color", "FORCE_COLOR": "1"}, False, 256),
    ],
)
def test_colours_follow_the_terminal(environ: dict[str, str], terminal: bool, colours: int) -> None:
    stream = Terminal() if terminal else io.StringIO()
    assert look_of(stream, environ, width=80).colours == colours


# --- the small parts


def test_a_screen_draws_over_itself_and_a_pipe_gets_each_change_once() -> None:
    terminal = Terminal()
    screen = Screen(terminal)
    screen.draw(["one", "two"])
    screen.draw(["three"])
    assert terminal.getvalue() == "one\x1b[K\ntwo\x1b[K\n\x1b[J\x1b[2Fthree\x1b[K\n\x1b[J"
    pipe = io.StringIO()
    screen = Screen(pipe)
    for _ in range(3):
        screen.draw(["one"])
    screen.draw(["two"])
    assert pipe.getvalue() == "one\n\ntwo\n"


@given(st.text(alphabet="ab \x1b", max_size=200), st.integers(5, 40))
def test_folding_loses_no_word(text: str, width: int) -> None:
    lines = fold(text, width, indent="")
    assert " ".join(lines).split() == text.split()
    assert all(cells(line) <= width or " " not in line.strip() for line in lines)


def test_a_number_keeps_its_unit() -> None:
    assert fold("now at 50 % of it", 10) == ["now at", "50 % of it"]
    assert fold("took 120 ms, 3 so", 9) == ["took", "120 ms, 3", "so"]


def test_a_table_aligns_what_is_painted() -> None:
    look = Look(colours=256)
    lines = table([[look.paint("a", "good"), "1"], ["bbb", "22"]], right=frozenset({1}))
    assert [plain(line) for line in lines] == ["a     1", "bbb  22"]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (90, "90 s"),
        (150, "2 min"),
        (3599, "1 h"),
        (5400, "1 h 30 min"),
        (86400, "1 d"),
        (100_000, "1 d 4 h"),
    ],
)
def test_durations_in_words(seconds: float, told: str) -> None:
    assert words.duration(seconds) == told


def test_times_of_another_day_carry_their_date() -> None:
    assert words.clock_time(NOW, today=NOW, zone=UTC) == "14:20"
    assert words.clock_time(NOW - timedelta(days=1), today=NOW, zone=UTC) == "2026-11-21 14:20"
    assert words.ahead(NOW, now=NOW, zone=UTC) == "any moment"


@pytest.mark.parametrize(("share", "told"), [(0, "0 %"), (0.0031, "0.31 %"), (0.068, "6.8 %"), (1, "100 %")])
def test_shares_in_words(share: float, told: str) -> None:
    assert words.percent(share).replace("\u2009", " ") == told
