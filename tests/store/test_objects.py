from __future__ import annotations

import errno
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lth.errors import DamagedObject, StoreError
from lth.store import Retries, Store, remote_files

from .conftest import QUICK, free_port


def test_create_writes_once(store: Store) -> None:
    assert store.create("masks/a", b"first")
    assert not store.create("masks/a", b"second")
    assert store.read("masks/a") == b"first"
    assert store.create("masks/empty", b"") and store.read("masks/empty") == b""
    assert store.read("masks/none") is None


def test_threads_racing_for_one_key_have_one_winner(store: Store) -> None:
    store.check_writable()
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda number: store.create("levels/race", b"%02d" % number), range(16)))
    assert won.count(True) == 1
    assert store.read("levels/race") == b"%02d" % won.index(True)


def _race(store: Store, number: int) -> bool:
    return store.create("levels/race", b"%02d" % number)


def test_processes_racing_for_one_key_have_one_winner(store: Store) -> None:
    # Spawned, as Ray's workers are: the store reaches them as its URL.
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        won = pool.starmap(_race, [(store, number) for number in range(16)], chunksize=1)
    assert won.count(True) == 1
    assert store.read("levels/race") == b"%02d" % won.index(True)


def test_a_store_in_use_survives_a_fork(store: Store) -> None:
    assert store.create("levels/before", b"x")
    # Not a Pool: it ends its processes by SIGTERM, and a fork has the handler that Ray gave to this process.
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        assert sorted(pool.map(_race, [store, store], [0, 1])) == [False, True]
    assert store.create("levels/after", b"x")


def test_a_store_is_its_url(store: Store) -> None:
    store.create("levels/a", b"x")
    again = pickle.loads(pickle.dumps(store))
    assert (again.url, again.objects.retries) == (store.url, QUICK) and again.read("levels/a") == b"x"


def test_listings_are_complete_and_never_stale(store: Store) -> None:
    keys = [f"levels/experiment=e/{number:04d}" for number in range(1100)]  # S3 lists a thousand at a time
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(lambda key: store.create(key, b"abc"), keys))
    assert store.objects.sizes("levels/experiment=e") == dict.fromkeys(keys, 3)
    assert store.objects.sizes("levels/experiment=other") == {}
    assert store.objects.sizes("levels/experiment") == {}, "a prefix of a folder's name is not that folder"
    Store(store.url).create("levels/experiment=e/later", b"abcd")
    assert store.objects.sizes("levels/experiment=e")["levels/experiment=e/later"] == 4
    assert store.objects.folders("levels") == ["experiment=e"]
    Store(store.url).create("levels/experiment=f/one", b"")
    assert store.objects.folders("levels") == ["experiment=e", "experiment=f"]


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/x", "a//b", "", ".hidden", "a/.tmp", "a b"])
def test_keys_cannot_leave_the_store(file_store: Store, key: str) -> None:
    for attempt in (
        lambda: file_store.create(key, b""),
        lambda: file_store.read(key),
        lambda: file_store.objects.delete(key),
        lambda: file_store.objects.sizes(key),
    ):
        with pytest.raises(StoreError):
            attempt()


def test_quarantine_keeps_the_content(store: Store) -> None:
    store.create("levels/experiment=e/u.parquet", b"abc")
    expected = "quarantine/levels/experiment=e/u.parquet.ba7816bf"
    assert store.objects.quarantine("levels/experiment=e/u.parquet", b"something else") is None
    assert store.objects.quarantine("levels/experiment=e/u.parquet") == expected
    assert store.read(expected) == b"abc" and store.read("levels/experiment=e/u.parquet") is None
    assert store.objects.quarantine("levels/experiment=e/u.parquet") is None
    store.create("levels/experiment=e/u.parquet", b"abc")
    assert store.objects.quarantine("levels/experiment=e/u.parquet") == expected


def test_check_writable_leaves_nothing(store: Store) -> None:
    store.check_writable()
    assert store.objects.sizes("probes") == {}


