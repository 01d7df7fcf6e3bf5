"""The rules for functions that need no arithmetic: queries, views, comparisons, order, changes in place."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from qfx.tensor import change, order, views

Rule: TypeAlias = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""What to do for a function, its arguments and keyword arguments."""

RULES: dict[Callable[..., Any], Rule] = {}
"""By the function that ``__torch_function__`` is given."""

_PLACES = (torch, F, torch._C._nn)


def _spellings(name: str) -> Iterable[Callable[..., Any]]:
    """Every function, method or property getter of torch called ``name``."""
    for place in _PLACES:
        if callable(getattr(place, name, None)):
            yield getattr(place, name)
    attribute: Any = getattr(Tensor, name, None)
    if callable(attribute):
        yield attribute
    elif attribute is not None:
        yield attribute.__get__


def _register(rule: Rule, names: str) -> None:
    """``rule`` for those of ``names`` that this torch has."""
    RULES.update((spelled, rule) for name in names.split() for spelled in _spellings(name))


_register(
    views.query,
    "shape size dim ndim ndimension stride numel nelement storage_offset data_ptr device layout is_contiguous "
    "element_size itemsize nbytes _version requires_grad grad grad_fn is_leaf is_cpu is_cuda is_sparse is_mkldnn "
    "is_meta is_mps is_xpu is_nested output_nr names __len__ __hash__ untyped_storage "
    "get_device "
    "is_floating_point is_complex is_signed is_same_size is_pinned is_inference is_conj is_neg is_set_to dim_order "
    "_is_view _base retain_grad retains_grad is_coalesced has_names is_vulkan is_ipu is_maia is_xla is_mtia "
    "is_quantized",
)
_register(views.shared, "is_shared share_memory_")
_register(views.same_channels, "contiguous clone detach data to cpu alias pin_memory requires_grad_")
_register(views.permuted, "transpose permute t T mT swapaxes swapdims movedim moveaxis")
_register(
    views.moved,
    "reshape reshape_as flatten unflatten ravel select narrow expand expand_as broadcast_to as_strided unsqueeze "
    "squeeze unbind split split_with_sizes chunk tensor_split hsplit vsplit dsplit unfold diagonal index_select gather "
    "take take_along_dim masked_select flip fliplr flipud roll rot90 repeat tile repeat_interleave diag tril triu "
    "swapaxes_ swapdims_ transpose_ t_ squeeze_ unsqueeze_ __reversed__ select_copy "
    "pixel_shuffle pixel_unshuffle channel_shuffle",
)
_register(views.view, "view view_as")
_register(views.get_item, "__getitem__")
_register(
    order.on_values,
    "eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ __ge__ greater greater_equal less less_equal not_equal "
    "isnan isinf isfinite isclose allclose argmax argmin argsort nonzero count_nonzero item tolist __bool__ __float__ "
    "__int__ __index__ __contains__ is_nonzero __format__",
)
_register(order.with_indices, "sort topk kthvalue msort")
_register(order.extreme, "max min")
_register(order.equal, "equal")
_register(change.copy_, "copy_")
_register(change.fill_, "fill_ zero_ masked_fill_ masked_fill index_fill_ index_fill full_like zeros_like ones_like")
_register(change.empty_like, "empty_like")
_register(change.set_item, "__setitem__")
_register(change.resize_, "resize_ resize_as_")
_register(change.no_gradient, "register_hook")
_register(
    views.method,
    "int_repr dequantize qscheme q_scale q_zero_point q_per_channel_scales q_per_channel_zero_points "
    "q_per_channel_axis",
)
RULES[operator.getitem] = views.get_item
RULES[vars(torch._C.TensorBase)["requires_grad"].__set__] = change.no_gradient
