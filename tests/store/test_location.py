from __future__ import annotations

import os
from pathlib import Path

import pytest

from lth.errors import StoreError
from lth.store import Store
from lth.store.location import parse_location, redact


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
    ("url", "directory"),
    [
        ("file://localhost/abs/path", "/abs/path"),
        ("FILE://LOCALHOST/abs/path/", "/abs/path"),
        ("file:/abs", "/abs"),
        ("file:////abs", "/abs"),
        ("file:///with%20space/50%25", "/with space/50%"),
        ("file:///with space", "/with space"),
        ("/50%25 of it", "/50%25 of it"),
        ("file:rel", "{here}/rel"),
        ("local:///abs", "/abs"),
        ("a:b@c", None),
        ("runs:2026/x", "{here}/runs:2026/x"),
        ("s3/bucket", "{here}/s3/bucket"),
        ("./s3:x", "{here}/s3:x"),
        ("~/x", "{home}/x"),
        ("file:~/x", "{home}/x"),
        ("me@work/x", "{here}/me@work/x"),
        ("über/☃", "{here}/über/☃"),
    ],
)
def test_a_path_is_a_path_and_a_url_is_a_url(
    url: str, directory: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/of/mine")
    if directory is None:
        with pytest.raises(StoreError, match="user or password"):
            parse_location(url)
        return
    found = parse_location(url)
    assert found.root == directory.format(here=tmp_path, home="/home/of/mine")
    assert parse_location(found.url) == found


@pytest.mark.parametrize(
    "url",
    [
        "s3:/KEY:PLANTED@bucket/p",
        "s3:KEY:PLANTED@bucket/p",
        "s3//KEY:PLANTED@bucket/p",
        "s3:///KEY:PLANTED@bucket/p",
        "S3://KEY:PLANTED@bucket/p",
        "s3://KEY%3APLANTED%40bucket/p",
        "s3://KEY:PLANTED",
        "s3;//KEY:PLANTED@bucket",
        "KEY:PLANTED@bucket/p",
        "http://user:PLANTED@host/x",
        "http:/user:PLANTED@host/x",
        "https//user:PLANTED@host/x",
        "https://host/x?X-Amz-Signature=PLANTED",
        "az://container?sig=PLANTED",
        "s3://bucket//PLANTED",
        "s3:/bucket/PLANTED",
        "s3//bucket/PLANTED",
        "s3:bucket/PLANTED",
        "gs:/PLANTED",
        "file://host/PLANTED",
        "C:\\PLANTED",
        "c:/PLANTED",
        "\\\\server\\PLANTED",
        "~nobody-of-that-name/PLANTED",
        " s3://bucket/PLANTED",
        "s3://bucket/PLANTED\n",
        "PLANTED\x00",
        "PLANTED\x1b[31m",
        "https://host/PLANTED",
        "simplecache::s3://bucket/PLANTED",
    ],
)
def test_a_slip_is_refused_in_one_line_without_echo(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError) as caught:
        Store(url)
    assert "PLANTED" not in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text", ["at s3:/KEY:PLANTED@bucket", "http://user:PLANTED@host/x", "sftp://PLANTED@host", "'s3://KEY:PLA/NTED@b'"]
)
def test_messages_lose_what_stands_before_the_host(text: str) -> None:
    assert "PLANTED" not in redact(text) and "NTED" not in redact(text)
    assert redact("mail a@b.de, 12:30 and http://host:80/x/a@b") == "mail a@b.de, 12:30 and http://host:80/x/a@b"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket/prefix/", "s3://bucket/prefix"),
        ("s3a://bucket", "s3://bucket"),
        ("S3://bucket", "s3://bucket"),
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
