"""Results of finished runs as a Markdown page, beside published numbers: `experiments.compare ... --markdown FILE`.

`FILE.md` has tables, figures, differences and commands; the folder `FILE` has the figures, and of every run a JSON file
with its metrics, configuration, versions and commands.
"""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from mmvae_jax.errors import UserError
from mmvae_jax.evaluation.comparison import SPREAD, estimate, markdown_table
from mmvae_jax.evaluation.measuring import by_size, labelled, metric_of
from mmvae_jax.evaluation.metrics import METRICS
from mmvae_jax.evaluation.published import Published
from mmvae_jax.plotting.curves import learning_curve_figure, metrics_figure, single_figure
from mmvae_jax.plotting.style import save
from mmvae_jax.runs.curve import Points, read_curve
from mmvae_jax.runs.finished import Run, experiments
from mmvae_jax.runs.folder import write_whole
from mmvae_jax.runs.origin import published_of

_JOINT = "coherence/joint"
_UNRECORDED = "not recorded"
# Of a run's figures those that are shown, where it has them.
_SAMPLES = {"unconditional": "Unconditional samples", "conditional": "Generated from all other modalities"}


class _Source(NamedTuple):
    """A run, and what its folder says of where it comes from."""

    run: Run
    points: Points

    @property
    def name(self) -> str:
        return self.run.folder.resolve().name

    def said(self, stage: str, what: str) -> Any:
        """The command or the versions of a stage."""
        return self.run.origin.get(stage, {}).get(what, _UNRECORDED)

    def setting(self, path: str) -> str:
        """One of the configuration, by its dotted name."""
        value: Any = self.run.config
        for part in path.split("."):
            value = value.get(part, {}) if isinstance(value, dict) else {}
        return _UNRECORDED if value == {} else str(value)


Groups = Mapping[str, Sequence[_Source]]


def write_results(path: Path, runs: Mapping[str, Sequence[Run]], command: str, everything: str) -> None:
    """Write the page, its figures and a JSON file a run.

    Args:
      path: of the page, `.md`; what belongs to it is put into a folder of the same name without it.
      runs: label -> runs that differ in their seeds only.
      command: that asked for it.
      everything: the table of all metrics.

    Raises:
      UserError: not a `.md` file, two runs of one name, or it cannot be written.
    """
    if path.suffix != ".md":
        raise UserError(f"--markdown={path}: name a .md file")
    groups = {label: [_Source(run, read_curve(run.folder)) for run in several] for label, several in runs.items()}
    sources = [source for several in groups.values() for source in several]
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--markdown: two runs are called {name}: rename a folder, its file would be the other's")
    published = {label: _published(several) for label, several in groups.items()}
    folder = path.with_suffix("")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pictures = _draw(folder, groups, published)
    except OSError as error:
        raise UserError(f"--markdown={path} cannot be written: {error.strerror}") from None
    for source in sources:
        write_whole(folder / f"{source.name}.json", json.dumps(_content(source), indent=1) + "\n")
    write_whole(path, _page(path.stem, groups, published, pictures, command, everything))


def _published(group: Sequence[_Source]) -> list[Published]:
    """What the runs of a model carry along, each source once."""
    found = {each.source: each for source in group for each in published_of(source.run.origin)}
    return list(found.values())


def _content(source: _Source) -> dict[str, Any]:
    stages = {stage: source.run.origin.get(stage, _UNRECORDED) for stage in ("trained", "evaluated")}
    return {**stages, "config": source.run.config, "metrics": source.run.metrics, "learning_curve": source.points}


def _metrics(groups: Groups) -> dict[str, list[Mapping[str, float]]]:
    return {label: [source.run.metrics for source in several] for label, several in groups.items()}


def _draw(folder: Path, groups: Groups, published: Mapping[str, Sequence[Published]]) -> dict[str, list[str]]:
    """Heading -> Markdown images of what is drawn or copied."""
    metrics, shown = _metrics(groups), {}
    of = experiments(source.run for several in groups.values() for source in several)

    def draw(figure: Figure, name: str, caption: str) -> str:
        save(figure, folder / f"{name}.png", of)
        return f"![{caption}]({folder.name}/{name}.png)"

    by_inputs = metrics_figure(metrics, published)
    shown["Figures"] = [draw(by_inputs, "metrics", "metrics against the number of inputs")] if by_inputs else []
    if any(_JOINT in each for several in metrics.values() for each in several):
        shown["Figures"].append(draw(single_figure(metrics, _JOINT, published), "joint_coherence", "joint coherence"))
    shown["Learning curves"] = [
        f"{label}:\n\n"
        + draw(learning_curve_figure(points, last), f"{name}-learning_curve", f"learning curve of {name}")
        for label, several in groups.items()
        for name, points, last in [(s.name, s.points, s.run.metrics) for s in several if s.points][:1]
    ]
    shown["Samples"] = []
    for several in groups.values():
        for kind, caption in _SAMPLES.items():
            # Of the conditional ones the last is given the most.
            for file in sorted((several[0].run.folder / "figures").glob(f"{kind}*.png"))[-1:]:
                name = f"{several[0].name}-{kind}.png"
                shutil.copyfile(file, folder / name)
                shown["Samples"].append(f"{caption}, {several[0].name}:\n\n![{caption}]({folder.name}/{name})")
    return {heading: images for heading, images in shown.items() if images}


