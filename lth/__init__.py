"""Lottery tickets at scale. The science and the storage; knows nothing of Prefect or Ray."""

__version__ = "0.1.0"
