"""What the association matrix A is worth to a trained model, in words, and whether it is shown.

The Space gets a copy of this file: it imports no other.
"""

from collections.abc import Mapping


def is_worth_showing(worth: Mapping | None) -> bool:
    """Whether A earns a place in what people are shown: whether setting it to ½ surely costs mAP."""
    return worth is not None and worth["half"]["low"] > 0


def worth_sentence(worth: Mapping | None) -> str:
    """What was measured of A's worth, for people."""
    if worth is None:
        return "What the association matrix A is worth to this model was not measured, so no map of it is shown."
    half, mean = (
        f"{points(one['lost'])} points of mAP (95% interval {points(one['low'])} to {points(one['high'])})"
        for one in (worth["half"], worth["mean"])
    )
    if worth["half"]["high"] < 0:
        gained, low, high = (points(-worth["half"][key]) for key in ("lost", "high", "low"))
        return (
            f"With ½ in place of the association matrix A the model gains {gained} points of mAP (95% interval {low} "
            f"to {high}): A does harm on these images, so no map of it is shown."
        )
    if not is_worth_showing(worth):
        return (
            f"With ½ in place of the association matrix A the model loses {half}: A adds nothing that can be told from "
            "chance, so no map of it is shown."
        )
    return (
        f"With ½ in place of the association matrix A the model loses {half}; with the mean A of all images in place "
        f"of each image's own, {mean}."
    )


def points(value: float) -> str:
    """A difference of two mAPs in points, with two digits and a minus sign that is one."""
    return f"{round(100 * value, 2) + 0.0:.2f}".replace("-", "−")
