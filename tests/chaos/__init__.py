"""The promise under fire: the real program on a real Kafka, with everything around it failing.

Load goes on while faults come and go; then a client that shares nothing with the gateway reads
the topics and compares them with every acknowledgement that was ever given.
"""
