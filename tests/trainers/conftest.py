"""What the tests of all trainers share: a folder to write to, and no network."""

import socket

import pytest


@pytest.fixture(autouse=True)
def _only_the_test_folder(tmp_path, monkeypatch):
    """What a trainer writes without being told where goes to the test's own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """A trainer that calls home, or looks for files on a hub, fails its test."""
    connect = socket.socket.connect

    def connect_here_only(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1"):
            raise AssertionError(f"a connection to {address} was asked for")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here_only)
