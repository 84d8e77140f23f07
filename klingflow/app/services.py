"""The doors to the providers that a run needs, opened with the keys and addresses of the environment."""

from __future__ import annotations

import asyncio
import random
from collections import ChainMap
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from klingflow.animatic.service import AnimaticService
from klingflow.app import planner
from klingflow.app.project_loader import LoadedStoryboard, trusted_urls
from klingflow.core.errors import KlingflowError, StoreError, StoryboardError, UsageError
from klingflow.core.model import ANIMATIC, Digest, TaskId
from klingflow.core.redact import redact
from klingflow.execution.account import Account, account
from klingflow.execution.seller import Seller
from klingflow.io import api, config, http, published_keys, store_origin, webhook
from klingflow.io.downloads import Downloads
from klingflow.io.project import IMAGE_BYTES, BadFile, Project, picture
from klingflow.io.publish import Publisher
from klingflow.io.publish_trial import unreadable
from klingflow.io.service import Broken, Gone, Service
from klingflow.io.storage_factory import open_publisher
from klingflow.io.store import Store
from klingflow.planning.plan import Action, Plan
from klingflow.providers import PROVIDERS
from klingflow.providers.base import Provider, Settings

VIDEO_BYTES = 200 * 1024 * 1024
"""Of a reference video; MuleRouter docs, reference-video-to-video, read 2026-11."""


