"""What tests of feature files expect of errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastclip.data import FeatureFileError, read_features


def fails(path: Path, *reasons: str, **arguments: str) -> FeatureFileError:
    with pytest.raises(FeatureFileError) as caught:
        read_features(path, **arguments)
    message = str(caught.value)
    assert str(path) in message.split(": ")[0]
    for reason in reasons:
        assert reason in message
    return caught.value
