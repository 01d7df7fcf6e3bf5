"""The functions of torch and Python that a graph in a file may call, as data. What is not here, no file calls.

Each is a function of its operands alone: it reads no files, runs no code, knows no addresses, and checks what it is
given itself, whatever that is. ``tests/fuzz/files.py`` calls all of them, with every overload that this torch has,
with arguments that are made to harm. Left out on purpose: gradients (``*_backward``) and helpers that trust their
caller (``_reshape_alias``, ``_fft_r2c``, ``_weight_norm``, ``_unsafe_index``, batch statistics), eigenvalues (the
library ends the process where a value is not finite), polynomials (as many steps as an argument says).
"""

from __future__ import annotations

from itertools import chain

import torch

FAMILIES: dict[str, str] = {
    "of one value": """
        abs absolute acos acosh angle arccos arccosh arcsin arcsinh arctan arctanh asin asinh atan atanh bitwise_not
        ceil conj conj_physical cos cosh deg2rad digamma entr erf erfc erfcx erfinv exp exp2 expit expm1 fix floor frac
        frexp gammaln i0 i0e i1 i1e imag isfinite isinf isnan isneginf isposinf isreal lgamma log log10 log1p log2
        log_ndtr logical_not logit nan_to_num ndtr ndtri neg negative positive psi rad2deg real reciprocal resolve_conj
        resolve_neg round rsqrt sgn sigmoid sign signbit sin sinc sinh sqrt square tan tanh trunc""",
    "of two values": """
        add addcdiv addcmul allclose arctan2 atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift
        bitwise_xor clamp clamp_max clamp_min clip complex copysign div divide eq equal float_power floor_divide fmax
        fmin fmod gcd ge greater greater_equal gt heaviside hypot isclose isin lcm ldexp le lerp less less_equal
        logaddexp logaddexp2 logical_and logical_or logical_xor lt maximum minimum mul multiply ne nextafter not_equal
        polar pow remainder rsub sub subtract true_divide where xlog1py xlogy
        __and__ __lshift__ __or__ __rshift__ __xor__""",
    "activations": """
        celu elu gelu glu gumbel_softmax hardshrink hardsigmoid hardswish hardtanh leaky_relu log_sigmoid log_softmax
        logsigmoid mish prelu relu relu6 rrelu selu silu softmax softmin softplus softshrink softsign tanhshrink
        threshold _log_softmax _prelu_kernel _softmax""",
    "reductions": """
        all amax amin aminmax any argmax argmin cdist corrcoef cosine_similarity count_nonzero cov cummax cummin cumprod
        cumsum cumulative_trapezoid diff dist frobenius_norm logcumsumexp logsumexp matrix_norm max mean median min mode
        nanmean nanmedian nanquantile nansum norm normalize nuclear_norm pairwise_distance pdist prod quantile renorm
        std std_mean sum trace trapezoid trapz var var_mean vector_norm""",
    "moves": """
        adjoint alias as_strided atleast_1d atleast_2d atleast_3d block_diag broadcast_tensors broadcast_to cat chunk
        column_stack concat concatenate constant_pad_nd diag diag_embed diagflat diagonal diagonal_scatter dsplit dstack
        expand expand_as flatten flip fliplr flipud hsplit hstack mH mT matrix_H meshgrid moveaxis movedim narrow
        numpy_T pad pad_sequence permute ravel reflection_pad1d reflection_pad2d reflection_pad3d repeat
        repeat_interleave replication_pad1d replication_pad2d replication_pad3d reshape reshape_as roll rot90 row_stack
        select select_scatter slice slice_scatter split split_with_sizes squeeze stack sum_to_size swapaxes swapdims t
        tensor_split tile transpose tril triu unbind unflatten unfold unsafe_chunk unsafe_split unsafe_split_with_sizes
        unsqueeze view view_as view_as_complex view_as_real vsplit vstack _unsafe_view""",
    "by index": """
        argsort argwhere bucketize embedding gather index index_add index_copy index_fill index_put index_reduce
        index_select kthvalue masked_fill masked_scatter masked_select msort nonzero one_hot scatter scatter_add
        scatter_reduce searchsorted sort take take_along_dim topk unique unique_consecutive unravel_index _unique2""",
    "of another dtype, or the same": """
        bfloat16 bool byte cdouble cfloat char clone contiguous copy cpu detach double float half int lift_fresh
        lift_fresh_copy long short to type_as requires_grad_ _to_copy""",
    "about a tensor": """
        broadcast_shapes can_cast dim element_size get_device is_complex is_conj is_contiguous is_floating_point is_neg
        is_nonzero is_same_size is_signed item ndimension nelement numel promote_types result_type size storage_offset
        stride tolist""",
    "products": """
        addbmm addmm addmv addr baddbmm bilinear bmm chain_matmul cross dot einsum ger inner kron linear matmul
        matrix_exp matrix_power mm multi_dot multi_head_attention_forward mv outer scaled_dot_product_attention
        tensordot vdot vecdot _scaled_dot_product_attention_math _scaled_dot_product_flash_attention_for_cpu""",
    "matrices": """
        cholesky cholesky_ex cholesky_solve det eigh eigvalsh inv inv_ex inverse logdet lu_factor pinv pinverse qr
        slogdet solve solve_ex solve_triangular svd svdvals""",
    "layers": """
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
        adaptive_max_pool1d_with_indices adaptive_max_pool2d adaptive_max_pool2d_with_indices adaptive_max_pool3d
        adaptive_max_pool3d_with_indices affine_grid affine_grid_generator alpha_dropout avg_pool1d avg_pool2d
        avg_pool3d batch_norm channel_shuffle col2im conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d
        conv_transpose3d convolution dropout dropout1d dropout2d dropout3d embedding_bag feature_alpha_dropout
        feature_dropout fold grid_sample grid_sampler grid_sampler_2d grid_sampler_3d group_norm im2col instance_norm
        interpolate layer_norm local_response_norm lp_pool1d lp_pool2d lp_pool3d max_pool1d max_pool1d_with_indices
        max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices max_unpool1d max_unpool2d max_unpool3d
        native_batch_norm native_channel_shuffle native_dropout native_group_norm native_layer_norm pixel_shuffle
        pixel_unshuffle rms_norm upsample upsample_bicubic2d upsample_bilinear upsample_bilinear2d upsample_linear1d
        upsample_nearest upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d
        _adaptive_avg_pool2d _adaptive_avg_pool3d _native_batch_norm_legit_no_training _upsample_bicubic2d_aa
        _upsample_bilinear2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d""",
    "random numbers": """
        cauchy exponential geometric log_normal normal_functional poisson random uniform""",
    "recurrent layers": """
        gru gru_cell lstm lstm_cell rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell""",
    "spectra": """
        fft fft2 fftn fftshift hfft hfft2 hfftn ifft ifft2 ifftn ifftshift ihfft ihfft2 ihfftn irfft irfft2 irfftn istft
        rfft rfft2 rfftn stft""",
}
"""Names: of functions of :data:`SPACES`, of methods of tensors, and of PyTorch's operators."""

