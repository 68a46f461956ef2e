"""Texts by a chat model."""

from .endpoint import ChatEndpoint, EndpointError

__all__ = ["ChatEndpoint", "EndpointError"]
