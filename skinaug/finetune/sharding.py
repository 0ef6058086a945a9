"""Fine-tuning on several devices: weights, gradients and optimizer states in pieces (FSDP), for bases that one device cannot hold."""

from __future__ import annotations

from typing import Any

from diffusers import DiffusionPipeline
from lightning import Trainer
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from skinaug.models.families.table import denoiser
from skinaug.models.text_length import text_encoders


def is_sharded(trainer: Trainer) -> bool:
    """Whether the trainer's strategy has each device hold a piece of every weight."""
    return isinstance(trainer.strategy, ModelParallelStrategy)


def patient(strategy: Strategy) -> dict[str, Any]:
    """Options of a Trainer, for weights of which some reach no prediction: devices that each hold all of them would wait for their
    gradients."""
    return {"strategy": DDPStrategy(find_unused_parameters=True)} if isinstance(strategy, DDPStrategy) else {}


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Spread a network's weights over devices, block by block: only one block's are whole at a time. Zhao et al. 2023 (arXiv
    2304.11277).

    Args:
        network: of diffusers or transformers, which name the blocks that belong together.
        mesh: the devices.
    """
    blocks = set(getattr(network, "_no_split_modules", None) or ())
    for part in reversed([part for part in network.modules() if type(part).__name__ in blocks]):
        fully_shard(part, mesh=mesh)  # inner blocks before those around them
    fully_shard(network, mesh=mesh)


def whole_weights(trainer: Trainer) -> dict[str, Any]:
    """The weights of a sharded module put together, on the main process; {} on the others. All processes must call it."""
    return trainer.strategy.lightning_module_state_dict()


def put_weights(pipeline: DiffusionPipeline, weights: dict[str, Any]) -> None:
    """Give a pipeline, prepared as the one that learned, what `whole_weights` of its module returned."""
    networks = {"denoiser": denoiser(pipeline)}
    networks |= {f"text_encoders.{name}": network for name, network, _ in text_encoders(pipeline)}
    for prefix, network in networks.items():
        own = {
            name.removeprefix(f"{prefix}."): value
            for name, value in weights.items()
            if name.startswith(f"{prefix}.")
        }
        network.load_state_dict(own)
