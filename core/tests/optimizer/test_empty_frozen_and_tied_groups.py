"""States of empty groups, frozen parameters and tied parameters are matched by name."""

import pytest
from torch import nn

from core_support.reordered_builds import (
    ORDER,
    REGISTRY,
    REORDERED,
    STEPS,
    assert_named_right,
    build,
    configuration,
    each_key,
    trained,
)
from core_support.reordered_runs import Network, assert_same, each_route, everything, states, through_optimizer, train
from optim_core import ResumeWarning, StateMismatchError, build_optimizers, load_checkpoint, save_checkpoint


@pytest.mark.parametrize(("before", "after"), [(True, True), (True, False), (False, True)])
def test_a_group_without_parameters_may_come_and_go(tmp_path, before, after):
    run = trained("with_empty_group", {"spare": before})
    save_checkpoint(tmp_path, *run)
    resumed = build("with_empty_group", {"spare": after}, order=REORDERED, seed=1)
    if before == after:
        load_checkpoint(tmp_path, *resumed)
    else:
        with pytest.warns(ResumeWarning, match="spare"):
            load_checkpoint(tmp_path, *resumed)
    assert_same(states(resumed[0], resumed[1]["net"]), states(run[0], run[1]["net"]))
    assert_named_right(resumed[0], resumed[1]["net"])


@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True)])
def test_a_bare_state_with_another_number_of_empty_groups_is_refused_in_words(before, after):
    state = trained("with_empty_group", {"spare": before})[1].state_dict()
    resumed = build("with_empty_group", {"spare": after})
    with pytest.raises(StateMismatchError) as caught:
        resumed[1].load_state_dict(state)
    message = str(caught.value)
    assert "groups: ." not in message
    assert "groups  of" not in message


@each_route
@each_key
def test_frozen_parameters_without_state_stay_without(tmp_path, key, route):
    def run(order, seed):
        models = {"net": Network(order, seed)}
        models["net"].first.requires_grad_(False)
        return models, build_optimizers(models, configuration(key), registry=REGISTRY)

    saved, resumed = run(ORDER, 0), run(REORDERED, 1)
    train(*saved, 0, STEPS)
    route(saved, resumed, tmp_path)
    assert "first.weight" not in states(resumed[0], resumed[1]["net"])
    for each in (saved, resumed):
        train(*each, STEPS, 2 * STEPS)
    assert_same(everything(*resumed), everything(*saved))


class Tied(nn.Module):
    """An embedding whose weights are the output's too; whichever is registered first names them."""

    def __init__(self, order):
        super().__init__()
        for name in order:
            self.add_module(name, nn.Linear(4, 4, bias=False))
        self.output.weight = self.embed.weight

    def forward(self, inputs):
        return self.output(self.hidden(self.embed(inputs)).tanh())


@each_route
@each_key
@pytest.mark.parametrize("order", [("embed", "output", "hidden"), ("hidden", "output", "embed")])
def test_tied_parameters_are_one_whichever_name_comes_first(tmp_path, key, order, route):
    def run(order):
        models = {"net": Tied(order)}
        return models, build_optimizers(models, configuration(key), registry=REGISTRY)

    saved, resumed = run(("embed", "hidden", "output")), run(order)
    train(*saved, 0, STEPS)
    if route is through_optimizer and order[0] != "embed":
        # An optimizer alone knows no module, and so no further names.
        with pytest.raises(StateMismatchError, match=r"not in the checkpoint: 'output.weight'; only .*'embed.weight'"):
            route(saved, resumed, tmp_path)
        return
    route(saved, resumed, tmp_path)
    for each in (saved, resumed):
        train(*each, STEPS, 2 * STEPS)
    assert_same(resumed[0]["net"].state_dict(), saved[0]["net"].state_dict())
