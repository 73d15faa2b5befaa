"""Downloads of official files, kept by tensorflow_datasets."""

import os
import urllib.request
from pathlib import Path

from mmvae_jax.errors import UserError


def download(name: str, base: str, files: list[str]) -> dict[str, Path]:
    """Paths of official files, downloaded at the first use and kept where tfds keeps its downloads.

    Only the download manager of tensorflow_datasets is used: `tfds.data_source` still needs
    tensorflow to unpack gzip files (tensorflow/datasets issue 11058), this function does not.

    Args:
      name: the data set's name at tfds, which is the folder's name below
        `$TFDS_DATA_DIR/downloads`.
      base: the files' common address, with a slash at its end.
      files: their names.

    Raises:
      UserError: tensorflow_datasets is not installed, or a download fails.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"--data=tfds needs the package {error.name}: pip install {error.name}, or use --data=embedded"
        ) from error
    root = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    cache = root / "downloads"
    try:
        if not (cache / name).is_dir():
            # tfds retries a dead network for minutes; one question tells at once.
            urllib.request.urlopen(base + files[0], timeout=20).close()
        manager = tfds.download.DownloadManager(download_dir=cache, dataset_name=name)
        return {file: Path(str(manager.download(base + file))) for file in files}
    except (OSError, tfds.download.DownloadError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"--data=tfds could not download {name} from {base} ({reason}): check the network, "
            "or use --data=embedded or --data=<folder>"
        ) from error
