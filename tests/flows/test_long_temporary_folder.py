"""Ray's sockets lie in the folder for temporary files, whose name may be longer than a socket's can be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import tasks.cluster
from lth.errors import LthError
from tasks.cluster import LONGEST_SOCKET, SOCKET, short_folder


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_long_name_is_replaced_by_a_short_folder_of_our_own(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(variable, "/tmp/" + "x" * 120)
    with short_folder() as folder:
        assert folder is not None and os.path.isdir(folder)
        assert len(folder) + len(SOCKET) <= LONGEST_SOCKET and os.stat(folder).st_mode & 0o777 == 0o700
    assert not os.path.exists(folder)


def test_a_short_name_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    for usual in ("/tmp", "/scratch/of/somebody"):
        monkeypatch.setenv("TMPDIR", usual)
        with short_folder() as folder:
            assert folder is None


def test_where_there_is_none_it_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setenv("TMPDIR", "/tmp/" + "x" * 120)
    monkeypatch.setattr(tasks.cluster.tempfile, "mkdtemp", refuse)
    with (
        pytest.raises(LthError, match="too long for Ray's sockets .* set RAY_TMPDIR to a short folder"),
        short_folder(),
    ):
        pass


@pytest.mark.services
def test_ray_starts_under_a_long_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    if ray.is_initialized():
        pytest.skip("Ray runs already in this process")
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(folder))
    with tasks.cluster.connected(1):
        assert ray.get(ray.remote(lambda: 7).remote()) == 7
