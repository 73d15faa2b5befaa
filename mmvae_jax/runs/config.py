"""The command line of every experiment: one nested dataclass, parsed by tyro; preset and model give its defaults."""

import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Annotated, Any, Generic, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

from mmvae_jax.data.streaming import Streaming
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation import METRICS, SAMPLERS, EvaluationSettings, chosen_metrics
from mmvae_jax.fusion import FUSIONS
from mmvae_jax.model import Model
from mmvae_jax.objectives import OBJECTIVES, Options
from mmvae_jax.plotting.style import FigureFormat
from mmvae_jax.posteriors import POSTERIORS
from mmvae_jax.priors import PRIORS
from mmvae_jax.training import Training
from mmvae_jax.zoo import MODELS, model_row

Own = TypeVar("Own")
Settings = TypeVar("Settings")
# Flags of a group without the group's name; those of the classifiers within `evaluation` keep theirs.
Flat = tyro.conf.OmitArgPrefixes


@dataclass(frozen=True)
class Saving:
    """Checkpoints: when they are saved, how many are kept.

    Attributes:
      every_minutes: save when so many minutes have passed; 0 for never.
      every_steps: save when so many steps have passed; 0 for never.
      keep_last: keep so many of the newest, and the best besides.
      keep_every: save after every so many epochs and keep those for good (a learning curve); 0 for none.
    """

    every_minutes: float = 1.0
    every_steps: int = 0
    keep_last: int = 2
    keep_every: int = 0

    def __post_init__(self) -> None:
        for name, low in (("every_minutes", 0), ("every_steps", 0), ("keep_last", 1), ("keep_every", 0)):
            if not getattr(self, name) >= low:
                raise UserError(f"{name.replace('_', '-')}={getattr(self, name)}: give at least {low}")


# JAX takes a larger seed modulo this, NumPy refuses a negative one.
_SEEDS = 2**32


@dataclass(frozen=True)
class Config(Generic[Own]):
    """One run of an experiment.

    Attributes:
      own: what only this experiment has.
      model_name: a model of the papers, which sets fusion, objective and their options (--list-models shows all);
        further flags still override it. Without it --fusion and --objective choose.
      preset: sets every default. Of the library's experiments: quick (small networks, minutes on two CPU cores) or
        paper (the published settings).
      data: embedded (ships with a dependency, or is made), tfds (downloads the full data set), or a folder: a data root
        with one subfolder a data set, or the data set's own. Refused where an experiment reads no files.
      streaming: read training tuples from files when a step needs them: on, off, or auto, which does so where they
        would take over a quarter of the memory and the data set can be read so, as a release of PolyMNIST can; its
        tuples and their order are the same.
      out: the run's folder; default runs/<experiment>/<fusion or model>-seed<seed>.
      cache: folder of trained classifiers and compiled programs, shared by runs; the latter are kept where JAX's
        variable JAX_COMPILATION_CACHE_DIR says, if that is set.
      seed: of everything random.
      epochs: passes through the training tuples; --steps overrides it.
      anneal_epochs: passes over which beta rises linearly from zero; --anneal-steps overrides it.
      fresh: start over, discarding the run that is in the folder.
      eval_only: evaluate the run in the folder again, without training.
      curve: metrics such as `probe coherence/conditional` that are measured at every checkpoint that is kept as well
        (--keep-every), for a learning curve; with --eval-only also of a run that is there.
      figure_format: what figures are saved as besides PNG: pdf or svg.
      list_models: print the table of models and stop.
      distributed: over several processes (a pod, a cluster): auto (as TPU pods, Slurm, Open MPI, Kubernetes or JAX's
        variables announce it), off, or HOST:PORT,ID,COUNT: where process 0 listens, which one this is, how many.
      distributed_timeout: seconds to wait for the other processes.
      architecture: the model, apart from its modalities.
      training: see `mmvae_jax.training.Training`.
      evaluation: see `mmvae_jax.evaluation.EvaluationSettings`.
      saving: checkpoints.
    """

    own: Annotated[Own, Flat]
    model_name: Annotated[str, tyro.conf.arg(name="model")] = ""
    preset: str = "quick"
    data: str = "embedded"
    streaming: Streaming = "auto"
    out: str = ""
    cache: str = "~/.cache/mmvae_jax"
    seed: int = 0
    epochs: int = 100
    anneal_epochs: int = 0
    fresh: bool = False
    eval_only: bool = False
    curve: tuple[str, ...] = ()
    figure_format: FigureFormat = "png"
    list_models: bool = False
    distributed: str = "auto"
    distributed_timeout: int = 120
    architecture: Annotated[Model, Flat] = Model((), 32)
    training: Annotated[Training, Flat] = field(default_factory=lambda: Training(steps=0))
    evaluation: Annotated[EvaluationSettings, tyro.conf.arg(name="")] = field(default_factory=EvaluationSettings)
    saving: Annotated[Saving, Flat] = field(default_factory=Saving)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < _SEEDS:
            raise UserError(f"seed={self.seed}: give a whole number from 0 to {_SEEDS - 1}")
        if self.epochs < 1 and not self.training.steps:
            raise UserError(f"epochs={self.epochs} with steps=0: give at least 1 of either")
        if self.anneal_epochs < 0:
            raise UserError(f"anneal-epochs={self.anneal_epochs}: give 0 or a whole number above it")
        if self.eval_only and self.fresh:
            raise UserError("eval-only and fresh: one evaluates the run in the folder, the other discards it; give one")
        unmeasured = {*chosen_metrics(self.curve, what="metric of curve")} - {*chosen_metrics(self.evaluation.metrics)}
        if self.curve and unmeasured:
            raise UserError(f"curve={min(unmeasured)}: it is not among --metrics, add it there")

    @property
    def label(self) -> str:
        """What the run is called: its model, or else its fusion."""
        return self.model_name or self.architecture.fusion


