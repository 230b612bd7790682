"""Models of what the code cannot show by itself: brokers that replicate, pods, operators.

docs/model.md says what they cover, and what they assume of Kafka.
"""
