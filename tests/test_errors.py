from bridge.errors import BridgeError, ConfigError, DocumentError, Problem


def test_every_problem_of_a_configuration_is_one_line() -> None:
    error = ConfigError(
        "bridge.yaml",
        (Problem(3, 7, "kafka.topic", "must not be empty"), Problem(0, 0, "", "cannot be read")),
    )

    assert str(error).splitlines() == [
        "bridge.yaml:3:7: kafka.topic: must not be empty",
        "bridge.yaml: cannot be read",
    ]


def test_a_document_error_reads_as_its_detail() -> None:
    error = DocumentError("not_xml", "no element found", 3)

    assert str(error) == "no element found"
    assert (error.reason, error.line) == ("not_xml", 3)


def test_both_are_the_bridges_own() -> None:
    assert issubclass(ConfigError, BridgeError)
    assert issubclass(DocumentError, BridgeError)
