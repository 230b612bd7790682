"""Rigs for faults that need more than a cluster behind proxies: `--scenario NAME`.

Most change mounts or devices, so they run in namespaces of their own, which end with them, whatever
happens.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import BridgeError
from tests.chaos.ground import Ground
from tests.chaos.rig import Network, Settings, new_cluster
from tests.support.brokers import KafkaCluster, kafka_libraries
from tests.support.clock import FaketimeUnavailableError, WallClock
from tests.support.hosts_file import HostsFile
from tests.support.maven import JarsUnavailableError
from tests.support.packets import HERE, Wire
from tests.support.volumes import Volume, VolumeUnavailableError

VOLUME_MEGABYTES = 192
OLD_VERSION = "4.0.0"
FIRST_ADDRESS = "127.0.0.2"
INSIDE = "SMS_CHAOS_INSIDE"  # set in the namespaces of our own

LACKING = (FaketimeUnavailableError, JarsUnavailableError, VolumeUnavailableError)
Rigged = tuple[KafkaCluster, Network, Ground]
Build = Callable[[Settings, Path, ExitStack], Rigged]


class UnavailableError(Exception):
    """This machine does not allow what the scenario does; the text says what."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """The settings, what is under them, and the namespaces it needs (`unshare`'s options)."""

    settings: Settings
    build: Build
    namespaces: tuple[str, ...] = ()

    def enter(self) -> None:
        """Go on in namespaces of its own; UnavailableError where this machine gives none.

        The program begins anew there: whoever calls this does it first.
        """
        if not self.namespaces or INSIDE in os.environ:
            return
        kafka_libraries()  # there may be no network there
        as_root = () if os.geteuid() == 0 else ("--user", "--map-root-user")
        unshare = ["unshare", *as_root, *self.namespaces, "--"]
        try:
            subprocess.run([*unshare, "true"], check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as exc:
            said = getattr(exc, "stderr", None) or exc
            raise UnavailableError(f"no namespaces of our own: {said}") from exc
        command = [*unshare, sys.executable, "-m", "tests.chaos", *sys.argv[1:]]
        os.execvpe(command[0], command, {**os.environ, INSIDE: "1"})

    def start(self, settings: Settings, stack: ExitStack) -> Rigged:
        """Build it and start its cluster, until the stack ends; UnavailableError as above."""
        scratch = tempfile.TemporaryDirectory(prefix="sms-chaos-ground-")
        try:
            cluster, network, ground = self.build(
                settings, Path(stack.enter_context(scratch)), stack
            )
            stack.enter_context(cluster)
        except (*LACKING, BridgeError, OSError, subprocess.CalledProcessError) as exc:
            raise UnavailableError(str(exc)) from exc
        for volume in ground.volumes.values():
            volume.sync()
        return cluster, network, ground


def _plain(settings: Settings, _: Path, __: ExitStack) -> Rigged:
    return (*new_cluster(settings.nodes), Ground())


def _on_volumes(settings: Settings, directory: Path, stack: ExitStack) -> Rigged:
    cluster, network = new_cluster(settings.nodes)
    volumes = {}
    for node in cluster.nodes:
        volumes[node] = volume = Volume(directory, f"disk-{node}", VOLUME_MEGABYTES)
        stack.callback(volume.unmount)
        cluster.overrides[node]["log.dirs"] = str(volume.path)
    return cluster, network, Ground(volumes=volumes)


def _by_clocks(settings: Settings, directory: Path, _: ExitStack) -> Rigged:
    cluster, network = new_cluster(settings.nodes)
    clocks = {node: WallClock(directory / f"clock-{node}") for node in cluster.nodes}
    for node, each in clocks.items():
        cluster.environment[node] = each.environment_of_a_broker
    clock = WallClock(directory / "clock")
    return cluster, network, Ground(clocks=clocks, clock=clock, environ=clock.environment)


def _by_names(settings: Settings, directory: Path, _: ExitStack) -> Rigged:
    hosts = HostsFile(directory / "hosts")
    network = Network(settings.nodes, host=FIRST_ADDRESS, named=True)
    hosts.lead(dict.fromkeys(network.names, FIRST_ADDRESS))
    return (*new_cluster(settings.nodes, network), Ground(hosts=hosts))


def _over_a_wire(settings: Settings, directory: Path, stack: ExitStack) -> Rigged:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    network = Network(settings.nodes, host=HERE)
    wire = Wire(directory, [proxy.port for proxy in network.proxies])
    stack.enter_context(wire)
    return (*new_cluster(settings.nodes, network), Ground(wire=wire, prefix=wire.prefix))


def _of_an_old_version(settings: Settings, _: Path, __: ExitStack) -> Rigged:
    return (*new_cluster(settings.nodes, version=OLD_VERSION), Ground())


MOUNTS, NETWORK = ("--mount",), ("--net",)
SCENARIOS = {
    "plain": Scenario(Settings(), _plain),
    "calm": Scenario(Settings(nodes=3, calm=True), _plain),
    "two-gateways": Scenario(
        Settings(
            gateways=2,
            faults=(
                "gateways-rolled",
                "gateway-killed",
                "gateway-terminated",
                "partitions-added",
                "topic-recreated",
                "cut-after-append",
                "broker-killed",
                "provider-half-open",
            ),
        ),
        _plain,
    ),
    "disks": Scenario(
        Settings(nodes=3, faults=("disk-full", "all-disks-full")), _on_volumes, MOUNTS
    ),
    "power": Scenario(Settings(nodes=3, faults=("power-cut",)), _on_volumes, MOUNTS),
    "power-flushed": Scenario(
        Settings(nodes=3, faults=("power-cut",), flushed=True), _on_volumes, MOUNTS
    ),
    "clocks": Scenario(Settings(faults=("gateway-clock", "broker-clock")), _by_clocks),
    "names": Scenario(Settings(faults=("names-moved",)), _by_names, MOUNTS),
    "packets": Scenario(Settings(faults=("packets",)), _over_a_wire, NETWORK),
    "upgrade": Scenario(Settings(nodes=3, faults=("brokers-upgraded",)), _of_an_old_version),
}
