"""YAML text to values with places, and units: whatever the text, a value or mistakes inside the file."""

import re
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.documents.text import (
    MAX_ALIASES,
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_VALUES,
    Document,
    Place,
    parse_scalar,
    read,
)
from rollout.documents.units import (
    format_duration,
    format_percent,
    parse_duration,
    parse_increase,
    parse_milliseconds,
    parse_percent,
    parse_points,
    parse_share,
    show,
)
from rollout.errors import PolicyError


def test_only_a_few_words_mean_more_than_their_text() -> None:
    text = "[yes, no, on, 12:30, 2026-01-02, 1_000, 0x1F, .inf, .nan, 1e400, 99999999999999999999, '5', \"true\", <<]"

    assert read(text, file="p").value == [
        *("yes", "no", "on", "12:30", "2026-01-02", "1_000", "0x1F", ".inf", ".nan", "1e400"),
        *("99999999999999999999", "5", "true", "<<"),
    ]
    assert read("[true, False, null, ~, 5, -3, 0.5, 1e3, .5, '']", file="p").value == [
        *(True, False, None, None, 5, -3, 0.5, 1000.0, 0.5, ""),
    ]


def test_every_path_knows_its_line_and_column() -> None:
    document = read("# a policy\nsteps:\n  - {traffic: 5%, bake: 10m}\n  - 100%\nname: é x\n", file="p.yaml")

    assert document.place(()) == Place("p.yaml", 2, 1)
    assert document.place(("steps", 0, "bake"), key=True) == Place("p.yaml", 3, 19)
    assert document.place(("steps", 0, "bake")) == Place("p.yaml", 3, 25)
    assert document.place(("steps", 1)) == Place("p.yaml", 4, 5)
    assert document.place(("name",)) == Place("p.yaml", 5, 7)


def test_what_is_not_written_stands_where_it_would_have_to_be() -> None:
    document = read("steps:\n  - 5%\n", file="p.yaml")

    assert document.place(("steps", 0, "traffic")) == Place("p.yaml", 2, 5)
    assert document.place(("checks", "error_rate", "max"), key=True) == Place("p.yaml", 1, 1)


def test_an_anchor_is_repeated_and_its_alias_has_its_own_place() -> None:
    document = read("a: &bake 10m\nb: *bake\n", file="p")

    assert document.value == {"a": "10m", "b": "10m"}
    assert document.place(("b",)) == Place("p", 2, 4)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x" * (MAX_CHARACTERS + 1), "at most 256000 are read"),
        ("[" * (MAX_DEPTH + 2), "nested more than 20 deep"),
        ("- " * 5000 + "x", "nested more than 20 deep"),
        ("[&a x" + ", *a" * (MAX_ALIASES + 1) + "]", "more than 50 aliases"),
        ("[" + "x, " * (MAX_VALUES + 1) + "]", "more than 10000 values"),
        (
            "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
            + "".join(
                f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n" for before, name in ("ab", "bc", "cd", "de")
            ),
            "with those that aliases repeat",
        ),
        ("a: &a [*a]\n", "stands inside the value that it repeats"),
        ("{a: 1, a: " + "[" * 100_000, "nested more than 20 deep"),
    ],
)
def test_limits_are_kept_and_told(text: str, told: str) -> None:
    with pytest.raises(PolicyError, match=told) as caught:
        read(text, file="p.yaml")

    assert len(caught.value.mistakes) <= 2


def test_a_key_that_stands_twice_is_told_and_reading_goes_on() -> None:
    document = read("a: 1\nb: {c: 1, c: [2, {d: 3}]}\na: 4\n", file="p.yaml")

    assert document.value == {"a": 1, "b": {"c": 1}}
    assert [str(mistake) for mistake in document.mistakes] == [
        "p.yaml:2:11: b.c: stands twice: line 2 has it already; take one of them out",
        "p.yaml:3:1: a: stands twice: line 1 has it already; take one of them out",
    ]


def test_a_byte_order_mark_is_no_text() -> None:
    assert read("\ufeffname: x\n", file="p").value == {"name": "x"}


def test_defaults_lie_under_the_document_field_by_field() -> None:
    document = read("checks: {error_rate: off}\nsteps: [5]\n", file="p.yaml")

    merged = document.over({"checks": {"error_rate": {"max": "5%"}, "latency_p99": {}}, "steps": [1, 2], "bake": "10m"})

    assert merged.value == {"checks": {"error_rate": "off", "latency_p99": {}}, "steps": [5], "bake": "10m"}
    assert merged.mistake(("bake",), "no").message == "no (this comes from `defaults` in the settings)"
    assert merged.mistake(("checks", "latency_p99", "max"), "no").message.endswith("in the settings)")
    assert merged.mistake(("steps", 0), "no").message == "no"


