"""What a hostile sender, an unlucky proxy or a broken one would do, and what comes of it.

`python -m tests.attacks [NAMES…]` runs the attacks on the real program, each for some ten seconds,
and prints a figure a row. They judge nothing: docs/findings.md says what the figures must be.
"""
