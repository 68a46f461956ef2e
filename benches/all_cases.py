"""All bench cases by name."""

from __future__ import annotations

from collections.abc import Callable

import cases
import coder_cases
import distillation_cases
import filter_cases
import hard_positive_cases
import openness_cases
import ranks_cases
import sweep_cases
import ttd_cases
from cases import Case

CASES: dict[str, Callable[[], Case]] = {
    **cases.CASES,
    **coder_cases.CASES,
    **distillation_cases.CASES,
    **filter_cases.CASES,
    **hard_positive_cases.CASES,
    **openness_cases.CASES,
    **ranks_cases.CASES,
    **sweep_cases.CASES,
    **ttd_cases.CASES,
}