MADE = frozenset({
    "arange", "as_tensor", "bernoulli", "cartesian_prod", "combinations", "empty", "empty_like", "eye", "fftfreq",
    "full", "full_like", "hamming_window", "hann_window", "linspace", "logspace", "multinomial", "new_empty",
    "new_full", "new_ones", "new_tensor", "new_zeros", "normal", "ones", "ones_like", "rand", "rand_like", "randint",
    "randint_like", "randn", "randn_like", "randperm", "range", "rfftfreq", "scalar_tensor", "tensor", "tril_indices",
    "triu_indices", "vander", "zeros", "zeros_like",
})  # fmt: skip
"""Names of the functions that make a tensor, of a size that is given."""

IN_PLACE = ("of one value", "of two values", "activations", "reductions", "by index", "products")
"""The families whose functions may also change their operand (``clamp_``)."""
CHANGES = (
    "alpha_dropout_", "bernoulli_", "cauchy_", "copy_", "dropout_", "exponential_", "feature_alpha_dropout_",
    "feature_dropout_", "fill_", "geometric_", "log_normal_", "normal_", "random_", "tril_", "triu_", "uniform_",
    "zero_",
)  # fmt: skip

OPERATORS = (
    "abs", "add", "and_", "concat", "contains", "eq", "floordiv", "ge", "getitem", "gt", "iadd", "iand", "ifloordiv",
    "ilshift", "imatmul", "imod", "imul", "index", "invert", "ior", "ipow", "irshift", "is_", "is_not", "isub",
    "itruediv", "ixor", "le", "lshift", "lt", "matmul", "mod", "mul", "ne", "neg", "not_", "or_", "pos", "pow",
    "rshift", "setitem", "sub", "truediv", "truth", "xor",
)  # fmt: skip
SYMBOLIC = ("_sym_sqrt", "sym_float", "sym_int", "sym_max", "sym_min")
"""Functions of torch of sizes that an export leaves free."""
MATH = ("ceil", "cos", "exp", "floor", "isqrt", "log", "log2", "pow", "prod", "sin", "sqrt", "trunc")
BUILTINS = ("abs", "bool", "divmod", "float", "getattr", "int", "len", "max", "min", "pow", "round", "sum")

_OF_TENSORS = frozenset({
    "H", "T", "data", "device", "dtype", "imag", "is_cuda", "is_leaf", "is_meta", "is_quantized", "is_sparse",
    "itemsize", "layout", "mH", "mT", "nbytes", "ndim", "real", "requires_grad", "shape",
})  # fmt: skip
_OF_RESULTS = frozenset(
    name
    for result in vars(torch.return_types).values()
    if isinstance(result, type)
    for name in getattr(result, "__match_args__", ())
)
"""Of the tuples that functions of torch return: ``torch.sort(x).values``."""
ATTRIBUTES = _OF_TENSORS | _OF_RESULTS
"""Attributes that ``getattr`` may read."""
CONTAINER_METHODS = frozenset({"get", "items", "keys", "values"})

NAMES = frozenset(chain.from_iterable(names.split() for names in FAMILIES.values())) | MADE
CHANGING = frozenset(f"{name}_" for family in IN_PLACE for name in FAMILIES[family].split()) | frozenset(CHANGES)

SIZED = MADE | {
    "broadcast_to", "constant_pad_nd", "expand", "interpolate", "one_hot", "pad", "repeat", "repeat_interleave", "tile",
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "upsample", "upsample_nearest",
    "upsample_bilinear", "fft", "ifft", "rfft", "irfft", "hfft", "ihfft", "fft2", "fftn", "ifft2", "ifftn", "rfft2",
    "rfftn", "irfft2", "irfftn", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d",
    "replication_pad2d", "replication_pad3d", "diag_embed", "unfold",
}  # fmt: skip
"""Names of the functions whose result is as large as their numbers say."""
FILLED = frozenset({"full", "full_like", "new_full", "tensor", "as_tensor", "new_tensor", "scalar_tensor"})
"""Those of them that take numbers which are values: only a size that comes first counts."""