def test_no_temporary_files_stay_and_none_is_listed(file_store: Store, tmp_path: Path) -> None:
    file_store.create("levels/a", b"1")
    file_store.create("levels/a", b"2")
    file_store.put_report("e", "a.html", b"1")
    assert [path.name for path in (tmp_path / "store" / "levels").iterdir()] == ["a"]
    (tmp_path / "store" / "levels" / ".0123.tmp").write_bytes(b"a writer was killed here")
    assert file_store.objects.sizes("levels") == {"levels/a": 1}


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = Store(tmp_path / "file" / "store")
    with pytest.raises(StoreError, match="choose another directory") as caught:
        store.check_writable()
    assert store.url in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, "not writable"),
        (errno.EROFS, "not writable"),
        (errno.ENOSPC, "no space"),
        (errno.EPERM, "hard links"),
    ],
)
def test_failures_of_a_disk_say_what_to_do(
    file_store: Store, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr("lth.store.local_files.os.link", fail)
    with pytest.raises(StoreError, match=message):
        file_store.create("levels/a", b"1")
    assert file_store.objects.sizes("levels") == {}


def test_a_missing_bucket(bucket: str) -> None:
    store = Store("s3://lth-no-such-bucket/x", retries=QUICK)
    for attempt in (
        store.check_writable,
        store.experiments,
        lambda: store.read("levels/a"),
        lambda: store.committed("e"),
        lambda: store.create("levels/a", b""),
    ):
        with pytest.raises(StoreError, match="bucket 'lth-no-such-bucket' does not exist") as caught:
            attempt()
        assert store.url in str(caught.value) and not isinstance(caught.value, DamagedObject)


def test_an_endpoint_that_nobody_answers(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:pass@127.0.0.1:{(port := free_port())}")
    with pytest.raises(StoreError, match=rf"cannot reach http://127.0.0.1:{port} .*AWS_ENDPOINT_URL") as caught:
        Store(f"s3://{bucket}", retries=QUICK).check_writable()
    assert "pass" not in str(caught.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    with pytest.raises(StoreError, match="'nonsense' is not a server's address"):
        Store(f"s3://{bucket}", retries=QUICK).check_writable()


def test_missing_keys(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        Store(f"s3://{bucket}", retries=QUICK).check_writable()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(StoreError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        Store(f"s3://{bucket}", retries=QUICK).check_writable()


def _refusal(code: str, status: int) -> OSError:
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    reply = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error: OSError = translate_boto_error(ClientError(reply, "PutObject"))
    return error


class Flaky:
    """Makes a store's next calls of an fsspec method fail, before or after doing what they should."""

    def __init__(self, store: Store, method: str, errors: list[BaseException], *, after: bool = False) -> None:
        self.filesystem = store.objects.files.filesystem  # type: ignore[union-attr]
        self.original, self.errors, self.after, self.calls = getattr(self.filesystem, method), errors, after, 0
        setattr(self.filesystem, method, self)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        if self.after or not self.errors:
            result = self.original(*arguments, **options)
        if self.errors:
            raise self.errors.pop(0)
        return result


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("AccessDenied", 403, "access denied"),
        ("InvalidAccessKeyId", 403, "refused the keys"),
        ("SignatureDoesNotMatch", 403, "refused the keys"),
        ("PermanentRedirect", 301, "AWS_REGION"),
        ("SomethingNew", 400, "SomethingNew"),
    ],
)
def test_refusals_are_explained_at_once(bucket: str, code: str, status: int, message: str) -> None:
    store = Store(f"s3://{bucket}", retries=QUICK)
    flaky = Flaky(store, "pipe_file", [_refusal(code, status)])
    with pytest.raises(StoreError, match=message) as caught:
        store.create("levels/a", b"1")
    assert flaky.calls == 1 and store.url in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("slow"),
        ConnectionResetError("gone"),
        _refusal("SlowDown", 503),
        _refusal("InternalError", 500),
        _refusal("ConditionalRequestConflict", 409),
        _refusal("RequestTimeout", 400),
    ],
    ids=repr,
)
def test_passing_failures_are_tried_again(bucket: str, error: BaseException) -> None:
    store = Store(f"s3://{bucket}", retries=QUICK)
    flaky = Flaky(store, "pipe_file", [error, error])
    assert store.create("levels/a", b"1") and flaky.calls == 3
    flaky.errors = [error] * 5
    with pytest.raises(StoreError):
        store.create("levels/b", b"1")
    assert flaky.calls == 6, "bounded by Retries.tries"


def test_a_reply_lost_after_the_write(bucket: str) -> None:
    store = Store(f"s3://{bucket}", retries=QUICK)
    Flaky(store, "pipe_file", [TimeoutError("lost")], after=True)
    assert store.create("levels/a", b"mine") and store.read("levels/a") == b"mine"
    Flaky(store, "pipe_file", [TimeoutError("lost")])
    assert not store.create("levels/a", b"another's"), "the first try wrote nothing"
    assert store.read("levels/a") == b"mine"


@pytest.mark.parametrize(
    "error", [FileExistsError(), _refusal("PreconditionFailed", 412), OSError(errno.EINVAL, "Invalid")], ids=repr
)
def test_every_servers_way_to_say_that_it_exists(bucket: str, error: BaseException) -> None:
    store = Store(f"s3://{bucket}", retries=QUICK)
    flaky = Flaky(store, "pipe_file", [error])
    assert not store.create("levels/a", b"1") and flaky.calls == 1


def test_a_server_that_ignores_the_condition_is_refused(bucket: str) -> None:
    store = Store(f"s3://{bucket}", retries=QUICK)
    filesystem = store.objects.files.filesystem  # type: ignore[union-attr]
    original = filesystem.pipe_file
    filesystem.pipe_file = lambda path, data, mode, chunksize: original(path, data)
    with pytest.raises(StoreError, match="If-None-Match"):
        store.check_writable()


def test_one_put_whatever_the_size(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"s3://{bucket}", retries=QUICK)
    called: list[str] = []
    filesystem = store.objects.files.filesystem  # type: ignore[union-attr]
    original = filesystem._call_s3

    async def record(method: str, *arguments: Any, **options: Any) -> Any:
        called.append(method)
        return await original(method, *arguments, **options)

    filesystem._call_s3 = record
    assert store.create("checkpoints/large", bytes(101 * 2**20)), "s3fs would cut this into parts"
    assert called == ["put_object"]
    monkeypatch.setattr(remote_files, "LARGEST_PUT", 1000)
    with pytest.raises(StoreError, match="1,000 bytes are too many for one PUT"):
        store.create("checkpoints/larger", bytes(1000))


def test_waits_grow_are_jittered_and_bounded() -> None:
    for _ in range(20):
        waits = list(Retries().waits())
        assert len(waits) == 9
        assert all(min(16, 2**n) / 2 <= wait <= min(16, 2**n) for n, wait in enumerate(waits))
        assert 47 < sum(waits) < 96, "a server may refuse writes for half a minute"
    assert list(Retries(tries=1).waits()) == []
    assert len({tuple(Retries().waits()) for _ in range(5)}) == 5
