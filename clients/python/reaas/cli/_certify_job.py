"""The certification of many images: in steps that are paid once, each written down at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reaas.certify import ABSTAIN, DownstreamClassifier, SmoothingConfig
from reaas.cli._book import Book, Certified
from reaas.cli._images import NamedImage, batches, stacked
from reaas.cli._interrupt import paid_steps
from reaas.cli._journal import open_journal
from reaas.schemes import ImageCertificates, ReaasScheme

_STEP = 16
"""Images of one step, and of one message of each API: what a failure can cost at most."""
Each = Callable[[NamedImage], None]


@dataclass(frozen=True)
class Method:
    """How the classifier is certified."""

    name: str
    target: str
    smoothing: SmoothingConfig | None
    seed: int

    def certify(
        self,
        scheme: ReaasScheme,
        images: NDArray[np.generic],
        classifier: DownstreamClassifier,
        features: NDArray[np.float32],
    ) -> ImageCertificates:
        """Certificates of images [n, h, w, c] with these features [n, d]: 1 query each."""
        if self.smoothing is not None and self.name == "smoothing":
            return scheme.certify_smoothed(
                images, classifier, self.smoothing, seed=self.seed, features=features
            )
        return scheme.certify_base(
            images,
            classifier,
            "ibp" if self.name == "ibp" else "crown",
            target="margin" if self.target == "margin" else "ball",
            features=features,
        )


@dataclass
class Job:
    """Certificates of images that come one by one, in `results` by their place."""

    scheme: ReaasScheme
    classifier: DownstreamClassifier
    method: Method
    book: Book
    csv: Path | None
    resize: str
    each: Each
    """Called with every image that is done, in the order in which they are."""
    results: dict[int, Certified] = field(default_factory=dict)
    _twins: list[NamedImage] = field(default_factory=list)

    def run(self, images: Iterable[NamedImage]) -> None:
        """Certifies what the book lacks: 2 queries an image, of equal ones only the first."""
        with ExitStack() as stack:
            journal = None
            if self.csv is not None:
                journal = stack.enter_context(open_journal(self.csv, self.scheme.model))
            steps = stack.enter_context(paid_steps())
            stack.callback(self.book.close)
            for part in steps(batches(self._new(images), _STEP)):
                pixels, encode = stacked(part), self.scheme.encode_testing
                features = journal.features(part, encode) if journal else encode(pixels)
                found = self.method.certify(self.scheme, pixels, self.classifier, features)
                self._enter(part, [self._row(found, i, part[i]) for i in range(len(part))])
            for image in self._twins:
                self._known(image)
        if journal is not None:
            journal.close(remove=True)

    def _new(self, images: Iterable[NamedImage]) -> Iterator[NamedImage]:
        """Images whose pixels are neither certified nor on their way."""
        on_their_way: set[str] = set()
        for image in images:
            if image.digest in self.book.done:
                self._known(image)
            elif image.digest in on_their_way:
                self._twins.append(image)
            else:
                on_their_way.add(image.digest)
                yield image

    def _known(self, image: NamedImage) -> None:
        known = self.book.done[image.digest]
        truth = self._truth(image)
        self._enter([image], [replace(known, image=image.path, truth=truth, resize=self.resize)])

    def _enter(self, images: list[NamedImage], rows: list[Certified]) -> None:
        self.book.add(rows)
        for image, row in zip(images, rows, strict=True):
            self.results[image.place] = row
            self.each(image)

    def _truth(self, image: NamedImage) -> str | None:
        return image.folder if image.folder in self.classifier.names else None

    def _row(self, found: ImageCertificates, i: int, image: NamedImage) -> Certified:
        number, radius = int(found.labels[i]), float(found.radii[i])
        bounds, feature_radii = found.methods, found.feature_radii
        return Certified(
            label=None if number == ABSTAIN else self.classifier.names[number],
            radius=radius,
            feature_radius=None if feature_radii is None else float(feature_radii[i]),
            bound=bounds[i] if bounds and radius > 0 else None,
            pixels=image.digest,
            image=image.path,
            truth=self._truth(image),
            resize=self.resize,
        )
