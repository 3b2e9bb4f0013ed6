"""Fetching published data sets through torchvision, so that an interrupted download leaves nothing half-written."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lth.errors import DataError
from lth.torchvision_import import import_torchvision

logger = logging.getLogger(__name__)


def ensure_files(name: str, root: Path, class_name: str, files: Iterable[Path], archives: Iterable[Path]) -> None:
    """Download what is missing of `files`, all relative to `root`; `archives` already there are used.

    torchvision works in a private folder below `root` and finished files are moved into place, so a download that is
    interrupted, or two at once, leave nothing half-written behind.

    Raises:
        DataError: something is missing and cannot be downloaded.
    """
    missing = [file for file in files if not (root / file).is_file()]
    if not missing:
        return
    absent = f"data set {name!r} is not in {root} ({missing[0]} is missing)"
    remedy = "put its original files there, or set LTH_DATA_DIR to the folder that holds them"
    if any((root / name).glob("train*.parquet")):
        remedy = f"to use the Parquet copy in {root / name}, say --set dataset.name=parquet --set dataset.path={name}"
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise DataError(f"{absent}, and {existing} is not writable, so it was not downloaded: {remedy}")

    logger.info("downloading data set %s to %s", name, root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as folder:
            staging = Path(folder)
            for archive in archives:
                if (root / archive).is_file():
                    (staging / archive).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(root / archive, staging / archive)
            _fetch(class_name, staging)
            for file in missing:
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                (staging / file).replace(root / file)
    except DataError:
        raise
    except Exception as error:  # torchvision, urllib, tarfile and gzip raise a dozen unrelated types here
        raise DataError(f"{absent}, and its download failed ({reason(error)}): {remedy}") from error


def _fetch(class_name: str, folder: Path) -> None:
    """Let torchvision download and unpack a set into an empty folder, keeping standard output clean for results."""
    dataset_class = getattr(import_torchvision().datasets, class_name)
    parts: list[dict[str, Any]] = [{"split": "train"}, {"split": "test"}] if class_name == "SVHN" else [{}]
    with contextlib.redirect_stdout(sys.stderr):
        for part in parts:
            dataset_class(folder, download=True, **part)


def reason(error: Exception) -> str:
    """Type and message of an error on one line; torchvision's messages have several."""
    return " ".join(f"{type(error).__name__}: {error}".split())
