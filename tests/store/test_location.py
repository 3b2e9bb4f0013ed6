from __future__ import annotations

import os
from pathlib import Path

import pytest

from lth.errors import StoreError
from lth.store import Store


def test_paths_and_file_urls_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = f"file://{tmp_path}/here"
    urls: list[str | Path] = [
        "here",
        "./here/",
        "file:here",
        "file://here",
        f"file://{tmp_path}/here",
        tmp_path / "here",
        "there/../here",
    ]
    for url in urls:
        assert Store(url).url == expected
    store = Store("here")
    monkeypatch.chdir("/")
    store.create("probe", b"x")
    assert (tmp_path / "here" / "probe").read_bytes() == b"x"
    assert Store(store.url).url == store.url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket/prefix/", "s3://bucket/prefix"),
        ("s3a://bucket", "s3://bucket"),
        ("memory://", "memory://"),
        ("memory://name/", "memory://name"),
    ],
)
def test_urls_are_printed_as_they_are_read(url: str, expected: str) -> None:
    assert Store(url).url == expected
    assert Store(expected).url == expected
    assert repr(Store(url)) == f"Store({expected!r})"


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:SECRETSECRET@bucket/prefix",
        "s3://key:SECRET/SECRET@bucket",
        "s3://key:SECRETSECRET",
        "https://user:SECRETSECRET@host/x",
        "sftp://SECRETSECRET@host/x",
        "s3://key:123@bucket",
    ],
)
def test_urls_with_keys_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(StoreError, match="AWS_ACCESS_KEY_ID") as caught:
        Store(url)
    for text in (str(caught.value), repr(caught.value)):
        assert "SECRET" not in text.replace("AWS_SECRET_ACCESS_KEY", "") and "key:123" not in text


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "s3://",
        "s3:///prefix",
        "s3://bucket/../other",
        "s3://bucket//x",
        "s3://b/x",
        "s3://bucket/x?versionId=1",
        "simplecache::s3://bucket/x",
        "s3://buck et/x",
    ],
)
def test_urls_that_make_no_sense_are_refused(url: str) -> None:
    with pytest.raises(StoreError):
        Store(url)


def test_an_unknown_file_system_is_named() -> None:
    with pytest.raises(StoreError, match=r"nonsense://x.*no file system 'nonsense'"):
        Store("nonsense://x").check_writable()


def test_memory_is_a_store() -> None:
    store = Store(f"memory://lth-{os.getpid()}/deep")
    store.check_writable()
    assert store.create("levels/experiment=e/a", b"1") and not store.create("levels/experiment=e/a", b"2")
    assert store.read("levels/experiment=e/a") == b"1" and store.read("levels/experiment=e/b") is None
    assert store.objects.sizes("levels") == {"levels/experiment=e/a": 1}
    assert store.experiments() == ["e"]
    store.objects.delete("levels/experiment=e/a")
    store.objects.delete("levels/experiment=e/a")
    assert store.objects.sizes("levels") == {}
