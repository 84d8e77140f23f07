"""The wheel of the klingflow that runs, for a repository to keep: CI then installs what wrote the recipe, wherever that
came from: an index, a commit, a wheel or a checkout.

It is put together from the installation: the package as it lies there, and the metadata of its distribution. The same
installation gives the same bytes.
"""

from __future__ import annotations

import importlib.metadata
from base64 import urlsafe_b64encode
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import klingflow

PACKAGE = Path(__file__).parents[1]
ACTION = "action.yml"
PLAN_RECIPE = "github-plan.yml"

_BESIDE = {"schemas": "schemas", f"docs/ci/{PLAN_RECIPE}": f"ci/{PLAN_RECIPE}", ACTION: f"ci/{ACTION}"}
"""What lies beside the package in a checkout, and where the wheel has it in the package (as pyproject.toml says)."""
_DATE = (1980, 1, 1, 0, 0, 0)


def recipe(name: str) -> bytes:
    """ACTION or PLAN_RECIPE, as it is in the repository of klingflow."""
    for path in (PACKAGE / "ci" / name, PACKAGE.parent / "docs" / "ci" / name, PACKAGE.parent / name):
        if path.is_file():
            return path.read_bytes()
    raise LookupError(f"klingflow was installed without its {name}")


def wheel() -> tuple[str, bytes] | None:
    """The wheel's file name and its bytes; None where the klingflow that runs was not installed, so that nothing says
    what it needs."""
    try:
        own = importlib.metadata.distribution("klingflow")
    except importlib.metadata.PackageNotFoundError:
        return None
    name = f"klingflow-{klingflow.__version__}"
    metadata = {
        path.as_posix(): own.locate_file(path).read_bytes()  # type: ignore[attr-defined]  # typed as a bare path
        for path in own.files or ()
        if path.parts[0] == f"{name}.dist-info"
        and (path.name in ("METADATA", "WHEEL", "entry_points.txt") or "licenses" in path.parts)
    }
    if not metadata:
        return None
    held = {f"klingflow/{path}": data for path, data in sorted(_package().items())} | dict(sorted(metadata.items()))
    rows = [f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in held.items()]
    record = f"{name}.dist-info/RECORD"
    held[record] = f"{''.join(rows)}{record},,\n".encode()
    out = BytesIO()
    with ZipFile(out, "w", ZIP_DEFLATED) as archive:
        for path, data in held.items():
            entry = ZipInfo(path, _DATE)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data, ZIP_DEFLATED)
    return f"{name}-py3-none-any.whl", out.getvalue()


def _package() -> dict[str, bytes]:
    """Every file of the package, by its path in it."""
    places = {"": PACKAGE}
    if not (PACKAGE / "ci").is_dir():
        places |= {inside: PACKAGE.parent / beside for beside, inside in _BESIDE.items()}
    return {
        (Path(inside) / path.relative_to(place)).as_posix(): path.read_bytes()
        for inside, place in places.items()
        for path in (place.rglob("*") if place.is_dir() else (place,))
        if path.is_file() and path.suffix != ".pyc"
    }


def _digest(data: bytes) -> str:
    return urlsafe_b64encode(sha256(data).digest()).rstrip(b"=").decode()
