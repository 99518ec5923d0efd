"""The core's policies on timm's models, compared name by name with what timm's own functions give.

The folder isn't called `timm`: `tests` is on the path of imports, and a folder `timm` there would pass for timm.
"""

import pytest
from torch import nn

from optim_core import build_optimizers

pytest.importorskip("timm", reason="timm is not installed; the nox session 'timm' has it")
from timm import create_model
from timm.optim import param_groups_layer_decay, param_groups_weight_decay

RATE, DECAY, FACTOR = 1e-3, 0.05, 0.75
KEY = "adamw_warmup_cosine_decay"
PARAMS = {
    KEY: {"peak_lr": RATE, "warmup_steps": 2, "total_steps": 10},
    "adamw_cosine_schedule": {"max_lr": RATE, "total_steps": 10},
    "schedule_free_radam": {"lr": RATE},
}
VIT, CONVNEXT = "vit_tiny_patch16_224", "convnext_atto"
MODELS = [
    VIT,
    CONVNEXT,
    "swin_tiny_patch4_window7_224",
    "beit_base_patch16_224",
    "eva02_tiny_patch14_224",
    "xcit_nano_12_p16_224",
    "deit_tiny_distilled_patch16_224",
    "vit_tiny_r_s16_p8_224",
    "coatnet_pico_rw_224",
    "mixer_s32_224",
    "resnet18",
    "efficientnet_b0",
    "mobilenetv3_small_050",
]
CASES = [
    *((name, {}, KEY) for name in MODELS),
    *((name, {"num_classes": 0}, KEY) for name in (VIT, CONVNEXT, "resnet18")),
    *((VIT, {}, key) for key in PARAMS if key != KEY),
]
each_case = pytest.mark.parametrize(("name", "options", "key"), CASES)


def by_name(module, groups):
    """The share of the rate of each parameter, and its weight decay."""
    group_of = {id(parameter): group for group in groups for parameter in group["params"]}
    named = {name: group_of[id(p)] for name, p in module.named_parameters() if id(p) in group_of}
    shares = {name: group.get("lr_scale", 1.0) for name, group in named.items()}
    return shares, {name: group["weight_decay"] for name, group in named.items()}


def by_policies(module, policies, key=KEY, models=None, component="net"):
    """What `build_optimizers` gives each parameter of a module."""
    spec = {"type": key, "params": {**PARAMS[key], "weight_decay": DECAY}, "param_groups": policies}
    optimizer = build_optimizers(models or {component: module}, {component: spec}, uncovered="ignore")[component]
    rates = [(group, group.get("peak_lr", group["lr"])) for group in optimizer.param_groups]
    return by_name(module, [{**group, "lr_scale": rate / RATE} for group, rate in rates])


def listed(module):
    """What timm's `create_optimizer_v2` has for `no_weight_decay_list`."""
    return module.no_weight_decay() if hasattr(module, "no_weight_decay") else ()


def by_timm_weight_decay(module):
    return by_name(module, param_groups_weight_decay(module, DECAY, no_weight_decay_list=listed(module)))


def by_timm_layer_decay(module):
    groups = param_groups_layer_decay(module, DECAY, no_weight_decay_list=listed(module), layer_decay=FACTOR)
    return by_name(module, groups)


@each_case
def test_no_weight_decay_spares_what_timm_spares(name, options, key):
    module = create_model(name, pretrained=False, **options)

    shares, decays = by_policies(module, "no_weight_decay", key)

    expected, expected_decays = by_timm_weight_decay(module)
    assert shares == pytest.approx(expected)
    assert decays == expected_decays
    assert set(decays.values()) == {0.0, DECAY}


@each_case
def test_layer_decay_scales_what_timm_scales(name, options, key):
    module = create_model(name, pretrained=False, **options)

    shares, decays = by_policies(module, ["no_weight_decay", {"layer_decay": FACTOR}], key)

    expected, expected_decays = by_timm_layer_decay(module)
    assert shares == pytest.approx(expected)
    assert decays == expected_decays
    assert len(set(expected.values())) > 5


@pytest.mark.parametrize("name", [VIT, CONVNEXT])
def test_a_model_that_is_part_of_another_has_the_same(name):
    whole = nn.ModuleDict({"backbone": create_model(name, pretrained=False), "head": nn.Linear(2, 2)})
    policies = ["no_weight_decay", {"layer_decay": FACTOR}]

    shares, decays = by_policies(whole["backbone"], policies, models=whole, component="backbone")

    expected, expected_decays = by_timm_layer_decay(whole["backbone"])
    assert shares == pytest.approx(expected)
    assert decays == expected_decays


def test_what_was_frozen_before_changes_nothing_for_the_rest():
    module = create_model(VIT, pretrained=False)
    module.patch_embed.requires_grad_(False)
    module.blocks[:3].requires_grad_(False)

    shares, decays = by_policies(module, ["no_weight_decay", {"layer_decay": FACTOR}])

    expected, expected_decays = by_timm_layer_decay(module)
    assert {name: shares[name] for name in expected} == pytest.approx(expected)
    assert {name: decays[name] for name in expected} == expected_decays


def test_a_vision_transformer_as_written_by_hand():
    module = create_model(VIT, pretrained=False)
    in_block = {f"{part}.{kind}" for part in ("norm1", "norm2") for kind in ("weight", "bias")}
    in_block |= {
        f"{part}.{kind}" for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2") for kind in ("weight", "bias")
    }
    # Layer 0 is what the blocks are given; the last norm goes with the last block, and the head is layer 13.
    layers = dict.fromkeys(["cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"], 0)
    layers |= {f"blocks.{index}.{name}": index + 1 for index in range(12) for name in in_block}
    layers |= {"norm.weight": 12, "norm.bias": 12, "head.weight": 13, "head.bias": 13}
    matrices = ("proj.weight", "qkv.weight", "fc1.weight", "fc2.weight", "head.weight")

    shares, decays = by_policies(module, ["no_weight_decay", {"layer_decay": FACTOR}])

    assert shares == pytest.approx({name: FACTOR ** (13 - layer) for name, layer in layers.items()})
    assert decays == {name: DECAY if name.endswith(matrices) else 0.0 for name in layers}
