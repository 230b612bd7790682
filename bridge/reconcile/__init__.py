"""What the provider knows and the topic does not: asked for, and published as `serve` would."""