def test_another_document_takes_its_place_with_its_places() -> None:
    document = read("api: {listen: here}\n", file="r.yaml")

    merged = document.with_value(("api", "listen"), read("there", file="ENV")).with_value(
        ("polling", "lag"), read("", file="LAG")
    )

    assert merged.value == {"api": {"listen": "there"}, "polling": {"lag": None}}
    assert merged.place(("api", "listen")) == Place("ENV", 1, 1)
    assert merged.place(("api",)) == Place("r.yaml", 1, 6)
    assert merged.place(("polling", "lag")) == Place("LAG", 1, 1)


def _inside(text: str, *, line: int, column: int) -> bool:
    lines = re.split("\r\n|[\n\r\x85\u2028\u2029]", text.removeprefix("\ufeff"))
    return 1 <= line <= len(lines) and 1 <= column <= len(lines[line - 1]) + 1


_PIECES = st.lists(
    st.sampled_from(
        [
            *"[]{}:,&*!|>'\"%@`#-?~ \n\t",
            ": ",
            "- ",
            "\n  ",
            "---\n",
            "...\n",
            "<<",
            "&a ",
            "*a",
            "!!int ",
            "a",
            "é",
            "5%",
            "\r\n",
            "\u2028",
        ]
    ),
    max_size=40,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(_PIECES, st.text(max_size=60), st.text(st.characters(codec=None), max_size=20)))
def test_any_text_is_a_document_or_mistakes_inside_it(text: str) -> None:
    try:
        document: Document | None = read(text, file="p.yaml")
        mistakes = document.mistakes if document else ()
        places = [*document.values.values(), *document.keys.values()] if document else []
    except PolicyError as error:
        mistakes, places = error.mistakes, []
        assert mistakes

    for place in [*mistakes, *places]:
        assert _inside(text, line=place.line, column=place.column), (text, place)


@given(text=st.text(max_size=30))
def test_plain_text_is_never_a_surprise(text: str) -> None:
    value = parse_scalar(text)

    assert value == text or value is None or isinstance(value, bool | int | float)
    if isinstance(value, float):
        assert abs(value) < 1e120


# --- units ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("1d", 86400),
        ("PT10M", 600),
        ("P1DT2H", 93600),
        ("0s", 0),
        ("PT1H30M5S", 5405),
    ],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "10",
        "m",
        "P",
        "PT",
        "P1",
        "P1DT",
        "10 m",
        "1.5h",
        "-5m",
        "m10",
        "10M",
        10,
        1.5,
        True,
        None,
        [],
        "9" * 50 + "d",
    ],
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a duration: "):
        parse_duration(value)


@given(st.integers(0, 10**8))
def test_durations_read_back(seconds: int) -> None:
    duration = timedelta(seconds=seconds)

    assert parse_duration(format_duration(duration)) == duration


@given(places=st.integers(0, 6), data=st.data())
def test_rates_and_increases_read_back_exactly(places: int, data: st.DataObject) -> None:
    digits = data.draw(st.integers(10**places, 50 * 10**places))
    written = f"{digits // 10**places}.{digits % 10**places:0{places}d}".removesuffix(".0" if places == 0 else "")
    for parse, unit in ((parse_percent, "%"), (parse_increase, "%"), (parse_points, "pp")):
        value = parse(written + unit)
        assert value == pytest.approx(float(written) / 100)
        assert parse(format_percent(value, unit)) == value


@pytest.mark.parametrize(("value", "share"), [(5, 5), ("5%", 5), ("5", 5), ("5 %", 5), ("100%", 100), (1, 1)])
def test_shares(value: object, share: int) -> None:
    assert parse_share(value) == share


@pytest.mark.parametrize(
    "value", [0, 101, -5, 0.05, 1.0, 5.0, "5.0%", "0.05", "5pp", "5 percent", "", True, None, [], "٥%"]
)
def test_what_is_no_share_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"write .*\d%"):
        parse_share(value)


def test_latencies() -> None:
    assert parse_milliseconds("800ms") == 800
    assert parse_milliseconds("1.5s") == 1500
    for value in (800, "0ms", "0.5ms", "11m", "601s", None):
        with pytest.raises(ValueError, match="write"):
            parse_milliseconds(value)


def test_a_shown_value_is_short_and_holds_no_address() -> None:
    assert show("https://me:hunter2@host/path?key=hunter2") == '"https://…"'
    assert show("x\ny " * 100).endswith('…"')
    assert len(show("x" * 1000)) < 70
    assert [show(None), show(True), show(0.05), show({}), show([])] == ["null", "true", "0.05", "a mapping", "a list"]
