"""`klingflow takes`: the takes of each shot, and which one counts."""

from __future__ import annotations

import json

import klingflow
from klingflow.core.errors import DONE
from klingflow.planning.price import money


def takes(path: str, format: str = "text") -> int:
    """Lists what the lock names: a run keeps every take of a shot that lives, so that a person can go back to one."""
    session = klingflow.open(path).session()
    loaded, store, lock = session.loaded, session.store, session.lock
    rows: list[dict[str, object]] = []
    for film in loaded.films:
        variant = f"  [{film.variant}]" if film.variant else ""
        for shot in film.shots:
            for take, entry in sorted(lock.films.get(film.variant, {}).get(shot.id, {}).items()):
                rows.append(
                    {
                        "film": film.label,
                        "shot": shot.id,
                        "take": take,
                        "counts": take == shot.take,
                        "clip": entry.clip,
                        "here": store.holds(entry.clip),
                        "seconds": float(entry.duration),
                        "provider": entry.provider,
                        "date": entry.date,
                        "cost": None if entry.cost is None else float(entry.cost),
                    }
                )
                price = f"  {money(entry.cost)}" if entry.cost else ""
                mark = "*" if take == shot.take else " "
                absent = "" if rows[-1]["here"] else "  (not in this store)"
                if format == "text":
                    print(
                        f"{mark} {shot.id:<20} take {take}  {entry.duration} s  {entry.provider:<10} {entry.date}"
                        f"  {entry.clip[:12]}{price}{absent}{variant}"
                    )
    if format == "json":
        print(json.dumps({"version": 1, "storyboard": loaded.relative, "takes": rows}, ensure_ascii=False, indent=2))
    elif rows:
        print("* counts: the film uses it, and other shots continue it. `take: N` in the storyboard chooses another.")
    else:
        print("no take yet: klingflow run makes them")
    return DONE
