"""`similarity`: how two activation matrices are compared."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .section import Section


class Similarity(Section):
    """The similarity index s(X, X'), and what single indices need.

    bandwidth: of cka_rbf, as a fraction of the median distance.
    variance: kept by svcca.
    batch_images: images a minibatch of the streaming estimator, a mean of unbiased HSIC; null = all at once.
    """

    index: Literal["cka", "cka_debiased", "cka_rbf", "lr", "cca", "svcca"]
    bandwidth: Annotated[float, Field(ge=0.01, le=10)]
    variance: Annotated[float, Field(ge=1e-6, le=1)]
    batch_images: Annotated[int, Field(ge=8, le=1_000_000)] | None

    @model_validator(mode="after")
    def _minibatches_are_unbiased(self) -> "Similarity":
        if self.batch_images is not None and self.index != "cka_debiased":
            raise ValueError(
                "batch_images averages the unbiased HSIC: set index to cka_debiased, or batch_images to null"
            )
        return self
