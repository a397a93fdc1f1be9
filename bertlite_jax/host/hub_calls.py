"""Calls to the hub of models and datasets, and what can go wrong on the way there.

huggingface_hub does the talking: it finds the token (HF_TOKEN, or what `hf auth login` stored), keeps files in its
cache (HF_HOME), and reads HF_ENDPOINT and HF_HUB_OFFLINE. It is imported when something of the hub is named.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from types import ModuleType

from bertlite_jax.errors import UserError
from bertlite_jax.host.retry import first_line

_CLIENTS = ("huggingface_hub", "hf_xet", "httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "aiohttp")
"""Packages whose errors are about the hub or the way to it."""
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
GATED = f"is gated: accept its terms on its page, then {LOG_IN}"
_NAME = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)


def is_name(name: str) -> bool:
    """Whether a repository of the hub may be called so: OWNER/NAME, of letters, digits, -, _ and `.`."""
    wrong = "--" in name or ".." in name or name.endswith((".git", "-", "."))
    return _NAME.fullmatch(name) is not None and not wrong


def library(job: str = "convert") -> ModuleType:
    """huggingface_hub. Raises UserError where it is missing."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(f"{job}: the hub needs huggingface_hub; pip install 'bertlite_jax[hub]'") from error
    return huggingface_hub


@contextlib.contextmanager
def reaching(place: str, right: str, job: str = "convert") -> Iterator[None]:
    """Around calls of huggingface_hub: what the hub refuses, and a network that fails, become an error of one line.

    Args:
      place: the repository, as the user wrote it.
      right: what the token must allow: read or write.
      job: begins the line.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        causes = [*_causes(error)]
        # What its threads and its library in Rust say arrives as one of these; a full disk has a number.
        plain = isinstance(error, RuntimeError | ConnectionError | TimeoutError)
        plain |= isinstance(error, OSError) and error.errno is None
        if not (plain or any(type(each).__module__.partition(".")[0] in _CLIENTS for each in causes)):
            raise
        raise UserError(f"{job}: {_line_of(causes, place, right)}") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _line_of(causes: list[BaseException], place: str, right: str) -> str:
    kinds = {kind.__name__ for each in causes for kind in type(each).__mro__}
    refusals = [each for each in causes if getattr(each, "response", None) is not None]
    status = refusals[0].response.status_code if refusals else 0  # pyright: ignore[reportAttributeAccessIssue]
    if "GatedRepoError" in kinds:
        return f"{place} {GATED}"
    if "RevisionNotFoundError" in kinds:
        return f"{place}: there is no such revision; name a branch, a tag or a commit"
    if "RepositoryNotFoundError" in kinds or status == 404:
        return f"{place}: no such repository that this token may {right}; check the name, or {LOG_IN}"
    if "OfflineModeIsEnabled" in kinds and right == "write":
        return f"{place}: HF_HUB_OFFLINE is set, so nothing can be sent; unset it"
    if "OfflineModeIsEnabled" in kinds:
        return f"{place}: HF_HUB_OFFLINE is set, and the cache does not have all of it; unset it"
    if status == 401 or "XetAuthenticationError" in kinds:
        return f"{place}: the hub does not accept this token; {LOG_IN}"
    said = first_line(next((ValueError(text) for each in refusals if (text := _server_message(each))), causes[-1]))
    if status == 403:
        return f"{place}: the hub refuses it ({said}); use a token that may {right} there, or another owner"
    if status == 429 or status >= 500:
        return f"{place}: the hub answers {status} ({said}); try again later"
    if status:
        return f"{place}: the hub answers {status} ({said})"
    if kinds & {"TransportError", "OSError"}:
        return f"{place}: the hub cannot be reached ({said}); check the network"
    return f"{place}: huggingface_hub fails: {said}"


def _server_message(error: BaseException) -> str:
    return getattr(error, "server_message", None) or ""