@dataclass(frozen=True, slots=True)
class ProjectStills:
    """The project's images, as the engine reads them."""

    project: Project

    def read_image(self, path: str) -> tuple[bytes, str]:
        return self.project.read_bytes(path, IMAGE_BYTES), self.project.image(path).format

    def read_video(self, path: str) -> bytes:
        return self.project.read_bytes(path, VIDEO_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    sellers: Mapping[str, Seller]
    """The providers that can be used: the free ones, and those whose key is set."""
    downloads: Downloads

    async def fetch_still(self, url: str) -> tuple[bytes, str]:
        """Reads an image at a public https URL: its bytes, and their format (PNG, JPEG, WEBP). Raises
        KlingflowError."""
        try:
            data = await self.downloads.get(url, IMAGE_BYTES)
            return data, (await asyncio.to_thread(picture, redact(url), data)).format
        except (Gone, Broken) as bad:
            what = f"the still at {redact(url)} cannot be had: {redact(str(bad))}"
        except BadFile as bad:
            what = bad.what
        raise KlingflowError(what, "keep the image in the project")


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The keys, addresses and settings that a run needs, read from the environment and the project file."""

    settings: Mapping[str, Settings]
    images_by: Mapping[str, str]
    """The way that images go to each provider (planner.images_by)."""
    publisher: Publisher | None
    stills: ProjectStills
    keys: Mapping[str, tuple[str, str]]
    """API keys by provider, both halves, of those whose key is set and those that need none."""
    needed: frozenset[str]
    """The providers that the plan cannot do without."""
    environ: Mapping[str, str]
    trusted: tuple[str, ...]
    """URLs of the environment that may be plain http or private: stand-ins and publish folders."""
    listen: str | None
    secrets: Mapping[str, str]
    published_keys: Mapping[str, str]
    """Where providers publish the keys with which they sign callbacks, by name."""

    @asynccontextmanager
    async def opened(self, store: Store, scratch: Path, rng: random.Random) -> AsyncIterator[Doors]:
        """Opens every door, and closes it whatever happens."""
        drawing = AnimaticService(lambda digest: store.blob(Digest(digest)), scratch / "animatic")
        sellers = {ANIMATIC: self._seller(ANIMATIC, drawing, None, rng)}
        for name, key in self.keys.items():
            provider = PROVIDERS[name]
            try:
                service = api_of(provider, key, self.environ, self.trusted)
            except UsageError:
                if name in self.needed:
                    raise
                continue
            sellers[name] = self._seller(name, service, account(base_of(provider, self.environ), "".join(key)), rng)
        downloads = Downloads(self.trusted, proxy=http.proxy_for("https://", self.environ))
        try:
            yield Doors(sellers=sellers, downloads=downloads)
        finally:
            for seller in sellers.values():
                await seller.service.close()
            await downloads.close()

    def _seller(self, name: str, service: Service, account: Account | None, rng: random.Random) -> Seller:
        settings = self.settings.get(name, Settings())
        return Seller(PROVIDERS[name], service, settings, account, rng, images_by=self.images_by[name])

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

        urls = {name: own.callback_url for name, own in self.settings.items() if own.callback_url is not None}
        paths = {urlsplit(url).path or "/" for url in urls.values()}
        also = {path: tuple(urls) for path in paths}
        keys: dict[str, str] = {}
        downloads = Downloads(self.trusted, proxy=http.proxy_for("https://", self.environ))
        try:
            async with published_keys.kept(self.published_keys, downloads, keys, notify):
                signing = ChainMap(keys, dict(self.secrets))
                async with webhook.listen(
                    host, port, secrets=signing, providers=PROVIDERS.met(), also=also, wake=told, refused=notify
                ) as at:
                    notify(f"listening for callbacks on {at.host}:{at.port} ({', '.join(sorted(at.paths.values()))})")
                    yield
        finally:
            await downloads.close()


def base_of(provider: Provider, environ: Mapping[str, str]) -> str:
    """The base URL of a provider's API: the environment's, where one is set."""
    return environ.get(provider.caps.base_variable) or provider.caps.base_url


def _published_at(provider: Provider, environ: Mapping[str, str]) -> str:
    """Where a provider publishes the keys of its callbacks: beside its API where the environment moves that. Empty
    where it publishes none."""
    at, moved = provider.caps.webhook_keys, environ.get(provider.caps.base_variable)
    return f"{moved.rstrip('/')}{urlsplit(at).path}" if at and moved else at


def api_of(
    provider: Provider, key: tuple[str, str], environ: Mapping[str, str], trusted: Sequence[str] = ()
) -> api.HttpService:
    """The door to a provider's API, at the base URL of the environment where one is set."""
    own = environ.get(provider.caps.base_variable)
    base = own or provider.caps.base_url
    return api.HttpService(
        base,
        key,
        provider.authorization,
        trusted_base=bool(own),
        trusted=trusted,
        requests_per_minute=None if own else provider.caps.requests_per_minute,
        concurrent=provider.caps.requests_at_once or http.POOL,
        proxy=http.proxy_for(base, environ),
    )


def open_services(
    loaded: LoadedStoryboard,
    plan: Plan,
    *,
    listen: str | None = None,
    callback_url: str | None = None,
    detach: bool = False,
) -> Services:
    """What the plan needs of the environment. Raises UsageError for a missing key, StoryboardError for a frame that no
    API could read."""
    environ = loaded.environ
    needed = {step.provider for film in plan.films for step in film.steps if step.action in USING}
    if any(step.action is not Action.MAKE for film in plan.films for step in film.steps if step.action in USING):
        PROVIDERS.broken()  # a task that was paid for may be at any installed provider: all of them are met
    keys = _keys(needed, environ)
    settings = dict(loaded.config.settings)
    if callback_url is not None:
        if listen is None and not detach:
            mend = "add --listen HOST:PORT, or --detach where another machine receives them"
            raise UsageError("--callback-url goes with --listen or --detach", mend)
        if not callback_url.startswith("https://"):
            raise UsageError("--callback-url must be an https URL", "it is the address under which --listen is reached")
        for name in [name for name in needed if PROVIDERS[name].caps.callback_in_order]:
            settings[name] = replace(settings.get(name, Settings()), callback_url=callback_url)
    publisher = open_publisher(loaded.config.publish, loaded.project.root)
    unsendable = planner.unsendable(loaded, plan)
    if unsendable is not None:
        raise StoryboardError([unsendable])
    secrets = {}
    published = {}
    if listen is not None:
        variables = {name: p.caps.webhook_variable for name, p in PROVIDERS.met().items() if p.caps.webhook_variable}
        found = {name: config.secret(environ, variable) for name, variable in variables.items()}
        secrets = {name: secret for name, secret in found.items() if secret}
        published = {name: url for name in keys if (url := _published_at(PROVIDERS[name], environ))}
        if not secrets and not published:
            raise UsageError(
                "--listen needs the secret that callbacks are signed with",
                f"export {' or '.join(variables.values())}",
            )
    return Services(
        settings=settings,
        images_by={name: planner.images_by(loaded.config, provider) for name, provider in PROVIDERS.met().items()},
        publisher=publisher,
        stills=ProjectStills(loaded.project),
        keys=keys,
        needed=frozenset(needed),
        environ=environ,
        trusted=trusted_urls(environ),
        listen=listen,
        secrets=secrets,
        published_keys=published,
    )


USING = frozenset({Action.MAKE, Action.RESUME, Action.RESOLVE})
"""Steps that may speak to their provider."""


def key_of(provider: Provider, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """A provider's key, both halves; None where it is not set. Raises UsageError for what cannot be a key."""
    key = [config.secret(environ, variable) if variable else "" for variable in _halves(provider)]
    lacks = any(variable and not half for variable, half in zip(_halves(provider), key, strict=True))
    return None if lacks else (key[0], key[1])


def _halves(provider: Provider) -> tuple[str, str]:
    return provider.caps.key_variable, provider.caps.secret_variable


def no_key(provider: Provider) -> tuple[str, str]:
    """What is missing, and the mend, where a provider's key is not set."""
    variables = provider.caps.variables
    what = f"{' and '.join(variables)} {'is' if len(variables) == 1 else 'are'} not set"
    return what, f"export {'=… '.join(variables)}=…, or rehearse for nothing with --provider {ANIMATIC}"


def _keys(needed: Collection[str], environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The API keys that are set. Raises UsageError where one that is needed is missing or cannot be a key; another one
    is then left out, since this run does not depend on it."""
    keys = {}
    for name, provider in PROVIDERS.met().items():
        if provider.caps.local:
            continue
        try:
            key = key_of(provider, environ)
        except UsageError:
            if name in needed:
                raise
            continue
        if key is not None:
            keys[name] = key
        elif name in needed:
            what, mend = no_key(provider)
            raise UsageError(f"{name} has no key: {what}", mend)
    return keys


def refuse_foreign_store(loaded: LoadedStoryboard, plan: Plan) -> None:
    """Refuses a store that may have come with the storyboard, where the plan has a paid shot: whoever wrote a pull
    request could have written its ledger and its clips. Raises UsageError."""
    if planner.pays(plan):
        why = planner.foreign_store(loaded.config)
        if why is not None:
            raise UsageError(f"{why[0]}; nothing was bought", why[1])


def claim_store(loaded: LoadedStoryboard) -> None:
    """Makes the store's folder, where it is not there yet, as one that klingflow made on this machine."""
    if "://" not in loaded.config.store:
        store_origin.claim(Path(loaded.config.store))


async def refuse_bad_publishing(services: Services, downloads: Downloads) -> None:
    """Tries out publishing where frames go by URL: a wrong address is found before the first purchase, not after it.
    Raises UsageError."""
    publisher = services.publisher
    if publisher is None:
        return
    try:
        why = await unreadable(publisher, downloads, provider_hosts(services.environ))
    except StoreError as bad:
        raise UsageError(bad.what, bad.mend) from bad
    if why is not None:
        raise UsageError(
            f"a published frame cannot be read back, so no provider could read it: {why}; nothing was bought",
            f"publish.public_url must show what is in {publisher.where}, over https, to anybody; "
            "`klingflow doctor` tries it",
        )


def provider_hosts(environ: Mapping[str, str]) -> list[str]:
    """The names of the servers of all paid APIs."""
    bases = [base_of(p, environ) for p in PROVIDERS.met().values() if not p.caps.local]
    return [urlsplit(base).hostname or "" for base in bases]
