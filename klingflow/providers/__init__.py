"""Every provider, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from klingflow.providers import animatic, hiapi, mulerouter
from klingflow.providers.base import Provider

PROVIDERS: Mapping[str, Provider] = {
    module.name: cast(Provider, module) for module in (animatic, hiapi, mulerouter)
}
