"""Joining a cluster: an address of none is one sentence, at once."""

from __future__ import annotations

import pytest
from servers import free_ports

from fastsam_batch.errors import InputError
from fastsam_batch.ray_cluster import check_answers, joined_ray


@pytest.mark.parametrize("form", ["http://127.0.0.1:{port}", "127.0.0.1:{port}", "ray://127.0.0.1:{port}", "nonsense"])
def test_an_address_of_no_cluster_is_refused(form, monkeypatch):
    address = form.format(port=free_ports(1)[0])
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError, match="ray job submit") as refused, joined_ray(verbose=False):
        pass
    told = str(refused.value)
    assert told.startswith(f"RAY_ADDRESS {address}: ") and "\n" not in told and len(told) < 250


@pytest.mark.parametrize("address", ["auto", "local", "http://127.0.0.1:1"])
def test_what_names_no_port_of_ray_s_is_left_to_ray(address):
    check_answers(address)
