"""Put files into a repository of the hub: looked at before anything is sent, in one commit, so that a push is whole."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from bllossom.artifacts import MANIFEST
from bllossom.console import say
from bllossom.errors import BllossomError, ConfigError


def check_name(repository: str) -> None:
    """Refuse what is no `owner/name` of the hub.

    Raises:
        ConfigError: says what a name may hold.
    """
    try:
        if repository.count("/") != 1:
            raise ConfigError(f"--to {repository}: should be owner/name")
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ConfigError(
            f"--to {repository}: the hub allows no such name; should be owner/name, of letters, digits, - _ . alone, "
            "96 characters at most, with no -- or .. in it and no - or . at its ends"
        ) from error


def upload(
    repository: str,
    files: Mapping[str, Path | bytes],
    *,
    message: str,
    public: bool,
    revision: str | None,
    tag: str | None,
    replace: bool,
) -> str:
    """Commit `files`, by their names there, and give the commit's address. A new repository is private unless `public`.

    Raises:
        BllossomError: the repository holds something else than a model of ours (and not `replace`), is public although
            that was not asked for, has the tag already, or the hub refuses or cannot be reached.
    """
    api = HfApi()
    with _clear_refusals(repository):
        _make_repository(api, repository, public=public, replace=replace)
        if tag is not None and tag in {each.name for each in api.list_repo_refs(repository).tags}:
            raise BllossomError(f"{repository} has a tag {tag} already; nothing was pushed; name another --tag")
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        commit = api.create_commit(repository, operations, commit_message=message, revision=revision)
        if tag is not None:
            api.create_tag(repository, tag=tag, revision=commit.oid)
    return str(commit.commit_url)


def _make_repository(api: HfApi, repository: str, *, public: bool, replace: bool) -> None:
    try:
        found = api.model_info(repository)
    except RepositoryNotFoundError:
        api.create_repo(repository, private=not public)
        return
    if not found.private and not public:
        raise BllossomError(
            f"{repository} is there already and everybody may see it; nothing was pushed; say --public, or name another"
        )
    names = {file.rfilename for file in found.siblings or []}
    if names - {".gitattributes"} and MANIFEST not in names and not replace:
        raise BllossomError(
            f"{repository} is there already and holds something else (it has no {MANIFEST}); nothing was pushed; name "
            "another, or --force adds this model's files to it"
        )
    say(f"{repository} is there already: this push becomes its next commit")


@contextmanager
def _clear_refusals(repository: str) -> Iterator[None]:
    """Say what the hub, or the way to it, made of a call; what was meant is known to the caller alone."""
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise BllossomError(f"{repository}: HF_HUB_OFFLINE is set, so nothing was pushed; unset it") from error
    except HfHubHTTPError as error:
        raise BllossomError(f"{repository}: {_refusal(error)}") from error
    except HTTPError as error:
        raise BllossomError(
            f"{repository}: the hub cannot be reached ({type(error).__name__}); check the network and HF_ENDPOINT, "
            "then run the same command"
        ) from error
    except (RuntimeError, ValueError) as error:  # an upload that ended, a card that the hub does not take
        reason = f"{error} {error.__cause__ or ''}".strip()
        raise BllossomError(f"{repository}: nothing was committed ({reason}); run the same command again") from error


def _refusal(error: HfHubHTTPError) -> str:
    status = error.response.status_code
    said = error.server_message or (str(error).strip().splitlines() or [type(error).__name__])[0]
    remedy = {
        401: "run `hf auth login` with a token that may write",
        403: "the token may not write there: name your own account or an organisation of yours",
        409: "it is there already, or became so meanwhile: run the same command again",
    }.get(status, "run the same command again later")
    return f"the hub refuses ({status}: {said}); {remedy}"
