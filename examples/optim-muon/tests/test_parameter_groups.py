"""What goes to which algorithm: by `parameter_groups`, and by the hook that a build calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from optim_core import ConfigurationError, InvalidArgumentsError, build_optimizers, load_checkpoint, save_checkpoint
from torch import nn

from optim_muon import MuonAdamWWithWarmupCosine, parameter_groups

PARAMS: dict[str, Any] = {"peak_lr": "1e-2", "total_steps": 20, "warmup_steps": 2}


class Transformer(nn.Module):
    def __init__(self, *, tied: bool = False) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 8)
        self.positions = nn.Parameter(torch.zeros(5, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 11, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.norm(self.layers(self.words(words) + self.positions)))
        return scores


def names_for(algorithm: str, module: nn.Module, groups: list[dict[str, Any]]) -> set[str]:
    found = {id(p) for group in groups if group["algorithm"] == algorithm for p in group["params"]}
    return {name for name, parameter in module.named_parameters() if id(parameter) in found}


def hidden_matrices(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if name.startswith("layers.") and parameter.ndim == 2}


@pytest.mark.parametrize("tied", [False, True])
def test_hidden_matrices_are_for_muon_and_all_else_for_adamw(tied: bool) -> None:
    module = Transformer(tied=tied)

    groups = parameter_groups(module)

    assert names_for("muon", module, groups) == hidden_matrices(module) | {"positions"}
    assert sum(len(group["params"]) for group in groups) == len(list(module.parameters()))
    assert [group["algorithm"] for group in groups] == ["muon", "adamw"]


def test_which_layer_is_taken_to_be_the_output_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "optim_muon"):
        parameter_groups(Transformer())
        parameter_groups(Transformer(), ["positions"])

    assert caplog.messages == ["Transformer: taken to be the output, and so for AdamW: head"]


def test_patterns_that_are_one_text_are_refused_with_the_list() -> None:
    with pytest.raises(InvalidArgumentsError, match=r"adamw_names = 'head\.\*': must be a list(.|\n)*\['head\.\*'\]"):
        parameter_groups(Transformer(), "head.*")


def test_patterns_take_the_place_of_the_last_linear_layer() -> None:
    module = Transformer()

    muon = names_for("muon", module, parameter_groups(module, ["positions", "layers.*.linear?.*"]))

    expected = {name for name in hidden_matrices(module) if ".linear" not in name}
    assert muon == expected | {"head.weight"}


def test_tied_parameters_go_by_either_name() -> None:
    module = nn.ModuleDict({"first": nn.Linear(4, 4), "second": nn.Linear(4, 4)})
    module["second"].weight = module["first"].weight

    assert [group["algorithm"] for group in parameter_groups(module, ["second.weight"])] == ["adamw"]


def test_group_that_would_be_empty_is_left_out() -> None:
    assert [group["algorithm"] for group in parameter_groups(nn.LayerNorm(3))] == ["adamw"]
    assert [group["algorithm"] for group in parameter_groups(nn.Linear(3, 3, bias=False), [])] == ["muon"]


def test_pattern_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidArgumentsError, match=r"adamw_names = 'haed\.\*': no parameter has such a name"):
        parameter_groups(Transformer(), ["haed.*"])


def test_build_uses_the_groups_for_this_key_only() -> None:
    model = nn.ModuleDict({"text": Transformer(), "image": nn.Sequential(nn.Conv2d(3, 4, 2), nn.Linear(4, 4))})
    component = {"type": "muon_adamw_warmup_cosine", "params": PARAMS}
    patterns = {"type": "muon_adamw_warmup_cosine", "params": {**PARAMS, "adamw_names": ["0.*"], "adamw_peak_lr": 1e-3}}

    optimizers = build_optimizers(model, {"text": component, "image": patterns})

    text, image = optimizers["text"], optimizers["image"]
    assert isinstance(text, MuonAdamWWithWarmupCosine)
    assert names_for("muon", model["text"], text.param_groups) == hidden_matrices(model["text"]) | {"positions"}
    assert names_for("muon", model["image"], image.param_groups) == {"1.weight"}
    assert [group["peak_lr"] for group in image.param_groups] == [1e-2, 1e-3]


def test_pattern_of_nothing_is_a_problem_of_the_configuration() -> None:
    params = {**PARAMS, "adamw_names": ["haed.*"]}

    with pytest.raises(ConfigurationError, match=r"text\.params\.adamw_names = 'haed\.\*': no parameter"):
        build_optimizers({"text": Transformer()}, {"text": {"type": "muon_adamw_warmup_cosine", "params": params}})


def test_training_resumes_bit_for_bit_from_a_checkpoint_folder(tmp_path: Path) -> None:
    configuration = {"text": {"type": "muon_adamw_warmup_cosine", "params": PARAMS}}
    words = torch.arange(20).reshape(4, 5) % 11

    def train(model: nn.Module, optimizers: Any, steps: range) -> None:
        for step in steps:
            optimizers.zero_grad()
            scores = model["text"]((words + step) % 11)  # type: ignore[index]
            torch.autograd.backward(nn.functional.cross_entropy(scores.flatten(0, 1), words.flatten()))
            optimizers.step()

    model = nn.ModuleDict({"text": Transformer()})
    optimizers = build_optimizers(model, configuration)
    train(model, optimizers, range(6))
    save_checkpoint(tmp_path / "run", model, optimizers)
    train(model, optimizers, range(6, 10))

    resumed = nn.ModuleDict({"text": Transformer()})
    fresh = build_optimizers(resumed, configuration)
    load_checkpoint(tmp_path / "run", resumed, fresh)
    train(resumed, fresh, range(6, 10))

    assert all(map(torch.equal, model.state_dict().values(), resumed.state_dict().values()))
