"""Arguments that torch's calls take and that have no meaning here: left out or None, or an error that names them."""

from __future__ import annotations

from qfx.errors import QConfigError


def require_no_backend_config(backend_config: object) -> None:
    """Raise if there is one.

    Raises:
        QConfigError: There is.
    """
    if backend_config is not None:
        raise QConfigError(
            f"qfx takes no backend_config, as this {type(backend_config).__name__}.",
            why="Which operations run in int8 is said by its op table, docs/ops.md.",
            remedy="Leave it out; keep parts float by None in the qconfig_dict, add operations by qfx.register_op.",
        )


def require_no_equalization(config: object) -> None:
    """Raise if there is a config that equalizes ranges between layers.

    Raises:
        QConfigError: There is.
    """
    if config is not None:
        raise QConfigError(
            "qfx equalizes no ranges between layers.",
            why="Weights have a scale a channel and are rounded for the layer's output, which leaves nothing to gain.",
            remedy="Leave _equalization_config out.",
        )


def require_no_outer_observers(kinds: object) -> None:
    """Raise if modules that are no layers are to be observed.

    Raises:
        QConfigError: They are.
    """
    if kinds:
        raise QConfigError(
            "observer_non_leaf_module_list names modules that are no layers.",
            why="Eager mode quantizes the results of layers, and what a module returns is the result of one of them.",
            remedy="Leave it out; to watch a value, put a qfx.quantization.RecordingObserver there as a module.",
        )


def require_plain(is_reference: object, keep_original_weights: object) -> None:
    """Raise unless both are False.

    Raises:
        QConfigError: One is not.
    """
    if is_reference is not False:
        raise QConfigError(
            f"qfx makes no reference model: is_reference={is_reference!r}.",
            remedy="Leave it out; graph_module() of what convert_fx returns is its graph of float operations between "
            "quantize and dequantize.",
        )
    if keep_original_weights is not False:
        raise QConfigError(
            f"The int8 model has no float weights: keep_original_weights={keep_original_weights!r}.",
            remedy="Leave it out; the float model is not changed and has them.",
        )
