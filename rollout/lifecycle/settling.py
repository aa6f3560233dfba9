"""After the end: what a rollout that has ended still puts back.

The rule: an ending never waits for this, and a roll back of traffic least of all. A rollout that owes something stays
active in the store, so that it is ticked, across restarts too, and no other rollout begins on its endpoint meanwhile.
"""

from rollout.lifecycle.facts import Facts
from rollout.lifecycle.story import Story


def settle(story: Story, facts: Facts) -> None:
    """Put back what is left to be put back; what is done is struck off."""
    if facts.snapshot is not None and facts.snapshot.endpoint is None:
        story.set(originals=())
