"""All bench cases by name."""

from __future__ import annotations

import cases
import openness_cases
import sweep_cases
import ttd_cases

CASES = {**cases.CASES, **openness_cases.CASES, **sweep_cases.CASES, **ttd_cases.CASES}
