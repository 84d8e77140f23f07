"""What HDR and wide colour look like on an ordinary screen: a table from their signal to that of SDR (BT.709).

HDR is display light: of PQ by its curve (ITU-R BT.2100-2, table 4), of HLG by the inverse OETF and the OOTF of a screen
of 1000 cd/m2 (table 5). The peak is brought down by the EETF of BT.2390, applied to the largest of red, green and blue,
so that hue and saturation stay; below 87 cd/m2 nothing changes. SDR white stands for 203 cd/m2, the reference white of
BT.2408: grey of 18 % (26 cd/m2) comes out at 42 %, that white at 90 %, 1000 cd/m2 and more at 100 %. BT.1886 is the
screen's curve. What BT.709 cannot show is clipped, each channel by itself, as in BT.2407's simple conversion.

The curve is the same for every clip: what a file says of its own peak is often wrong, and changes within a film.
Knows no file and no frame.
"""

from __future__ import annotations

import math
from functools import cache

HDR = {16: "PQ", 18: "HLG"}
"""Transfers by their number in H.273."""
_BT709, _BT2020, _P3 = 1, 9, 12
"""Primaries by their number in H.273."""
WHITE = 203.0
"""cd/m2, as all light here."""
PEAK = 1000.0
POINTS = 33
"""A side of the table. Between its points a grey is off by less than one level of 255, a colour at the edge of BT.709
by 2 % of its light."""

Colour = tuple[float, float, float]

_TO_BT709: dict[int, tuple[Colour, Colour, Colour]] = {
    _BT2020: ((1.660491, -0.587641, -0.072850), (-0.124550, 1.132900, -0.008349), (-0.018151, -0.100579, 1.118730)),
    _P3: ((1.224940, -0.224940, 0.0), (-0.042057, 1.042057, 0.0), (-0.019638, -0.078636, 1.098274)),
}


def is_plain(transfer: int, primaries: int) -> bool:
    """Whether an ordinary screen shows a picture of this transfer and these primaries (numbers of H.273) as it is."""
    return transfer not in HDR and primaries not in _TO_BT709


@cache
def table(transfer: int, primaries: int) -> bytes:
    """What brings such a signal to SDR, as a .cube file for FFmpeg's lut3d: full range RGB in, full range RGB out."""
    axis = [_LIGHT.get(transfer, _sdr_light)(i / (POINTS - 1)) for i in range(POINTS)]
    lines = [f"LUT_3D_SIZE {POINTS}\n"]
    for blue in axis:
        for green in axis:
            for red in axis:
                shown = _signal(_seen((red, green, blue), transfer), primaries)
                lines.append(f"{shown[0]:.5f} {shown[1]:.5f} {shown[2]:.5f}\n")
    return "".join(lines).encode("ascii")


def _seen(light: Colour, transfer: int) -> Colour:
    """The light of an SDR screen in cd/m2, where white is WHITE, for what `_LIGHT` made of a signal."""
    if transfer not in HDR:
        return light
    red, green, blue = light
    if HDR[transfer] == "HLG":
        boost = PEAK * (0.2627 * red + 0.6780 * green + 0.0593 * blue) ** 0.2
        red, green, blue = boost * red, boost * green, boost * blue
    most = max(red, green, blue)
    share = _lowered(most) / most if most else 0.0
    return share * red, share * green, share * blue


def _signal(light: Colour, primaries: int) -> Colour:
    """The signal of BT.709 for such light of other primaries."""
    if primaries != _BT709:
        # HDR that does not say its primaries has those of BT.2020.
        rows = _TO_BT709.get(primaries, _TO_BT709[_BT2020])
        red, green, blue = (sum(share * value for share, value in zip(row, light, strict=True)) for row in rows)
        light = red, green, blue
    red, green, blue = (_encoded(value / WHITE) for value in light)
    return red, green, blue


def _encoded(light: float) -> float:
    """Not clipped, and a line below black: so what lies between two points of the table, one of them outside BT.709,
    comes out nearly right. FFmpeg clips."""
    return math.pow(light, 1 / 2.4) if light >= 0 else 4 * light


def _pq_light(signal: float) -> float:
    root = math.pow(signal, 1 / _M2)
    return 10_000 * math.pow(max(root - _C1, 0.0) / (_C2 - _C3 * root), 1 / _M1)


def _pq_signal(light: float) -> float:
    root = math.pow(light / 10_000, _M1)
    return math.pow((_C1 + _C2 * root) / (1 + _C3 * root), _M2)


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _hlg_scene(signal: float) -> float:
    """The light of the scene, 0 to 1: what the screen makes of it depends on all three channels."""
    return signal * signal / 3 if signal <= 0.5 else (math.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12


def _sdr_light(signal: float) -> float:
    return WHITE * math.pow(signal, 2.4)


_LIGHT = {16: _pq_light, 18: _hlg_scene}


def _lowered(light: float) -> float:
    """The EETF of BT.2390: PEAK becomes WHITE, by a spline in PQ above its knee."""
    signal = min(_pq_signal(light) / _PEAK_PQ, 1.0)
    if signal < _KNEE:
        return light
    t = (signal - _KNEE) / (1 - _KNEE)
    curve = (2 * t**3 - 3 * t**2 + 1) * _KNEE + (t**3 - 2 * t**2 + t) * (1 - _KNEE) + (3 * t**2 - 2 * t**3) * _TOP
    return _pq_light(curve * _PEAK_PQ)


_PEAK_PQ = _pq_signal(PEAK)
_TOP = _pq_signal(WHITE) / _PEAK_PQ
_KNEE = 1.5 * _TOP - 0.5
