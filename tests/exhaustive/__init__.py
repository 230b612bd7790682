"""Every order of events of the real parts between a document and Kafka, up to a bound."""
