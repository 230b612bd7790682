"""`python -m tests.fuzzing.guided TARGET PROGRAM ARGUMENT...`: one target under atheris.

The arguments are libFuzzer's, which starts the program to have more processes. It ends this one:
with 77 if an input does not hold.
"""

import sys

import atheris

with atheris.instrument_imports(include=["bridge", "xmltodict", "yaml"]):
    from tests.fuzzing.targets import TARGETS, bounded


def main() -> None:
    """Fuzz until libFuzzer has enough."""
    _, name, *arguments = sys.argv
    with TARGETS[name]() as one:
        atheris.Setup(arguments, bounded(one))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
