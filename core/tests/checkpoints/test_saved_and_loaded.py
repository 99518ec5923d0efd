"""What a checkpoint holds: a run resumed from it is the run that went through, bit for bit."""

import pytest
import torch
from torch import nn

from core_support.checkpointed_training import (
    CONFIGURATION,
    REGISTRY,
    Averaged,
    everything,
    make,
    make_models,
    same,
    train,
)
from optim_core import (
    ComponentOptimizers,
    UncoveredParametersWarning,
    build_optimizers,
    load_checkpoint,
    save_checkpoint,
)


def test_a_resumed_run_ends_with_the_very_weights_of_one_that_went_through(tmp_path):
    models, optimizers = make()
    train(models, optimizers, 20)
    save_checkpoint(tmp_path, models, optimizers, extra={"step": 20})
    train(models, optimizers, 20, start=20)

    resumed, resumed_optimizers = make(seed=1)
    extra = load_checkpoint(tmp_path, resumed, resumed_optimizers)
    train(resumed, resumed_optimizers, 20, start=extra["step"])

    assert same(everything(resumed, resumed_optimizers), everything(models, optimizers))


def test_saving_changes_nothing_not_even_the_last_bit(tmp_path):
    models, optimizers = make()
    train(models, optimizers, 7)
    before = everything(models, optimizers)

    save_checkpoint(tmp_path, models, optimizers)

    assert same(everything(models, optimizers), before)


def test_weight_files_hold_the_evaluation_weights(tmp_path):
    models, optimizers = make()
    train(models, optimizers, 7)
    training = models["head"].weight.detach().clone()
    save_checkpoint(tmp_path, models, optimizers)

    published = make_models(seed=5)
    load_checkpoint(tmp_path, published, None)

    torch.testing.assert_close(published["head"].weight, training / 0.3)
    assert torch.equal(published["body"].weight, models["body"].weight)


def test_an_optimizer_saved_in_evaluation_mode_is_loaded_in_it(tmp_path):
    models, optimizers = make()
    train(models, optimizers, 3)
    optimizers.eval()
    before = everything(models, optimizers)
    save_checkpoint(tmp_path, models, optimizers)

    resumed, resumed_optimizers = make(seed=1)
    load_checkpoint(tmp_path, resumed, resumed_optimizers)

    assert same(everything(resumed, resumed_optimizers), before)


def test_a_checkpoint_saved_before_the_first_step_is_resumed(tmp_path):
    models, optimizers = make()
    save_checkpoint(tmp_path, models, optimizers)
    resumed, resumed_optimizers = make(seed=1)
    load_checkpoint(tmp_path, resumed, resumed_optimizers)
    train(models, optimizers, 5)
    train(resumed, resumed_optimizers, 5)
    assert same(everything(resumed, resumed_optimizers), everything(models, optimizers))


def test_one_module_is_saved_whole(tmp_path):
    configuration = {"0": {"type": "adamw"}, "2.0": {"type": "averaged"}}

    def build(seed):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False), nn.Sequential(nn.Linear(4, 2)))
        return model, build_optimizers(model, configuration, registry=REGISTRY)

    model, optimizers = build(0)
    model(torch.randn(9, 4)).sum().backward()
    optimizers.step()
    save_checkpoint(tmp_path, model, optimizers)
    other, other_optimizers = build(1)
    load_checkpoint(tmp_path, other, other_optimizers)

    assert same(dict(other.state_dict()), dict(model.state_dict()))
    assert same(other_optimizers.state_dict(), optimizers.state_dict())


def test_a_wrapped_module_loads_into_a_bare_one(tmp_path):
    models, optimizers = make()
    train(models, optimizers, 2)
    wrapped = {name: nn.DataParallel(module) for name, module in models.items()}
    save_checkpoint(tmp_path, wrapped, optimizers)
    bare, bare_optimizers = make(seed=1)
    load_checkpoint(tmp_path, bare, bare_optimizers)
    assert same(everything(bare, bare_optimizers), everything(models, optimizers))


def test_extra_comes_back(tmp_path):
    models, optimizers = make()
    extra = {"step": 3, "rng": torch.get_rng_state(), "nested": {"list": [1, 2.5, "three", None, (True,)]}}
    save_checkpoint(tmp_path, models, optimizers, extra=extra)
    assert same(load_checkpoint(tmp_path, models, optimizers), extra)


