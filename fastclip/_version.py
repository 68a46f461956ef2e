"""The version, here alone: pyproject.toml reads it, and a checkout that is not installed has it."""

__version__ = "0.1.0"
