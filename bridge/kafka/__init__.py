"""Messages become outcomes. The only package that knows aiokafka."""

from bridge.kafka.causes import CAUSES
from bridge.kafka.publisher import Publisher
from bridge.kafka.supervisor import Supervisor

__all__ = ["CAUSES", "Publisher", "Supervisor"]