def test_parameters_in_another_order_are_matched_by_name(saved):
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(8))
            self.weight = nn.Parameter(torch.zeros(8, 4))

    models = nn.ModuleDict({**dict(make_models().items()), "body": Turned()})
    optimizers = build_optimizers(models, CONFIGURATION, registry=REGISTRY)
    load_checkpoint(saved, models, optimizers)
    original, original_optimizers = make()
    load_checkpoint(saved, original, original_optimizers)
    for name in ("weight", "bias"):
        state = optimizers["body"].state[getattr(models["body"], name)]
        expected = original_optimizers["body"].state[getattr(original["body"], name)]
        assert expected["exp_avg"].any()
        assert torch.equal(state["exp_avg"], expected["exp_avg"])


def test_training_weights_of_parameters_without_a_name_are_restored(tmp_path):
    def build(seed):
        models, optimizers = make(seed=seed)
        late = nn.Parameter(torch.randn(3, generator=torch.Generator().manual_seed(seed)))
        optimizers["head"].add_param_group({"params": [("late", late)]})
        return models, optimizers, late

    models, optimizers, late = build(0)
    late.grad = torch.ones(3)
    optimizers.step()
    models["late"] = nn.ParameterList([late])
    save_checkpoint(tmp_path, models, optimizers)
    resumed, resumed_optimizers, resumed_late = build(1)
    resumed["late"] = nn.ParameterList([resumed_late])
    load_checkpoint(tmp_path, resumed, resumed_optimizers)
    assert torch.equal(resumed_late, late)


def weights(models):
    return {name: value.clone() for name, value in models.state_dict().items()}


def test_optimizers_put_together_by_hand_are_resumed_exactly(tmp_path):
    def build(seed):
        models = make_models(seed)
        return models, ComponentOptimizers({"head": Averaged(models["head"].parameters(), lr=0.1)})

    models, optimizers = build(0)
    save_checkpoint(tmp_path, models, optimizers)
    resumed, resumed_optimizers = build(1)
    load_checkpoint(tmp_path, resumed, resumed_optimizers)
    assert same(weights(resumed), weights(models))


def test_the_version_of_a_module_travels_with_its_weights(tmp_path):
    class Versioned(nn.Linear):
        _version = 3
        seen = None

        def _load_from_state_dict(self, state, prefix, metadata, *rest):
            type(self).seen = metadata.get("version")
            super()._load_from_state_dict(state, prefix, metadata, *rest)

    models = {"net": Versioned(2, 2)}
    optimizers = build_optimizers(models, {"net": {"type": "adamw"}}, registry=REGISTRY)
    save_checkpoint(tmp_path, models, optimizers)
    load_checkpoint(tmp_path, models, optimizers)
    assert Versioned.seen == 3


@pytest.mark.parametrize("on_mismatch", ["config", "checkpoint", "error"])
def test_a_group_added_later_is_resumed_with_its_own_peak(tmp_path, on_mismatch):
    def build(seed):
        models, optimizers = make(seed=seed)
        models["frozen"].requires_grad_(True)
        optimizers["body"].add_param_group({"params": list(models["frozen"].parameters()), "lr": 0.003})
        return models, optimizers

    models, optimizers = build(0)
    train(models, optimizers, 5)
    optimizers["body"].param_groups[1]["peak_lr"] = 0.001
    train(models, optimizers, 5)
    save_checkpoint(tmp_path, models, optimizers)
    resumed, resumed_optimizers = build(1)
    load_checkpoint(tmp_path, resumed, resumed_optimizers, on_mismatch=on_mismatch)
    assert same(everything(resumed, resumed_optimizers), everything(models, optimizers))


def test_what_a_module_dict_itself_owns_is_saved_and_missed(tmp_path):
    class Models(nn.ModuleDict):
        def __init__(self, value):
            super().__init__({"body": nn.Linear(4, 8)})
            self.scale = nn.Parameter(torch.full((2,), value))

    def build(value):
        models = Models(value)
        with pytest.warns(UncoveredParametersWarning, match=r"scale \(2 parameters\)"):
            return models, build_optimizers(models, {"body": {"type": "adamw"}}, registry=REGISTRY)

    models, optimizers = build(7.0)
    save_checkpoint(tmp_path, models, optimizers)
    resumed, resumed_optimizers = build(1.0)
    load_checkpoint(tmp_path, resumed, resumed_optimizers)
    assert resumed.scale.tolist() == [7, 7]


def test_wrapped_entries_of_a_module_dict_load_into_bare_ones(tmp_path):
    models, optimizers = make()
    wrapped = nn.ModuleDict({name: nn.DataParallel(module) for name, module in models.items()})
    save_checkpoint(tmp_path, wrapped, optimizers)
    bare, bare_optimizers = make(seed=1)
    load_checkpoint(tmp_path, bare, bare_optimizers)
    assert same(everything(bare, bare_optimizers), everything(models, optimizers))