# What changes nothing of a run's results.
ASIDE = (
    "out",
    "cache",
    "streaming",
    "fresh",
    "eval_only",
    "curve",
    "list_models",
    "figure_format",
    "distributed",
    "distributed_timeout",
    "saving",
    "training.model_parallel",
)


def parse(presets: dict[str, Config[Own]], program: str, arguments: Sequence[str]) -> Config[Own]:
    """The configuration of a command line.

    The preset gives the defaults, `--model` changes some of them, and every other flag overrides both.

    Raises:
      UserError: for anything that cannot be parsed, in one line.
      SystemExit: after `--help`.
    """
    preset = _early(arguments, "--preset") or next(iter(presets))
    if preset not in presets:
        raise UserError(f"unknown preset {preset!r}: choose one of {', '.join(presets)}")
    default = replace(presets[preset], preset=preset)
    if name := _early(arguments, "--model"):
        row = model_row(name)
        default = replace(
            default,
            model_name=name,
            architecture=replace(default.architecture, **row.architecture),
            training=replace(default.training, objective=row.objective),
        )
    return settings(Config[type(default.own)], default, program, arguments)


def settings(kind: Any, default: Settings, program: str, arguments: Sequence[str]) -> Settings:
    """A dataclass of settings as a command line changes it.

    Raises:
      UserError: for anything that cannot be parsed, in one line.
      SystemExit: after `--help`.
    """
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(
                kind,
                prog=program,
                default=default,
                args=list(arguments),
                config=(tyro.conf.FlagCreatePairsOff,),
                registry=_HELP,
            )
    except SystemExit as stop:
        if stop.code:
            raise UserError(_one_line(errors.getvalue(), program)) from None
        raise


# Fields that name a row of a registry: their help lists the rows of that moment, a user's own among them. Of an
# objective's options it lists the objectives that read them.
_NAMED: dict[type, dict[str, Mapping[str, Any]]] = {
    Config: {"model_name": MODELS, "curve": METRICS},
    Model: {"fusion": FUSIONS, "posterior": POSTERIORS, "prior": PRIORS},
    Training: {"objective": OBJECTIVES},
    EvaluationSettings: {"sampler": SAMPLERS, "metrics": METRICS},
}
_TYRO_S_OWN = object()
_HELP = ConstructorRegistry()


@_HELP.struct_rule
def _with_names(info: StructTypeInfo) -> StructConstructorSpec | None:
    if info.type not in (*_NAMED, Options) or _TYRO_S_OWN in info.markers:
        return None
    registries = _NAMED.get(info.type, {})

    def listed(field: StructFieldSpec) -> StructFieldSpec:
        readers = [name for name, row in OBJECTIVES.items() if info.type is Options and field.name in row.options]
        if field.name not in registries and not readers:
            return field
        names = f"read by {', '.join(readers)}" if readers else f"one of {', '.join(registries[field.name])}"
        hint = tyro.conf.arg(help_behavior_hint=lambda default: f"(default: {default}; {names})")
        return replace(field, type=Annotated[field.type, hint])

    spec = ConstructorRegistry.get_struct_spec(replace(info, markers=(*info.markers, _TYRO_S_OWN)))
    assert isinstance(spec, StructConstructorSpec)
    return replace(spec, fields=tuple(map(listed, spec.fields)))


def to_record(config: Config) -> dict[str, Any]:
    """A configuration as plain values: what `config.json` records, apart from what the data set decides."""
    record = {name: _plain(value) for name, value in vars(config).items() if name != "architecture"}
    architecture = {name: value for name, value in vars(config.architecture).items() if name != "modalities"}
    return {**record, "architecture": architecture}


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def from_record(default: Config[Own], record: Mapping[str, Any]) -> Config[Own]:
    """The configuration that a run's `config.json` records, in an experiment whose preset is `default`."""

    def rebuilt(value: Any, saved: Any) -> Any:
        if is_dataclass(value) and not isinstance(value, type) and isinstance(saved, Mapping):
            known = {field.name: getattr(value, field.name) for field in fields(value) if field.name in saved}
            return replace(value, **{name: rebuilt(old, saved[name]) for name, old in known.items()})
        return tuple(saved) if isinstance(saved, list) else saved

    return rebuilt(default, record)


def _early(arguments: Sequence[str], flag: str) -> str | None:
    """The value of a flag that decides the defaults of the others; of one given twice the last, as tyro takes it."""
    found = None
    for i, argument in enumerate(arguments):
        if argument.startswith(f"{flag}="):
            found = argument.partition("=")[2]
        if argument == flag and i + 1 < len(arguments):
            found = arguments[i + 1]
    return found


def _one_line(box: str, program: str) -> str:
    """The message within tyro's box, without its borders, its help and the name of the dataclass that refused."""
    lines = [line.strip("│ ").strip() for line in box.splitlines()[1:]]
    message = []
    for line in lines:
        if set(line) <= set("─"):
            break
        message.append(line)
    told = re.sub(r"^Error parsing [A-Za-z][\w.]*: ", "", " ".join(message))
    return f"{told} (see {program} --help)"
