"""A rollout that observes, in the same chaos as one that acts: it never comes near a write, and it comes to an end.

The promise is held at the port: the double of Azure counts every write that it is asked for, whatever becomes of it.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from rollout.lifecycle import Phase, wanted_traffic
from rollout.lifecycle.phases import WRITES_NOTHING
from rollout.world import Split
from tests.simulation.test_lifecycle_machine import SLOW, SPLITS, Anything
from tests.support.lives import check_sentence, policy

P = Phase
OBSERVED = {
    "plain": policy(mode="observe"),
    "named": policy(mode="observe", stable="blue", candidate="green"),
    "asks": policy(mode="observe", approve={1: {"timeout": "1h", "on_timeout": "rollback"}}),
    "all": policy(mode="observe", holdback=0),
    "pauses": policy(mode="observe", when={"regression": "pause", "doubt": {"extend": "10m", "then": "rollback"}}),
}


class Observing(Anything):
    """See the module."""

    @initialize(name=st.sampled_from(sorted(OBSERVED)), traffic=st.sampled_from(SPLITS[:3]))  # type: ignore[override]
    def begin(self, name: str, traffic: dict[str, int]) -> None:
        self.site.azure.begin(**traffic)
        self.site.azure.deploy("red", 3)
        self.site.azure.before_put = self.about_to_put
        one = OBSERVED[name]
        self.started = one if one.candidate or len(traffic) > 1 else one.model_copy(update={"candidate": "green"})
        self.before = self.site.start(self.started)
        self.pass_time(2)

    @rule(number=st.integers(1, 3))
    def the_process_is_killed(self, number: int) -> None:
        self.site.azure.kill_at_read(number)
        self.pass_time(0)

    def about_to_put(self, split: Split) -> None:
        raise AssertionError(f"{split} is written")

    @invariant()
    def azure_is_asked_for_no_write(self) -> None:
        assert "set_traffic" not in self.site.azure.calls
        assert self.site.azure.puts == []

    def look_at_the_change(self) -> None:
        before, after = self.before, self.site.rollout
        self.before = after
        assert after.phase in WRITES_NOTHING
        assert wanted_traffic(after) is None
        assert (after.writes, after.strays) == ((), ())
        check_sentence(after.sentence)
        if before.ended:
            assert after == before, "what has ended stays as it is"

    def must_be_settled(self) -> None:
        self.azure_is_asked_for_no_write()
        rollout = self.site.rollout
        if not rollout.ended:  # nobody gives the candidate traffic, or it has some that still may grow
            assert rollout.phase is P.OBSERVING, rollout.sentence
            assert rollout.started_at is None or self.site.azure.traffic.get(rollout.candidate or "") != 100


TestObserving = Observing.TestCase
TestObserving.settings = settings(
    max_examples=8, stateful_step_count=20, deadline=None, suppress_health_check=SLOW, derandomize=True
)
