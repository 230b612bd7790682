"""The provider's API: asks it for the states of messages, and for its clock. Publishes nothing."""
