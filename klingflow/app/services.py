"""The doors to the providers that a run needs, opened with the keys and addresses of the environment."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

from klingflow.animatic.service import AnimaticService
from klingflow.app import planner
from klingflow.app.project_loader import Opened, trusted_urls
from klingflow.core.errors import KlingflowError, StoryboardError, UsageError
from klingflow.core.model import Digest, TaskId
from klingflow.core.redact import redact
from klingflow.io import api, http, webhook
from klingflow.io.downloads import Downloads
from klingflow.io.git import tracked
from klingflow.io.project import IMAGE_BYTES, Project
from klingflow.io.publish import Publisher
from klingflow.io.service import Broken, Gone, Service
from klingflow.io.storage_factory import open_publisher
from klingflow.io.store import Store
from klingflow.planning.plan import Action, Plan
from klingflow.providers import PROVIDERS
from klingflow.providers.base import Settings

CONCURRENT = {"hiapi": 10}
"""Requests at once that a provider allows (HiAPI docs, rate limits, read 2026-11)."""
SECRETS = {"hiapi": "HIAPI_WEBHOOK_SECRET", "mulerouter": "MULEROUTER_WEBHOOK_SECRET"}


@dataclass(frozen=True, slots=True)
class ProjectStills:
    """The project's images, as the engine reads them."""

    project: Project

    def read_image(self, path: str) -> tuple[bytes, str]:
        return self.project.read_bytes(path, IMAGE_BYTES), self.project.image(path).format


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    by_provider: Mapping[str, Service]
    fetch_still: Callable[[str], Awaitable[tuple[bytes, str]]]
    """Reads an image at a public https URL: its bytes, and their format (PNG, JPEG, WEBP)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    settings: Mapping[str, Settings]
    publisher: Publisher | None
    stills: ProjectStills
    keys: Mapping[str, str]
    """API keys by provider, those that are set."""
    environ: Mapping[str, str]
    trusted: tuple[str, ...]
    """URLs of the environment that may be plain http or private: stand-ins and publish folders."""
    listen: str | None
    secrets: Mapping[str, str]

    @asynccontextmanager
    async def opened(self, store: Store, scratch: Path) -> AsyncIterator[Doors]:
        """Opens every door, and closes it whatever happens."""
        services: dict[str, Service] = {
            "animatic": AnimaticService(lambda digest: store.blob(Digest(digest)), scratch / "animatic")
        }
        for name, key in self.keys.items():
            caps = PROVIDERS[name].caps
            own = self.environ.get(caps.base_variable)
            services[name] = api.HttpService(
                own or caps.base_url,
                key,
                trusted_base=bool(own),
                trusted=self.trusted,
                requests_per_minute=None if own else caps.requests_per_minute,
                concurrent=CONCURRENT.get(name, http.POOL),
                proxy=http.proxy_for(own or caps.base_url, self.environ),
            )
        downloads = Downloads(self.trusted, proxy=http.proxy_for("https://", self.environ))

        async def fetch_still(url: str) -> tuple[bytes, str]:
            from PIL import Image

            try:
                data = await downloads.get(url, IMAGE_BYTES)
                with Image.open(BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
                    return data, str(image.format)
            except (Gone, Broken, OSError, ValueError) as bad:
                what = f"the still at {redact(url)} cannot be had: {redact(str(bad))}"
                raise KlingflowError(what, "keep the image in the project") from bad

        try:
            yield Doors(by_provider=services, fetch_still=fetch_still)
        finally:
            for service in services.values():
                await service.close()
            await downloads.close()

    @asynccontextmanager
    async def listening(
        self, wake: Callable[[str, TaskId], bool], notify: Callable[[str], None]
    ) -> AsyncIterator[None]:
        """Receives callbacks while a run waits, when that was asked for. `notify` gets a sentence for a person: the
        addresses that are listened on, and each callback that is refused."""
        if self.listen is None:
            yield
            return
        host, port = webhook.parse_address(self.listen)

        def told(provider: str, task: TaskId) -> None:
            wake(provider, task)

        url = self.settings["hiapi"].callback_url if "hiapi" in self.settings else None
        also = {urlsplit(url).path or "/": "hiapi"} if url is not None else {}
        async with webhook.listen(
            host, port, secrets=self.secrets, providers=PROVIDERS, also=also, wake=told, refused=notify
        ) as at:
            notify(f"listening for callbacks on {at.host}:{at.port} ({', '.join(sorted(at.paths.values()))})")
            yield


def refuse_committed_store(opened: Opened) -> None:
    """A store that git tracks came with the storyboard: whoever wrote a pull request could have written its ledger, and
    with it a request that a paid run would send. Raises UsageError."""
    store = Path(opened.config.store)
    if "://" not in opened.config.store and store.is_relative_to(opened.project.root):
        inside = store.relative_to(opened.project.root).as_posix()
        if tracked(opened.project.root, inside):
            raise UsageError(
                f"the store {inside} is committed to git, so nobody knows who wrote its ledger; nothing was bought",
                f"git rm -r --cached {inside}, and name it in .gitignore",
            )


def open_services(
    opened: Opened,
    plan: Plan,
    *,
    listen: str | None = None,
    callback_url: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Services:
    """What the plan needs of the environment. Raises UsageError for a missing key or a frame that no API could read."""
    busy = [step for film in plan.films for step in film.steps if step.action in (Action.MAKE, Action.RESUME)]
    if any(step.provider in PROVIDERS and PROVIDERS[step.provider].caps.paid for step in busy):
        refuse_committed_store(opened)
    keys = {
        name: environ[p.caps.key_variable]
        for name, p in PROVIDERS.items()
        if p.caps.paid and environ.get(p.caps.key_variable)
    }
    settings = dict(opened.config.settings)
    if callback_url is not None:
        if listen is None:
            raise UsageError("--callback-url goes with --listen", "add --listen HOST:PORT")
        if not callback_url.startswith("https://"):
            raise UsageError("--callback-url must be an https URL", "it is the address under which --listen is reached")
        settings["hiapi"] = replace(settings.get("hiapi", Settings()), callback_url=callback_url)
    publisher = open_publisher(opened.config.publish, opened.project.root)
    for step in busy:
        provider = PROVIDERS[step.provider]
        if provider.caps.paid and step.provider not in keys:
            raise UsageError(
                f"{step.provider} has no key: {provider.caps.key_variable} is not set",
                f"export {provider.caps.key_variable}=…, or rehearse for nothing with --provider animatic",
            )
    unsendable = planner.unsendable(opened, plan)
    if unsendable is not None:
        raise StoryboardError([unsendable])
    secrets = {name: environ[variable] for name, variable in SECRETS.items() if environ.get(variable)}
    if listen is not None and not secrets:
        raise UsageError(
            "--listen needs the secret that callbacks are signed with",
            f"export {' or '.join(SECRETS.values())}",
        )
    return Services(
        settings=settings,
        publisher=publisher,
        stills=ProjectStills(opened.project),
        keys=keys,
        environ=environ,
        trusted=trusted_urls(environ),
        listen=listen,
        secrets=secrets,
    )
