"""How long a program takes at least, by what its device can do at most."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from jaxreid import flops as limits
from jaxreid.bench import hlo, measure, traffic

_SHOWN = 10
BOUNDS = {
    "compute": "operations",
    "memory": "memory bandwidth",
    "link": "communication",
}
"""What may bound a program, and how it is called on the screen."""


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Work of one run of a program on one device, beside the device's limits.

    Attributes:
      flops: operations of matrix products and convolutions.
      bytes: moved through main memory.
      sent: bytes sent to other devices.
      device: its limits; None where they are not known.
    """

    flops: float
    bytes: float
    sent: float
    device: limits.Device | None

    @classmethod
    def of(cls, counted: traffic.Traffic, device_kind: str) -> Roofline:
        """Takes the work from a count, the limits by the device's name."""
        return cls(counted.flops, counted.bytes, counted.sent, limits.device(device_kind))

    @property
    def intensity(self) -> float:
        """Operations for each byte moved."""
        return self.flops / self.bytes if self.bytes else 0.0

    @property
    def seconds_by_bound(self) -> dict[str, float]:
        """Seconds that each limit alone would leave; empty where they are not known."""
        if self.device is None:
            return {}
        return {
            "compute": self.flops / self.device.flops,
            "memory": self.bytes / self.device.bandwidth,
            "link": self.sent / self.device.link,
        }

    @property
    def bound(self) -> str | None:
        """The limit that is reached first."""
        by_bound = self.seconds_by_bound
        return max(by_bound, key=lambda name: by_bound[name]) if by_bound else None

    @property
    def seconds(self) -> float | None:
        """Seconds that the program takes at least; None where no limit is known."""
        return max(self.seconds_by_bound.values(), default=None)

    def numbers(self, measured: float | None = None) -> dict[str, Any]:
        """Returns all of it for JSON.

        Args:
          measured: seconds that a run took.
        """
        found = {
            "flops": self.flops,
            "bytes": self.bytes,
            "bytes_sent": self.sent,
            "flops_per_byte": self.intensity,
            "device": self.device,
            "seconds_by_bound": self.seconds_by_bound,
            "bound": self.bound,
            "seconds": self.seconds,
        }
        if measured:
            found |= {
                "flops_per_second": self.flops / measured,
                "bytes_per_second": self.bytes / measured,
                "share_reached": self.seconds / measured if self.seconds else None,
            }
        return found


def of_program(compiled: Any, device_kind: str, devices: int) -> Roofline | None:
    """Counts a compiled program; None where its text cannot be read.

    Args:
      compiled: what ``lower(...).compile()`` returns.
      device_kind: as ``jax.Device.device_kind`` has it.
      devices: that run it together.
    """
    try:
        program = hlo.Program.read(compiled.as_text())
    except ValueError:
        return None
    return Roofline.of(traffic.measure(program, devices), device_kind)


def total(lines: Iterable[Roofline | None], share: float = 1.0) -> Roofline | None:
    """Adds up runs of programs on one device; None where one of them is not known.

    Args:
      lines: of each run.
      share: of the sum; 1 / runs gives the mean.
    """
    found = list(lines)
    known = [line for line in found if line is not None]
    if not known or len(known) < len(found):
        return None
    names = ("flops", "bytes", "sent")
    sums = {name: share * sum(getattr(line, name) for line in known) for name in names}
    return Roofline(**sums, device=known[0].device)


def rows(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Writes a measured program's roofline for the screen, see `Roofline.numbers`."""
    found = [
        ("moved a device", f"{measure.gib(numbers['bytes'])} through main memory"),
        ("intensity", f"{numbers['flops_per_byte']:.3g} FLOP a byte"),
    ]
    if numbers["bytes_sent"]:
        found.append(("sent a device", measure.gib(numbers["bytes_sent"])))
    rates = ""
    if "flops_per_second" in numbers:
        rates = (
            f"{numbers['flops_per_second'] / 1e12:.3g} TFLOP/s and "
            f"{numbers['bytes_per_second'] / 1e9:.3g} GB/s reached on a device"
        )
    if numbers["bound"] is None:
        return [*found, ("roofline", "; ".join([*[rates] * bool(rates), "limits not known"]))]
    least = f"{numbers['seconds']:.4g} s at least, by {BOUNDS[numbers['bound']]}"
    share = numbers.get("share_reached")
    reached = f"{100 * share:.1f}% of it reached" if share else ""
    return [*found, ("roofline", "; ".join(part for part in (least, reached, rates) if part))]


def mover_rows(counted: traffic.Traffic) -> list[tuple[str, str]]:
    """Writes the largest movers for the screen."""
    found = []
    for place, mover in enumerate(counted.movers[:_SHOWN], start=1):
        runs = f" in {mover.runs} runs" if mover.runs > 1 else ""
        padding = f", {100 * mover.padding / mover.bytes:.0f}% padding" if mover.padding else ""
        copy = ", a layout copy" if mover.is_layout_copy else ""
        where = hlo.readable(mover.op_name) or "no name"
        value = f"{mover.bytes / 1e9:.3g} GB{runs}{padding}{copy}: {mover.name} ({where})"
        found.append((f"{place}.", value))
    return found
