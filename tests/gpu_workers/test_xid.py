from __future__ import annotations

import pytest

from gpu_workers.xid import DECODER, FATAL, PROGRAM, Fault, fault


@pytest.mark.parametrize("number", sorted(DECODER))
def test_an_error_of_a_decoder_is_the_files_affair(number: int) -> None:
    assert fault(number) is Fault.INPUT


@pytest.mark.parametrize(
    ("number", "whose"),
    [
        (13, Fault.PROGRAM),  # graphics engine exception
        (31, Fault.PROGRAM),  # memory page fault
        (43, Fault.PROGRAM),  # the GPU stopped processing
        (45, Fault.PROGRAM),  # preemptive cleanup
        (48, Fault.GPU),  # double bit ECC error
        (79, Fault.GPU),  # fallen off the bus
        (94, Fault.GPU),  # contained ECC error
        (95, Fault.GPU),  # uncontained ECC error
        (119, Fault.GPU),  # GSP RPC timeout
        (4242, Fault.GPU),  # unknown
    ],
)
def test_whose_fault_it_is(number: int, whose: Fault) -> None:
    assert fault(number) is whose


def test_no_number_is_in_two_lists() -> None:
    assert not DECODER & PROGRAM
    assert not (DECODER | PROGRAM) & FATAL
