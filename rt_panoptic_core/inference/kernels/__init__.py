"""The method's inner loops for CUDA devices, in Triton: each is one pass where PyTorch makes dozens.

What a kernel computes is defined by the plain form that it replaces, which its docstring names; the tests
compare both. Nothing here is imported unless a device is to run it, since Triton comes with PyTorch's CUDA
builds alone.
"""
