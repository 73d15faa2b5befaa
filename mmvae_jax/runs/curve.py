"""The learning curve of a run: metrics at every checkpoint that is kept, in `curve.json`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from mmvae_jax import hosts
from mmvae_jax.errors import UserError, one_line
from mmvae_jax.evaluation import Context, chosen_metrics, measure
from mmvae_jax.evaluation.measuring import metric_of
from mmvae_jax.runs.checkpoints import Checkpoints
from mmvae_jax.runs.folder import CHECKPOINTS_FOLDER, CURVE_FILE, write_whole
from mmvae_jax.training import TrainState

Points = list[dict[str, float]]


def curve_points(
    context: Context, folder: epath.PathLike, names: Sequence[str], state: TrainState, final: Mapping[str, float]
) -> Points:
    """Measures every checkpoint of a run, or reads what an earlier command measured; all hosts must call it.

    Args:
      context: of the final state's parameters.
      folder: of the run.
      names: of the metrics to measure, as of `EvaluationSettings.metrics`; none: those that are there, if any, stay.
      state: the final one.
      final: its metrics, which are not measured again, with `train/steps` and `train/epochs`.

    Returns:
      Metrics of every readable checkpoint by flat names, with `train/steps` and `train/epochs`, oldest first.
    """
    if not names:
        return read_curve(folder)
    points, chosen = [], chosen_metrics(names, context.dataset)
    with Checkpoints(epath.Path(folder) / CHECKPOINTS_FOLDER) as checkpoints:
        for step in checkpoints.steps():
            if step == final["train/steps"]:
                found = {name: value for name, value in final.items() if _is_of(name, chosen)}
            else:
                context.report(f"learning curve: step {step}")
                try:
                    params = checkpoints.restore_step(step, state).params
                except UserError as error:
                    context.report(f"{error}: left out of the learning curve")
                    continue
                found = measure(context.of(params), chosen)
            epochs = final["train/epochs"] * (step / final["train/steps"])
            points.append({**found, "train/steps": step, "train/epochs": epochs})
    hosts.by_first(lambda: write_whole(epath.Path(folder) / CURVE_FILE, json.dumps(points, indent=1) + "\n"))
    return points


def read_curve(folder: epath.PathLike) -> Points:
    """What `curve.json` holds; nothing where there is none.

    Raises:
      UserError: it is damaged.
    """
    path = epath.Path(folder) / CURVE_FILE
    try:
        points: Any = json.loads(path.read_text())
        return [{str(name): float(value) for name, value in point.items()} for point in points]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"cannot read {path} ({one_line(error)}): remove it, or measure again with --curve") from None


def _is_of(name: str, metrics: Sequence[str]) -> bool:
    return metric_of(name.removeprefix("standard_error/")) in metrics
