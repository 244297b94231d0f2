"""slm-math: train small language models at mathematics, with agents, on PyTorch Lightning."""

__version__ = "0.1.0"
