"""Which pictures there are of a run: data, reconstructions, samples, conditional ones, latent traversals, curves."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Array, Bool, Float, Key
from matplotlib.figure import Figure

from mmvae_jax import subsets
from mmvae_jax.data.batching import Batch, Dataset, take
from mmvae_jax.data.tasks import Task
from mmvae_jax.evaluation.chunks import MAX_ENCODED
from mmvae_jax.evaluation.context import Context, first
from mmvae_jax.evaluation.probe import component_mean
from mmvae_jax.evaluation.samplers import SAMPLERS
from mmvae_jax.model import Latents, Model, Params
from mmvae_jax.plotting.attributes import attributes_figure
from mmvae_jax.plotting.curves import learning_curve_figure, loss_figure, metrics_figure
from mmvae_jax.plotting.sentences import sentences_figure
from mmvae_jax.plotting.strips import Strip, strips_figure
from mmvae_jax.plotting.style import FigureFormat, save
from mmvae_jax.priors import Density
from mmvae_jax.symbols import symbols_to_text

COLUMNS = 10
MAX_CANDIDATES = 1000
DRAWS = 6
# Rows of a figure of traversals, one a dimension and modality; and how far they go, in scales of a standard prior.
MAX_TRAVERSED = 16
REACH = 3.0


def data_figure(model: Model, batch: Batch) -> Figure:
    """Tuples of the data, one a column."""
    strips = [Strip(m, np.asarray(batch.x[m.name]), m.name) for m in model.modalities]
    return strips_figure(strips, "Data", "each column is one test tuple")


def reconstructions_figure(model: Model, params: Params, key: Key[Array, ""], batch: Batch) -> Figure:
    """Every modality above its reconstruction from all modalities (Sutter et al. 2021, Figure 8)."""
    decoded = _generate(model, params, key, batch.x, 1)
    strips = []
    for m in model.modalities:
        strips.append(Strip(m, np.asarray(batch.x[m.name]), m.name, starts_group=True))
        strips.append(Strip(m, np.asarray(decoded[m.name][0]), "reconstructed"))
    return strips_figure(strips, "Reconstructions", "from one sample of the posterior given all modalities")


def unconditional_figure(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    sampler: Density | None = None,
    source: str = "the prior",
    columns: int = COLUMNS,
) -> Figure:
    """Unconditional samples, one latent code a column (Sutter et al. 2021, Figure 9).

    Args:
      model: any model.
      params: its parameters.
      key: PRNG key.
      sampler: what z is drawn from in place of the model's prior.
      source: what that is called.
      columns: number of samples.
    """
    decoded = jax.jit(partial(model.generate, samples=columns))(params, key, sampler=sampler)
    strips = [Strip(m, np.asarray(decoded[m.name]), m.name) for m in model.modalities]
    return strips_figure(strips, "Unconditional samples", f"each column decodes one sample of {source}")


def conditional_figure(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    batch: Batch,
    subset: Sequence[str],
    target: str,
    draws: int = DRAWS,
) -> Figure:
    """Inputs on top, several generations of the target below them (Sutter et al. 2021, Figures 10 and 11).

    Args:
      model: any model.
      params: its parameters.
      key: PRNG key.
      batch: the inputs, one a column.
      subset: names of the modalities that are given.
      target: the modality to generate.
      draws: rows of generations, each from its own sample of the posterior.
    """
    given = {name: batch.x[name] for name in subset}
    decoded = _generate(model, params, key, given, draws, (target,))[target]
    modalities = {m.name: m for m in model.modalities}
    strips = [Strip(modalities[name], np.asarray(x), f"given {name}") for name, x in given.items()]
    for i, values in enumerate(np.asarray(decoded)):
        strips.append(Strip(modalities[target], values, f"generated {target}" if i == 0 else "", starts_group=i == 0))
    return strips_figure(
        strips,
        f"{target} generated from {' + '.join(subset)}",
        "each row below the inputs is another sample of the posterior",
    )


def task_figure(model: Model, params: Params, key: Key[Array, ""], batch: Batch, task: Task, title: str) -> Figure:
    """What is given, made of it, guessed without learning, and right (Wu & Goodman 2018, Figures 7 to 10)."""
    modalities = {m.name: m for m in model.modalities}
    given, target = modalities[task.given], modalities[task.target]
    made = _made_of(model, params, key, batch, (given.name,), target.name)
    guess = task.guess(given.in_units(jnp.asarray(batch.x[given.name])))
    strips = [
        Strip(given, np.asarray(batch.x[given.name]), f"given {given.name}"),
        Strip(target, made, f"made {target.name}", starts_group=True),
        Strip(target, np.asarray(guess), "guess"),
        Strip(target, np.asarray(batch.x[target.name]), "its own", starts_group=True),
    ]
    return strips_figure(strips, title, "made at the mean of the posterior; the guess needs no learning")


def translations_figure(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    batch: Batch,
    sentences: Mapping[str, tuple[str, ...]],
) -> Figure:
    """Sentences, what they are told as in every other language, as BLEU scores it, and what they are there.

    Args:
      model: any model with modalities of sentences.
      params: its parameters.
      key: PRNG key.
      batch: the tuples.
      sentences: as of `Dataset`.
    """
    groups = []
    for target in sentences:
        others = [name for name in model.names if name != target]
        told = {f"given {name}": (batch.x[name], name) for name in others if name in sentences}
        made = _made_of(model, params, key, batch, others, target)
        told |= {f"told {target}": (made, target), f"true {target}": (batch.x[target], target)}
        read = {
            label: [symbols_to_text(row, sentences[name]) for row in np.asarray(x)] for label, (x, name) in told.items()
        }
        groups += [list(zip(read, each, strict=True)) for each in zip(*read.values(), strict=True)]
    return sentences_figure(groups, "Translations", "told at the mean of the posterior given the other modalities")


def traversals_figure(
    model: Model, params: Params, key: Key[Array, ""], batch: Batch, columns: int = COLUMNS
) -> Figure:
    """What single dimensions of the shared latent change, as in the latent traversals of Shi et al. (2019).

    The dimensions in which posterior means vary most between tuples go from -3 to 3, all others stay at the posterior
    mean of one tuple given all modalities, private latents at the mean of their prior.

    Args:
      model: any model.
      params: its parameters.
      key: PRNG key.
      batch: the tuples; the first one is traversed.
      columns: points of a traversal.
    """
    everything = jnp.ones(len(model.modalities), bool)
    means = np.asarray(jax.jit(partial(_means, model))(params, key, batch, everything))
    active = np.argsort(-means.std(0), kind="stable")[: max(1, MAX_TRAVERSED // len(model.modalities))]
    z = jnp.tile(means[0], (len(active), columns, 1))
    z = z.at[np.arange(len(active)), :, active].set(jnp.linspace(-REACH, REACH, columns))
    decoded = jax.jit(model.point_estimates)(params, Latents(z, _private_means(model, z)))
    strips = [
        Strip(m, np.asarray(decoded[m.name][i]), m.name if j else f"z{dimension}\n{m.name}", starts_group=j == 0)
        for i, dimension in enumerate(active)
        for j, m in enumerate(model.modalities)
    ]
    return strips_figure(
        strips, "Latent traversals", f"single dimensions from -{REACH:g} to {REACH:g}, the most active ones"
    )


def _means(
    model: Model, params: Params, key: Key[Array, ""], batch: Batch, mask: Bool[Array, "M"]
) -> Float[Array, "B D"]:
    """Posterior means given some modalities, on the one host that draws."""
    return component_mean(model, params, model.encode(params, batch), batch.present, key, mask)


def _made_of(
    model: Model, params: Params, key: Key[Array, ""], batch: Batch, given: Sequence[str], target: str
) -> np.ndarray:
    """A modality made at the mean of the posterior given others, which metrics of what is told are of."""
    z = jax.jit(partial(_means, model))(params, key, batch, jnp.asarray(subsets.select(given, model.names)))
    made = jax.jit(partial(model.point_estimates, names=target))(params, Latents(z, _private_means(model, z)))
    return np.asarray(made[target])


def _private_means(model: Model, z: Float[Array, "*K D"]) -> dict[str, Float[Array, "*K d"]]:
    """Private latents at the mean of their prior."""
    return {m.name: jnp.zeros((*z.shape[:-1], m.private_dim)) for m in model.modalities if m.private_dim}


def _generate(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    given: Mapping[str, Array],
    draws: int,
    to: Sequence[str] | None = None,
) -> dict[str, Array]:
    """Point estimates given some modalities, [draws, B, *shape]."""
    return jax.jit(partial(model.generate, to=to, samples=draws))(params, key, dict(given))


def draw_all(
    context: Context,
    metrics: Mapping[str, float],
    folder: epath.PathLike,
    points: Sequence[Mapping[str, float]] = (),
    log: Sequence[Mapping[str, float | None]] = (),
    title: str = "",
    figure_format: FigureFormat = "png",
) -> list[epath.Path]:
    """Draw every picture of a run.

    Args:
      context: the model and its data: pictures are made from the test split, one tuple of each class where it has
        classes.
      metrics: from `measure` or `evaluate`.
      folder: where the pictures go, made if missing.
      points: of a learning curve, as in `learning_curve_figure`.
      log: the rows of `log.jsonl`.
      title: what the run is called, in the corner of every picture.
      figure_format: what pictures are saved as besides PNG.

    Returns:
      The PNG files, in the order in which a report shows them.
    """
    model, params = context.model, context.params
    keys, batch = jax.random.split(context.key, 6)[1:], shown_tuples(context)
    source = SAMPLERS[context.settings.sampler].name
    target, others = model.names[0], model.names[1:]
    figures: dict[str, Callable[[], Figure | None]] = {
        "data": lambda: data_figure(model, batch),
        "reconstructions": lambda: reconstructions_figure(model, params, keys[0], batch),
        "unconditional": lambda: unconditional_figure(model, params, keys[1], context.sampler, source),
    }
    for count in sorted({1, len(others)} - {0}):
        figures[f"conditional_{count}"] = lambda n=count: conditional_figure(
            model, params, keys[2], batch, others[:n], target
        )
    for name, task in context.dataset.tasks.items():
        figures[f"task_{name.replace(' ', '_')}"] = lambda task=task, name=name: task_figure(
            model, params, keys[4], batch, task, name.capitalize()
        )
    if sentences := context.dataset.sentences:
        figures["translations"] = lambda: translations_figure(model, params, keys[2], batch, sentences)
    encoded = first(context.judged, MAX_ENCODED)
    figures["traversals"] = lambda: traversals_figure(model, params, keys[3], encoded)
    figures["metrics"] = lambda: metrics_figure({"": [metrics]})
    figures["attributes"] = lambda: attributes_figure(metrics)
    if points:
        figures["learning_curve"] = lambda: learning_curve_figure(points, metrics)
    if log:
        figures["loss"] = lambda: loss_figure(log)
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in figures.items():
        figure = draw()
        if figure is None:
            continue
        paths.append(folder / f"{name}.png")
        for kind in dict.fromkeys(("png", figure_format)):
            save(figure, folder / f"{name}.{kind}", title)
    return paths


def shown_tuples(context: Context) -> Batch:
    """The test tuples that a run's pictures are made from."""
    return examples(context.dataset, jax.random.split(context.key, 6)[0])


def examples(dataset: Dataset, key: Key[Array, ""], count: int = COLUMNS) -> Batch:
    """A few complete test tuples, in the order of their classes and of different classes as far as possible."""
    test = take(dataset.test, key, dataset.test.size)
    complete = np.flatnonzero(np.asarray(test.present).all(1))[:MAX_CANDIDATES]
    labels = np.asarray(test.label)[complete]
    # The n-th tuple of its class comes after the (n-1)-th ones of all classes.
    turn = np.array([np.sum(labels[:i] == label) for i, label in enumerate(labels)])
    chosen = np.lexsort((labels, turn))[:count]
    chosen = chosen[np.argsort(labels[chosen], kind="stable")]
    return jax.tree.map(lambda values: values[complete[chosen]], test)
