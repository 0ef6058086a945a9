"""What trainers are asked for."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from lightning.fabric.connector import _PRECISION_INPUT

from skinaug.errors import InputError
from skinaug.models.devices import PRECISIONS, check_trainer, device_count
from skinaug.models.trainer import fully_sharded, make_trainer


@pytest.mark.parametrize(
    ("devices", "count"),
    [(1, 1), ("2", 2), ([0, 3], 2), ("0,1", 2), ("3,", 1), ("auto", None), (-1, None), ("-1", None)],
)
def test_devices_are_a_number_or_a_list(devices: Any, count: int | None):
    check_trainer({"devices": devices, "accelerator": "gpu"})
    assert device_count(devices) == count


@pytest.mark.parametrize("devices", [0, -2, 1.5, True, [], [0, 0], [-1], "two", "", ",", "0,0", None])
def test_other_devices_are_refused(devices: Any):
    with pytest.raises(InputError, match=r"trainer\.devices=.*such as \[0,1\]"):
        check_trainer({"devices": devices})


def test_every_fault_of_a_trainer_is_named():
    with pytest.raises(InputError) as refused:
        check_trainer({"devices": "x", "num_nodes": 0, "accelerator": "gpuu", "precision": "bf17"})
    assert [line.split("=")[0].strip() for line in str(refused.value).splitlines()[1:]] == [
        "trainer.devices",
        "trainer.num_nodes",
        "trainer.accelerator",
        "trainer.precision",
    ]


def test_precisions_are_lightnings():
    theirs = {str(name) for kind in get_args(_PRECISION_INPUT) for name in get_args(kind)}
    assert set(PRECISIONS) == theirs | {"auto"}


def test_a_list_of_devices_is_as_many_processes():
    """On the CPU, whose cores have no numbers."""
    assert make_trainer(accelerator="cpu", devices="0,1").num_devices == 2
    assert fully_sharded("0,1", 2)._data_parallel_size == 4
