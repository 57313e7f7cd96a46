"""Exit codes of errors that no command foresaw."""

import pytest

from jaxreid import cli, cli_config, hosts, report


@pytest.mark.parametrize(
    ("error", "joined", "code", "words"),
    [
        (RuntimeError("RESOURCE_EXHAUSTED: 9 GiB"), False, 1, "the memory of the devices is used"),
        (RuntimeError("RESOURCE_EXHAUSTED: 9 GiB"), True, 1, "the memory of the devices is used"),
        (RuntimeError("Connection closed"), True, 69, "another process of this run was lost"),
        (RuntimeError("Connection closed"), False, 70, "Traceback"),
        (KeyError("surprise"), True, 70, "Traceback"),
    ],
)
def test_exit_codes_of_what_was_not_foreseen(error, joined, code, words, monkeypatch, capsys):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(report, "write_report", fail)
    monkeypatch.setattr(cli_config, "free_values", lambda *_: {})
    monkeypatch.setattr(hosts, "joined", lambda: joined)
    monkeypatch.setattr(hosts, "leave", lambda code: code)
    assert cli.main(["report", "--workdir", "run"]) == code
    assert words in capsys.readouterr().err
