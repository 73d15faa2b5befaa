"""MultiVae 1.0.3 (PyTorch) doing one job at a time: a worker that speaks JSON lines on stdin and stdout.

It runs in an environment of its own, without this library: `{"job": name, ...}` prepares, `{"run": true}` does the job
once and answers its seconds, the end of stdin ends it. Architectures are MultiVae's own for PolyMNIST, 32-64-128.
"""

# pyright: reportMissingImports=false

import json
import os
import sys
import time
from collections.abc import Callable
from itertools import combinations

import numpy as np
import torch

Job = Callable[[], object]
NAMES = [f"m{i}" for i in range(5)]


def import_multivae():
    """MultiVae's modules, and what must stay alive as long as they.

    A torchvision built for another PyTorch fails to load its operators; nothing here uses them, so they are declared.
    """
    library = torch.library.Library("torchvision", "FRAGMENT")
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import multivae.data.datasets.base
    import multivae.models
    import multivae.models.base
    import multivae.models.nn.mmnist

    return multivae, library


class Peer:
    """The jobs, on one device."""

    def __init__(self, device: str):
        self.multivae, self.library = import_multivae()
        self.device = device

    def model(self, fusion: str, latent: int):
        """PoE is MVAE without sub-sampling; MoE is MoPoE of the singletons, the same single-sample ELBO as ours.

        MultiVae's own MMVAE decodes every modality from every modality's sample, five times the work.
        """
        nn, models = self.multivae.models.nn.mmnist, self.multivae.models
        base = self.multivae.models.base.BaseAEConfig(latent_dim=latent, input_dim=(3, 28, 28))
        options = {
            "n_modalities": len(NAMES),
            "latent_dim": latent,
            "input_dims": {name: (3, 28, 28) for name in NAMES},
            "decoders_dist": {name: "laplace" for name in NAMES},
            "decoder_dist_params": {name: {"scale": 0.75} for name in NAMES},
            "beta": 2.5,
        }
        networks = {
            "encoders": {name: nn.EncoderConvMMNIST(base) for name in NAMES},
            "decoders": {name: nn.DecoderConvMMNIST(base) for name in NAMES},
        }
        torch.manual_seed(0)
        if fusion == "poe":
            model = models.MVAE(models.MVAEConfig(**options, use_subsampling=False, warmup=0), **networks)
        elif fusion == "moe":
            model = models.MoPoE(models.MoPoEConfig(**options, subsets=[[name] for name in NAMES]), **networks)
        else:
            model = models.MoPoE(models.MoPoEConfig(**options), **networks)
        return model.to(self.device)

    def inputs(self, count: int):
        """Ready float32 pictures."""
        rng = np.random.default_rng(0)
        pictures = {name: rng.random((count, 3, 28, 28), np.float32) for name in NAMES}
        data = {name: torch.from_numpy(x).to(self.device) for name, x in pictures.items()}
        return self.multivae.data.datasets.base.MultimodalBaseDataset(data)

    def wait(self) -> None:
        """For the device to finish."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()

    def train(self, fusion: str, batch: int, latent: int, count: int) -> tuple[Job, dict]:
        """The trainer's step, without its data loader and bookkeeping."""
        model, inputs = self.model(fusion, latent), self.inputs(batch)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        model.train()

        def job() -> None:
            for _ in range(count):
                optimizer.zero_grad()
                model(inputs, epoch=1, dataset_size=batch, uses_ddp=False, batch_ratio=0.0).loss.backward()
                optimizer.step()

        return job, {}

    def likelihood(self, latent: int, count: int, samples: int) -> tuple[Job, dict]:
        """`compute_joint_nll_paper` proposes from the product of all experts, as ours."""
        model, inputs = self.model("mopoe", latent), self.inputs(count)
        return lambda: model.compute_joint_nll_paper(inputs, K=samples), {}

    def subsets(self, latent: int, count: int) -> tuple[Job, dict]:
        """`predict` from every subset to every modality."""
        model, inputs = self.model("mopoe", latent), self.inputs(count)
        chosen = [list(subset) for size in range(1, 6) for subset in combinations(NAMES, size)]

        def job() -> None:
            with torch.no_grad():
                for subset in chosen:
                    model.predict(inputs, cond_mod=subset, gen_mod="all")

        return job, {}

    def fusion(self, modalities: int, batch: int, latent: int, count: int) -> tuple[Job, dict]:
        """`inference` with encoders that only hand out given codes, and the KL of its mixture."""
        rng = np.random.default_rng(0)
        mean, log_var = torch.from_numpy(rng.standard_normal((2, modalities, batch, latent), np.float32))
        names = [f"m{i:02}" for i in range(modalities)]
        models = self.multivae.models
        given = {name: _given(self.multivae, *code) for name, *code in zip(names, mean, log_var, strict=True)}
        config = models.MoPoEConfig(n_modalities=modalities, latent_dim=latent)
        decoders = {name: _nothing(self.multivae, latent) for name in names}
        model = models.MoPoE(config, encoders=given, decoders=decoders).to(self.device)
        blank = {name: torch.zeros(batch, 1, device=self.device) for name in names}
        inputs = self.multivae.data.datasets.base.MultimodalBaseDataset(blank)

        @torch.no_grad()
        def once() -> float:
            found = model.inference(inputs)
            kl = model.calc_joint_divergence(found["mus"], found["logvars"], found["weights"])
            return kl["joint_divergence"].item()

        return lambda: [once() for _ in range(count)], {"kl": once()}


def _given(multivae, mean: torch.Tensor, log_var: torch.Tensor):
    """An encoder that hands out what it was given."""
    base = multivae.models.nn.mmnist

    class Given(base.BaseEncoder):
        def __init__(self):
            super().__init__()
            self.latent_dim = mean.shape[-1]
            self.register_buffer("mean", mean)
            self.register_buffer("log_var", log_var)

        def forward(self, x):
            return base.ModelOutput(embedding=self.mean, log_covariance=self.log_var)

    return Given()


def _nothing(multivae, latent: int):
    """A decoder that is never called."""
    base = multivae.models.nn.mmnist

    class Nothing(base.BaseDecoder):
        def __init__(self):
            super().__init__()
            self.latent_dim = latent

    return Nothing()


def peak_memory_mib() -> float:
    """The largest resident set of this process."""
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 2**10


def main(device: str, threads: int) -> None:
    """Serve until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print must not be taken for an answer
    torch.set_num_threads(threads)
    peer, job = Peer(device), None
    about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": device}
    print(json.dumps(about), file=answers, flush=True)
    for line in sys.stdin:
        message = json.loads(line)
        if "job" in message:
            job, answer = getattr(peer, message.pop("job"))(**message)
        else:
            assert job is not None
            start = time.perf_counter()
            job()
            peer.wait()
            answer = {"seconds": time.perf_counter() - start}
        answer["peak_mib"] = peak_memory_mib()
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
