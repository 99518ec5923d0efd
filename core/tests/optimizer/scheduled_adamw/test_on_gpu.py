"""`ScheduledAdamW` on a GPU: its choice, counts on devices, a gradient scaler, loading and capture."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from core_support.adamw_training import (
    FOREACH,
    FUSED,
    comes_and_goes,
    complex_parameter,
    follow,
    give_gradients,
    ours,
    parameters,
    params_of,
    scaled_step,
    set_rates,
    values,
    ways,
)


@pytest.mark.gpu
class TestOnGPU:
    @pytest.mark.parametrize("devices", [("cuda",), ("cpu", "cuda"), ("cuda", "cpu")], ids=str)
    def test_is_fused_and_has_the_values_of_pytorch(self, devices: tuple[str, ...]) -> None:
        def spread() -> list[Parameter]:
            return [Parameter(p.detach().to(device)) for device in devices for p in parameters()]

        optimizer, oracle = ours(spread()), torch.optim.AdamW(spread(), fused=True)

        follow(optimizer, oracle, range(6), comes_and_goes)

        assert ways(optimizer) == [FUSED]

    def test_groups_on_several_devices_have_the_values_of_a_loop(self) -> None:
        def groups() -> list[dict[str, Any]]:
            return [{"params": parameters()}, {"params": [Parameter(p.detach().cuda()) for p in parameters()]}]

        optimizer, loop = ours(groups()), torch.optim.AdamW(groups(), foreach=False)

        for step in range(6):
            set_rates(loop, step)
            for each in (optimizer, loop):
                give_gradients(each, step)
                each.step()

        assert ways(optimizer) == [FUSED] * 2
        torch.testing.assert_close(params_of(optimizer), params_of(loop))

    def test_counts_leave_the_device_where_a_complex_parameter_joins(self) -> None:
        optimizer = ours([Parameter(p.detach().cuda()) for p in parameters()])
        oracle = torch.optim.AdamW([Parameter(p.detach().cuda()) for p in parameters()], foreach=True)
        for step in range(6):
            if step == 3:
                assert {state["step"].device.type for state in optimizer.state.values()} == {"cuda"}
                for each in (optimizer, oracle):
                    each.add_param_group({"params": [Parameter(complex_parameter().detach().cuda())]})
                assert {state["step"].device.type for state in optimizer.state.values()} == {"cpu"}
            set_rates(oracle, step)
            for each in (optimizer, oracle):
                give_gradients(each, step)
                each.step()

        assert ways(optimizer) == [FOREACH] * 2
        torch.testing.assert_close(params_of(optimizer), params_of(oracle))

    def test_counts_come_to_the_device_where_the_choice_turns_to_fused(self) -> None:
        optimizer = ours([Parameter(torch.ones(2, device="cuda")), Parameter(complex_parameter().detach().cuda())])
        give_gradients(optimizer, 0)
        optimizer.step()
        del optimizer.param_groups[0]["params"][1]

        optimizer.add_param_group({"params": [Parameter(torch.ones(2, device="cuda"))]})

        assert ways(optimizer) == [FUSED] * 2
        # Before a step, which would read them there.
        assert optimizer.state[params_of(optimizer)[0]]["step"].device.type == "cuda"
        give_gradients(optimizer, 1)
        optimizer.step()
        assert float(optimizer.state[params_of(optimizer)[0]]["step"]) == 2.0

    def test_gradient_scaler_skips_overflows_and_unscales_the_rest(self) -> None:
        def on_device() -> list[Parameter]:
            return [Parameter(p.detach().cuda()) for p in parameters()]

        optimizer, loop = ours(on_device()), torch.optim.AdamW(on_device(), foreach=False)
        scaler, other_scaler = torch.amp.GradScaler("cuda"), torch.amp.GradScaler("cuda")
        updates = 0
        for batch in range(8):
            overflow = batch in (0, 3)
            set_rates(loop, updates)
            scaled_step(optimizer, scaler, batch, overflow)
            scaled_step(loop, other_scaler, batch, overflow)
            updates += not overflow

            assert optimizer.schedule_step == updates
            torch.testing.assert_close(params_of(optimizer), params_of(loop))

    @pytest.mark.parametrize(("saved_on", "loaded_on"), [("cpu", "cuda"), ("cuda", "cpu")])
    def test_state_saved_on_one_device_continues_fused_on_another(self, saved_on: str, loaded_on: str) -> None:
        source = ours([Parameter(p.detach().to(saved_on)) for p in parameters()])
        for step in range(3):
            give_gradients(source, step)
            source.step()
        resumed = ours([Parameter(p.detach().to(loaded_on)) for p in params_of(source)])

        resumed.load_state_dict(copy.deepcopy(source.state_dict()))

        assert ways(resumed) == [FUSED]
        assert {state["step"].device.type for state in resumed.state.values()} == {loaded_on}
        for step in range(3, 6):
            for each in (source, resumed):
                give_gradients(each, step)
                each.step()
        torch.testing.assert_close([p.cpu() for p in params_of(resumed)], [p.cpu() for p in params_of(source)])

    def test_captured_step_replays_with_the_rate_of_each_step(self) -> None:
        params, others = ([Parameter(p.detach().cuda()) for p in parameters()] for _ in range(2))
        optimizer, oracle = ours(params, capturable=True), torch.optim.AdamW(others, fused=True)
        gradients = [values(*p.shape, seed=index).cuda() for index, p in enumerate(params)]
        for p, q, gradient in zip(params, others, gradients, strict=True):
            p.grad, q.grad = gradient.clone(), gradient.clone()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                optimizer.step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            optimizer.step()
        for _ in range(5):
            graph.replay()

        for step in range(8):
            set_rates(oracle, step)
            oracle.step()
        assert ways(optimizer) == [FUSED]
        assert optimizer.schedule_step == 8
        torch.testing.assert_close(params, others)
