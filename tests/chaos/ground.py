"""What a scenario puts under a run, if the machine allows it: disks, clocks, names, a wire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.support.clock import WallClock
from tests.support.hosts_file import HostsFile
from tests.support.packets import Wire
from tests.support.volumes import Volume


@dataclass(frozen=True, slots=True)
class Ground:
    """By default nothing: all is the machine's own.

    `volumes` are the disks of the brokers, `clocks` their wall clocks, by node; `clock` is the
    gateways'. `hosts` leads names to addresses, and `wire` is between the gateways and all else.
    `prefix` and `environ` are the gateways', as in Program.
    """

    volumes: Mapping[int, Volume] = field(default_factory=dict)
    clocks: Mapping[int, WallClock] = field(default_factory=dict)
    clock: WallClock | None = None
    hosts: HostsFile | None = None
    wire: Wire | None = None
    prefix: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
