"""AsyncAPI's official parser, in Node: what it has to say of a document."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.npm import Packages, packages

HERE = Path(__file__).parent
SCRIPT = HERE / "validate.mjs"
PINS = [HERE / "parser" / name for name in ("package.json", "package-lock.json")]


@dataclass(frozen=True, slots=True)
class Parser:
    """The installed parser. It takes examples that belie their schema: hold those yourself."""

    packages: Packages

    def diagnostics(self, document: dict[str, Any]) -> list[dict[str, str]]:
        """All that it says, each with `severity`, `code`, `place` and `message`."""
        said: list[dict[str, str]] = json.loads(self.packages.run(SCRIPT, json.dumps(document)))
        return said


def parser() -> Parser:
    """The parser, installed. NpmUnavailableError says why it cannot be."""
    return Parser(packages("asyncapi", PINS))
