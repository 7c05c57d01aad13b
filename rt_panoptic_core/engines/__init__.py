"""The same graph on PyTorch, OpenVINO and TensorRT, and the cache of built engines."""
