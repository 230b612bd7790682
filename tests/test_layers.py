"""Who may import whom. A new import that breaks a layer has to be argued for here."""

import ast
from collections.abc import Container, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bridge"
STAGES = ("parse", "event", "ack", "kafka")
PURE = ("parse", "event", "ack", "model", "errors", "clip")
IMPURE = frozenset(
    {"aiokafka", "asyncio", "logging", "os", "random", "socket", "structlog", "time", "threading"}
)
# Each library with a job of its own, and the one place that does the job.
HOMES = {
    "aiokafka": {"kafka"},
    "xmltodict": {"parse", "demo"},
    "click": {"cli", "console", "demo"},
    "cloudevents": {"kafka"},
    "uvicorn": {"gateway"},
    "httptools": {"gateway", "simulate"},
    "httpx2": {"http_client", "provider"},
    "starlette": {"gateway", "inspector"},
    "jinja2": {"inspector"},
    "yaml": {"config", "demo"},
    "opentelemetry": {"observability"},
    "prometheus_client": {"observability"},
    "confluent_kafka": {"demo"},
}


def module_of(path: Path) -> str:
    """The part of the package that a file belongs to: a module, or a package within it."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def imported(path: Path) -> tuple[str, ...]:
    """Every dotted name that a file imports, wherever it does; relative ones made absolute."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    parents = list(path.relative_to(PACKAGE.parent).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{stem}.{alias.name}" for alias in node.names)


@cache
def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports_of(module: str) -> set[str]:
    return {name for path in files() if module_of(path) == module for name in imported(path)}


def parts_of(module: str) -> set[str]:
    """The parts of the package that a module imports."""
    names = [name.split(".") for name in imports_of(module)]
    return {name[1] for name in names if name[0] == "bridge" and len(name) > 1} - {module}


def test_the_modules_that_are_spoken_of_exist() -> None:
    """A renamed module must not slip out of these tests."""
    found = {module_of(path) for path in files()}

    assert found >= {*STAGES, *PURE}
    assert found >= {home for homes in HOMES.values() for home in homes}


@pytest.mark.parametrize("stage", STAGES)
def test_the_stages_do_not_import_each_other(stage: str) -> None:
    assert not parts_of(stage) & ({*STAGES} - {stage})


@pytest.mark.parametrize("module", PURE)
def test_the_pure_modules_know_no_io_no_clock_and_no_log(module: str) -> None:
    assert not {name.split(".")[0] for name in imports_of(module)} & IMPURE


@pytest.mark.parametrize("module", PURE)
def test_the_pure_modules_import_values_and_errors_alone(module: str) -> None:
    assert parts_of(module) <= {"model", "errors", "clip"}


def test_the_pipeline_knows_neither_http_nor_the_client_of_kafka() -> None:
    assert parts_of("pipeline") <= {"ack", "errors", "event", "model", "parse"}
    # asyncio: a dead letter is on its way while other events of its document still are.
    foreign = {"starlette", *IMPURE} - {"asyncio"}
    assert not {name.split(".")[0] for name in imports_of("pipeline")} & foreign


def test_the_configuration_knows_nothing_of_what_it_configures() -> None:
    assert parts_of("config") <= {"errors", "model"}


def test_the_contract_is_written_from_the_settings_and_the_events_alone() -> None:
    assert parts_of("contract") <= {"config", "errors", "event", "model"}


@pytest.mark.parametrize(("library", "homes"), HOMES.items())
def test_a_library_is_known_in_its_own_place_alone(library: str, homes: set[str]) -> None:
    users = {
        module_of(path)
        for path in files()
        if any(name.split(".")[0] == library for name in imported(path))
    }

    assert users
    assert users <= homes


def test_only_the_server_knows_the_inspector() -> None:
    """Who is watched must not notice: requests know the observation, and not who looks at it."""
    users = {module_of(path) for path in files() if "inspector" in parts_of(module_of(path))}
    assert users == {"gateway"}


def test_the_provider_s_api_is_asked_without_a_thought_of_kafka() -> None:
    assert parts_of("provider") <= {"ack", "clip", "config", "errors", "http_client", "parse"}


def test_requests_of_our_own_know_neither_whom_they_ask_nor_the_settings() -> None:
    assert parts_of("http_client") <= {"clip", "errors"}


def test_reconcile_knows_neither_http_nor_the_terminal() -> None:
    """It takes the stages of `serve`, and adds none of its own."""
    parts = {"clip", "config", "errors", "kafka", "model", "parse", "pipeline"}
    assert parts_of("reconcile") <= {*parts, "provider", "subscriber"}


def test_who_finds_a_message_knows_neither_http_nor_the_terminal() -> None:
    assert parts_of("find") <= {"config", "errors", "kafka", "subscriber"}


def test_the_replay_knows_neither_http_nor_the_terminal() -> None:
    parts = {"config", "errors", "event", "kafka", "model", "parse", "pipeline"}
    assert parts_of("replay") <= parts


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=lambda path: path.stem)
def test_a_command_imports_no_other_command(path: Path) -> None:
    """Else who calls one would pay for two. And only `serve` knows the gateway."""
    names = [name.split(".") for name in imported(path)]
    commands = {name[2] for name in names if name[:2] == ["bridge", "cli"]}
    parts = {name[1] for name in names if name[0] == "bridge" and len(name) > 1}

    assert commands <= ({"common"} - {path.stem})
    assert path.stem == "serve" or "gateway" not in parts


def test_who_looks_on_knows_nothing_of_the_gateway() -> None:
    assert not parts_of("observability") & {"gateway", "kafka", "cli", "inspector"}


def test_no_file_imports_itself_by_way_of_others() -> None:
    """Not for its types, either; but a package may import its own files. CycleError names them."""
    named = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in files()
    }
    names = {name.removesuffix(".__init__"): path for name, path in named.items()}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        found = {_file_of(each, names) for each in imported(path)}
        graph[name] = {each for each in found if each and not each.startswith(f"{name}.")}
    assert graph["bridge.gateway.http_protocol"] >= {"bridge.gateway.exchange"}
    TopologicalSorter(graph).prepare()


def _file_of(imported_name: str, names: Container[str]) -> str | None:
    parts = imported_name.split(".")
    heads = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((head for head in heads if head in names), None)


def test_nothing_imports_the_entry_points() -> None:
    """Who starts the program is at the top; `__main__` alone may import the commands."""
    for module in {module_of(path) for path in files()} - {"__main__", "cli"}:
        assert not parts_of(module) & {"__main__", "cli"}, module
