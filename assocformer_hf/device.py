"""What is settled before a model computes on a device."""

import ctypes
import logging
import os
import platform
import sys
from functools import cache

import torch

X86 = {"x86_64", "AMD64"}

logger = logging.getLogger(__name__)

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_")  # environment variables by which a user says so to glibc


def prepare_device(device: torch.device, mixed_precision: str) -> None:
    """Has a CPU keep the memory of freed tensors, and warns, once, of a precision in which it is slow.

    On a GPU nothing happens.

    Args:
        device: of the model.
        mixed_precision: `"no"`, `"fp16"`, `"bf16"`, or another of Accelerate's.
    """
    if device.type == "cpu":
        _keep_freed_memory()
        _warn_if_slow(mixed_precision)


def _keep_freed_memory():
    """Has glibc keep the memory of freed tensors for the next ones, instead of asking the system for each anew.

    The system clears every page that it gives: on a CPU a third of the time of a convolutional network's training step,
    and more of its forward pass. It holds for the process, which then takes up to half as much memory again. Nothing
    happens without glibc (macOS, Windows, Alpine), or where one of its environment variables, `MALLOC_TRIM_THRESHOLD_`
    or `MALLOC_MMAP_MAX_`, says what to do.
    """
    if sys.platform != "linux" or any(name in os.environ for name in CHOSEN):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def is_slow_on_cpu(mixed_precision: str) -> bool:
    """Whether oneDNN has no kernels of that precision for this CPU, so that torch falls back to slow ones."""
    checks = {"bf16": "_is_mkldnn_bf16_supported", "fp16": "_is_mkldnn_fp16_supported"}
    if mixed_precision not in checks or not torch.backends.mkldnn.is_available() or platform.machine() not in X86:
        return False
    return not getattr(torch.ops.mkldnn, checks[mixed_precision], lambda: True)()


def overflows_in_int8() -> bool:
    """Whether sums of two products of 8-bit numbers overflow: on x86 without VNNI, where they have 16 bits.

    Source: onnxruntime's documentation of quantisation, "When and why do I need to try U8U8?".
    """
    return platform.machine() in X86 and not torch.cpu._is_vnni_supported()


@cache
def _warn_if_slow(mixed_precision: str):
    if is_slow_on_cpu(mixed_precision):
        logger.warning(
            f"mixed precision {mixed_precision}: torch has no fast kernels of it for this CPU, and is many times "
            "slower in it than in float32; leave mixed_precision out (or set it to no)"
        )
