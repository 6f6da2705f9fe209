from dataclasses import replace

from mixfleet.config import Spec
from mixfleet.storage.manifest import loosened_gates


def test_gates_wider_than_the_usual_ones_are_named() -> None:
    assert loosened_gates(Spec()) == []
    tighter = replace(Spec().inference, rhat_max=1.005, ess_floor=500, ebfmi_min=0.4)
    assert loosened_gates(replace(Spec(), inference=tighter)) == []
    loose = replace(Spec().inference, rhat_max=1.05, ess_floor=100, ebfmi_min=0.1)
    assert loosened_gates(replace(Spec(), inference=loose)) == [
        "inference.rhat_max is 1.05, usually 1.01",
        "inference.ess_floor is 100, usually 400",
        "inference.ebfmi_min is 0.1, usually 0.3",
    ]
