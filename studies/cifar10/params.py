"""`study`: what this study measures besides what the project's stages do."""

from typing import Annotated

from pydantic import AfterValidator, Field

from lib.params.section import Count, Images, Section, Text, once


class Study(Section):
    """Numbers of images are samples, equally many of each class."""

    images: Text | None
    checkpoints: Text | None
    chance_images: Images
    rank_images: Images
    frozen_images: Images
    full_images: Images
    random_cuts: Annotated[list[Annotated[int, Field(ge=0, le=99)]], AfterValidator(once)]
    random_picks: Count
    grafts: Count
    graft_images: Images
