"""What went wrong in a store's file system: whether to try again, and what a person has to mend.

Errors of botocore and aiohttp are told by the names of their classes and by S3's own codes, so that neither library
has to be importable for a store on a local disk.
"""

from __future__ import annotations

import errno
from typing import Any

from lth.errors import StoreError
from lth.store.location import Location, endpoint, redact

TRANSIENT_CODES = frozenset(
    {
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "InternalError",
        "ServiceUnavailable",
        "OperationAborted",
        "ConditionalRequestConflict",  # the last two: another writer, just now
        "BadDigest",
        "IncompleteBody",
        "XAmzContentSHA256Mismatch",  # damaged on the way
    }
)
TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
TRANSIENT_CLASSES = frozenset(
    {
        "TimeoutError",
        "FSTimeoutError",
        "ConnectionError",
        "HTTPClientError",
        "ClientConnectionError",
        "ClientPayloadError",
        "IncompleteRead",
        "ResponseParserError",
    }
)
TRANSIENT_ERRNOS = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.EINTR,
        errno.ETIMEDOUT,
        errno.ECONNRESET,
        errno.ECONNREFUSED,
        errno.EPIPE,
        errno.ESTALE,
        getattr(errno, "EREMOTEIO", errno.EAGAIN),
    }
)

REFUSED_KEYS = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "RequestTimeTooSkewed",
    }
)
WRONG_REGION = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "PermanentRedirect",
        "Redirect",
        "301",
        "307",
        "IllegalLocationConstraintException",
    }
)
INVALID_BUCKET = frozenset({"InvalidBucketName", "InvalidURI"})


def _response(error: BaseException) -> dict[str, Any]:
    """The S3 server's reply that lies behind `error`; empty where there was none."""
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        if isinstance(response, dict):
            return response
        seen = seen.__cause__
    return {}


def s3_code(error: BaseException) -> str:
    """S3's code for what went wrong, e.g. `NoSuchBucket`; empty where no server replied."""
    return str(_response(error).get("Error", {}).get("Code", ""))


def _status(error: BaseException) -> int:
    return int(_response(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _class_names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def is_transient(error: BaseException) -> bool:
    """Whether the same request may well succeed in a moment."""
    if _response(error):
        return s3_code(error) in TRANSIENT_CODES or _status(error) in TRANSIENT_STATUSES
    names = _class_names(error)
    if "SSLError" in names:  # a certificate does not mend itself
        return False
    return bool(names & TRANSIENT_CLASSES) or (isinstance(error, OSError) and error.errno in TRANSIENT_ERRNOS)


def says_exists(error: BaseException) -> bool:
    """Whether a create-only PUT failed because the object exists. Servers differ: most let s3fs raise FileExistsError,
    Ceph's reply becomes OSError 22 for want of the header that was not matched."""
    if isinstance(error, FileExistsError) or s3_code(error) in ("PreconditionFailed", "412") or _status(error) == 412:
        return True
    return isinstance(error, OSError) and error.errno == errno.EINVAL and not _response(error)


def explain(error: BaseException, location: Location, action: str) -> StoreError:
    """One line for a person: the store, what was tried (`action`, e.g. `write levels/x`), why not, what to do."""
    if isinstance(error, ImportError):
        what = f"the package for {location.protocol}:// is missing ({_unknown(error)}); install it with pip"
    elif isinstance(error, ValueError) and "Protocol not known" in str(error):
        what = f"there is no file system {location.protocol!r}; write file:///…, s3://bucket/prefix or a directory"
    elif isinstance(error, OSError) and error.errno == errno.EFBIG:
        what = str(error.strerror)
    elif location.protocol == "file":
        what = _explain_local(error)
    elif location.protocol == "s3":
        what = _explain_s3(error, location)
    else:
        what = _unknown(error)
    return StoreError(f"store {location.url}: cannot {action}: {what}")


def _explain_s3(error: BaseException, location: Location) -> str:
    names, code = _class_names(error), s3_code(error)
    if code == "NoSuchBucket":
        return f"bucket {location.bucket!r} does not exist at {endpoint()}; create it, or correct the URL"
    if code in REFUSED_KEYS:
        return (
            f"{endpoint()} refused the keys ({code}); correct AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
            "AWS_SESSION_TOKEN"
        )
    if code in WRONG_REGION:
        return f"bucket {location.bucket!r} belongs to another region ({code}); set AWS_REGION to the bucket's region"
    if code in INVALID_BUCKET or "ParamValidationError" in names:
        return f"{location.bucket!r} is not a valid bucket name; correct the URL"
    if isinstance(error, PermissionError):
        return (
            f"access denied by {endpoint()} ({code or 'no code'}); give these keys the right to list, read, write "
            f"and delete in bucket {location.bucket!r}, or set others in AWS_ACCESS_KEY_ID"
        )
    if names & {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"}:
        return "no usable keys found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
    if isinstance(error, ValueError) and "endpoint" in str(error).lower():
        return f"{endpoint()!r} is not a server's address; write AWS_ENDPOINT_URL as http(s)://host:port"
    if "SSLError" in names:
        return f"{endpoint()} has no certificate that this machine trusts; set AWS_CA_BUNDLE, or correct the address"
    if not code and is_transient(error):
        return (
            f"cannot reach {endpoint()} ({type(error).__name__}); start the server, or correct AWS_ENDPOINT_URL "
            "and the network"
        )
    if is_transient(error):
        return f"{endpoint()} is failing ({code}) and did not recover in time; try again later"
    return _unknown(error, code)


def _explain_local(error: BaseException) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "the directory is not writable or not readable by this user; change its rights or choose another"
    if number in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        return "a file lies where a directory is needed, or the reverse; choose another directory"
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "no space is left; free some or choose another directory"
    if number == errno.ESTALE:
        return str(error.strerror) if isinstance(error, OSError) and error.filename is None else _unknown(error)
    if number == errno.EOPNOTSUPP:
        return "this file system has no hard links, which writing without overwriting needs; choose another directory"
    return _unknown(error)


def _unknown(error: BaseException, code: str = "") -> str:
    lines = redact(str(error)).strip().splitlines()
    name = f"{type(error).__name__} {code}".strip()
    return f"{name}: {lines[0][:300]}" if lines else name
