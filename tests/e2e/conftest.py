"""One theatre for all end-to-end stories of a run."""

from collections.abc import Iterator

import pytest

from tests.support.side_by_side import Theatre, selected


@pytest.fixture(scope="session")
def theatre(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    """Tells the selected stories side by side."""
    with Theatre(tmp_path_factory.mktemp("theatre"), selected(request.session.items)) as theatre:
        yield theatre
