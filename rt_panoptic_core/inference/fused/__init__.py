"""The graph as CUDA devices run it fastest: what surrounds the convolutions in kernels, written in Triton.

What a kernel computes is defined by the plain form that it replaces, which its docstring names; the tests
compare both. Nothing here is imported unless a device is to run it, since Triton comes with PyTorch's CUDA
builds alone.
"""
