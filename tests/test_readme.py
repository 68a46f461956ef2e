"""The README's example runs and says what the README says."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_python_example(capsys) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    exec(compile(code, str(README), "exec"), {})
    assert "{1: 0.552, 5: 0.808, 10: 0.892}" in capsys.readouterr().out