def _page(
    title: str,
    groups: Groups,
    published: Mapping[str, Sequence[Published]],
    pictures: Mapping[str, Sequence[str]],
    command: str,
    everything: str,
) -> str:
    sections = {
        f"Results: {title}": f"Made from the runs' folders by\n\n    {command}\n\n{SPREAD}.",
        "Runs": markdown_table(_run_rows(groups)),
        "Beside published numbers": "\n\n".join(_beside(groups, published)),
        **{heading: "\n\n".join(images) for heading, images in pictures.items()},
        "All metrics": everything,
        "Known differences": "\n".join(f"- {line}" for line in _differences(groups, published)),
        "Commands": "\n".join(_commands(groups)),
    }
    texts = [f"{'#' * (1 + (i > 0))} {heading}\n\n{text}" for i, (heading, text) in enumerate(sections.items()) if text]
    return "\n\n".join(texts) + "\n"


def _run_rows(groups: Groups) -> list[list[str]]:
    paths = {
        "preset": "preset",
        "data": "data",
        "latent": "architecture.latent_dim",
        "beta": "training.beta",
        "batch": "training.batch_size",
        "learning rate": "training.learning_rate",
        "planned epochs": "epochs",
    }
    rows = [["model", "seeds", "epochs", "steps", *paths]]
    for label, several in groups.items():
        reached = [
            _joined(f"{source.run.metrics[name]:{form}}" for source in several if name in source.run.metrics)
            for name, form in (("train/epochs", ".4g"), ("train/steps", ".0f"))
        ]
        settings = [_joined(source.setting(path) for source in several) for path in paths.values()]
        rows.append([label, _joined(source.setting("seed") for source in several), *reached, *settings])
    return rows


def _joined(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values)) or _UNRECORDED


def _beside(groups: Groups, published: Mapping[str, Sequence[Published]]) -> list[str]:
    """A table for every metric that is measured and published: the runs of a model, then what others report of it."""
    reported = {metric_of(name) for several in published.values() for each in several for name in each.metrics}
    measured = {metric_of(name) for several in _metrics(groups).values() for each in several for name in each}
    return [
        f"{METRICS[prefix].title}:\n\n{markdown_table(_beside_rows(groups, published, prefix))}"
        for prefix in METRICS
        if prefix in reported & measured
    ]


def _beside_rows(groups: Groups, published: Mapping[str, Sequence[Published]], prefix: str) -> list[list[str]]:
    metrics = _metrics(groups)
    numbers = [each for several in metrics.values() for each in several]
    numbers += [each.metrics for several in published.values() for each in several]
    sizes = sorted(set().union(*(by_size(each, prefix) for each in numbers)))
    heads = {f"{prefix}/by_size/{n}": f"{n} input{'s' * (n > 1)}" for n in sizes}
    if any(prefix in each for each in numbers):
        heads[prefix] = "mean" if sizes else "value"
    reported = dict.fromkeys(name for several in published.values() for each in several for name in each.metrics)
    heads |= {name: name[len(prefix) + 1 :] for name in reported if metric_of(name) == prefix and name not in heads}
    rows = [["model", "source", *heads.values()]]
    for label, several in groups.items():
        epochs = _joined(f"{each['train/epochs']:.4g}" for each in metrics[label] if "train/epochs" in each)
        ours = f"here, {len(several)} seed{'s' * (len(several) > 1)}, epochs: {epochs}"
        rows.append([label, ours, *(estimate(metrics[label], name) for name in heads)])
        for each in published[label]:
            if prefix in map(metric_of, each.metrics):
                cells = (f"{each.metrics[name]:g}" if name in each.metrics else "-" for name in heads)
                rows.append([label, each.source, *cells])
    return rows


def _differences(groups: Groups, published: Mapping[str, Sequence[Published]]) -> list[str]:
    """What to know before numbers are held against each other."""
    lines = []
    for label, several in groups.items():
        for source in several:
            accuracies = labelled(source.run.metrics, "classifier").values()
            if accuracies:
                judged = f"judged by classifiers trained here, {min(accuracies):.3f} to {max(accuracies):.3f} right"
                lines.append(f"{label}, {source.name}: {judged} on test data.")
    sources = [source for several in groups.values() for source in several]
    if any(metric_of(name) == "FD/conditional" for source in sources for name in source.run.metrics):
        count = _joined(source.setting("evaluation.pictures") for source in sources)
        lines.append(
            f"FD, precision and recall: sets of at most {count} pictures in these classifiers' features: no FID."
        )
    for fact in ("digits", "backgrounds", "tuples"):
        found = _joined(source.setting(f"dataset.{fact}") for source in sources)
        lines += [f"Data, {fact}: {found}."] if found != _UNRECORDED else []
    lines += [
        f"{label} of {each.source}: {each.settings or 'settings not known'}."
        for label, several in published.items()
        for each in several
    ]
    return lines


def _commands(groups: Groups) -> list[str]:
    """Of every run the commands and with what they ran."""
    lines = []
    for several in groups.values():
        for source in several:
            lines += [f"{source.name}:", ""]
            for stage in ("trained", "evaluated"):
                lines += [f"    {source.said(stage, 'command')}  # {stage}"]
            known = source.said("trained", "versions")
            if isinstance(known, dict):
                lines += ["", ", ".join(f"{name} {version}" for name, version in known.items()) + "."]
            lines += [""]
    return lines
