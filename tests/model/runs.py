"""What is checked: each run is a model with bounds, and either holds or must be broken.

A control takes away one thing that the promise rests on. It must be broken, or a model that holds
shows nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """A model's constants (`#define`), and the invariant that breaks; None if all must hold."""

    name: str
    model: str
    constants: Mapping[str, int]
    breaks: str | None = None


def _replication(name: str, breaks: str | None = None, /, **constants: int) -> Run:
    """One post, sent once, unless it is said."""
    return Run(name, "replication", {"POSTS": 1, "ATTEMPTS": 1} | constants, breaks)


def _repeats(name: str, breaks: str | None = None, /, **constants: int) -> Run:
    """One pod, two attempts and no faults, unless it is said."""
    faults = ("RECREATED", "DELETED", "CUTS", "ELECTIONS", "REPLACED", "CRASHES")
    usual = dict.fromkeys(faults, 0) | {"PODS": 1, "ATTEMPTS": 2}
    return Run(name, "suppression", usual | constants, breaks)


# The bounded version: some seconds each.
QUICK = (
    _replication("a crash, a cut-off leader, a lagging follower", CRASHES=1),
    _replication("a second attempt", ATTEMPTS=2, CRASHES=1, SHRINKS=0),
    _replication("a broker loses its log", CRASHES=1, LOST_LOGS=1, ISOLATED=0),
    _repeats(
        "what operators and brokers do to the log", RECREATED=1, DELETED=1, CUTS=1, ELECTIONS=1
    ),
    _repeats("a producer is replaced", RECREATED=1, DELETED=1, CUTS=1, REPLACED=1),
    _repeats("two pods, one is killed", PODS=2, RECREATED=1, CRASHES=1),
    _repeats("two states at once", STATES=2, RECREATED=1),
)

LONG = (
    _replication("two posts at once", POSTS=2, CRASHES=1, ISOLATED=0),
    _replication("two crashes, a cut-off leader, a lagging follower", CRASHES=2),
    _replication("min.insync.replicas=1, and no log is lost", CRASHES=2, MIN_INSYNC=1),
    _repeats("three attempts at two pods", PODS=2, ATTEMPTS=3, RECREATED=1, DELETED=1, CUTS=1),
    _repeats(
        "two pods, all faults",
        PODS=2,
        RECREATED=1,
        DELETED=1,
        CUTS=1,
        ELECTIONS=1,
        REPLACED=1,
        CRASHES=1,
    ),
)

CONTROLS = (
    _replication("acks=1", "I1", ACKS_ALL=0, CRASHES=0),
    _replication("unclean election", "I1", UNCLEAN=1),
    _replication(
        "unclean election and min.insync.replicas=1", "I1", UNCLEAN=1, MIN_INSYNC=1, CRASHES=1
    ),
    _replication(
        "min.insync.replicas=1, and a broker loses its log",
        "I1",
        MIN_INSYNC=1,
        CRASHES=1,
        LOST_LOGS=1,
        ISOLATED=0,
    ),
    _replication("two brokers fail, one of them loses its log", "I1", LOST_LOGS=1, ISOLATED=0),
    _replication("more in sync are asked for than there are", "I6", MIN_INSYNC=4, CRASHES=0),
    _replication("listed before the broker answers", "I1", ANSWER_COUNTS=0, CRASHES=0),
    _replication(
        "unknown is taken for published", "I1", ATTEMPTS=2, UNKNOWN_IS_NOT_LISTED=0, CRASHES=0
    ),
    _repeats("the topic's id is not asked for", "I1", CHECK_ID=0, RECREATED=1),
    _repeats("the leader's epoch is not asked for", "I1", CHECK_EPOCH=0, CUTS=1),
    _repeats("the log's start is not asked for", "I1", CHECK_START=0, DELETED=1),
    _repeats("the id is asked for before the start", "I1", START_FIRST=0, RECREATED=1, DELETED=1),
    _repeats("the topic is looked at after sending", "I1", SEEN_BEFORE=0, RECREATED=1),
    _repeats("remembered before the broker answers", "I1", ANSWER_FILLS=0),
    _repeats("a broker that lags describes the topic", "I1", FRESH_METADATA=0, RECREATED=1),
    _repeats("listed before anything is sent", "I1", ANSWER_COUNTS=0),
    _repeats("reconcile settles before it publishes", "I6", SETTLE_LAST=0, CRASHES=1),
)
