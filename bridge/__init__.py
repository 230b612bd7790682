"""A gateway from an SMS provider's delivery status webhook to CloudEvents on Kafka."""

__version__ = "0.1.0"
