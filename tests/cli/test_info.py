import json
import subprocess
import sys

import torch
from typer.testing import CliRunner

import fastclip
from fastclip.cli import app
from fastclip.data import samples

run = CliRunner().invoke


def test_info_as_json_holds_the_configuration_and_the_samples():
    result = run(app, ["info", "--json"])
    assert result.exit_code == 0
    info = json.loads(result.stdout)
    assert info["config"]["fastclip"] == fastclip.__version__
    assert info["config"]["threads"] == str(torch.get_num_threads())
    assert info["samples"] == samples()


def test_info_shows_each_setting_and_sample():
    result = run(app, ["info"], env={"COLUMNS": "120"})
    assert result.exit_code == 0
    for name, line in samples().items():
        assert name in result.stdout
        assert line in result.stdout
    assert f"torch                    {torch.__version__}" in result.stdout


def test_version():
    result = run(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"fastclip {fastclip.__version__}\n")


def test_no_command_shows_the_help():
    assert run(app, []).stdout == run(app, ["--help"]).stdout
    assert run(app, []).exit_code == 0
    assert "topk" in run(app, []).stdout


def test_unknown_command_is_a_usage_error():
    result = run(app, ["search"])
    assert result.exit_code == 2
    assert "search" in result.stderr


def test_help_loads_nothing_that_only_a_command_needs():
    heavy = "'matplotlib', 'jinja2', 'pyarrow', 'sklearn'"
    code = (
        "import sys; from typer.testing import CliRunner; from fastclip.cli import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        f"print([name for name in ({heavy}) if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
