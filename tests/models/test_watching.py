from __future__ import annotations

from pathlib import Path

import pytest

from models import watching
from models.watching import WatchedFolder


class Unfit(ValueError):
    pass


class Loader:
    """Fails so many times, then reads the marker."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    def __call__(self, folder: Path) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise Unfit("the files are not of one training")
        return (folder / "card").read_text()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_PAUSE_S", 0.0)


def test_a_start_in_the_midst_of_a_swap_waits_for_its_end(tmp_path: Path) -> None:
    (tmp_path / "card").write_text("second")
    load = Loader(watching._ATTEMPTS - 1)
    assert WatchedFolder(tmp_path, "card", load, Unfit).current == "second"
    assert load.calls == watching._ATTEMPTS


def test_a_folder_that_stays_unfit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "card").write_text("second")
    load = Loader(100)
    with pytest.raises(Unfit, match="not of one training"):
        WatchedFolder(tmp_path, "card", load, Unfit)
    assert load.calls == watching._ATTEMPTS


def test_a_folder_without_a_model_is_refused_at_once(tmp_path: Path) -> None:
    load = Loader(100)
    with pytest.raises(Unfit):
        WatchedFolder(tmp_path, "card", load, Unfit)
    assert load.calls == 1


def test_a_model_that_cannot_be_loaded_leaves_the_one_in_use(tmp_path: Path) -> None:
    (tmp_path / "card").write_text("first")
    load = Loader(0)
    watched = WatchedFolder(tmp_path, "card", load, Unfit)
    (tmp_path / "card").write_text("the second")
    load.failures = 2
    assert watched.poll() is None
    assert watched.current == "first"
    (tmp_path / "card").write_text("the third one")
    assert watched.poll() == "the third one"
