"""What the page's addresses may say: their parameters with their bounds, and what its form calls them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query

from fastsam_batch.web.searches import Filters

# Parameters as the page's form calls them: a refusal is read there.
FIELDS = {
    "q": "Find masks",
    "not": "Less like",
    "where": "Where",
    "min_calibrated": "Least certainty",
    "min_score": "Least cosine",
    "min_area": "Area from",
    "max_area": "Area to",
    "per_image": "From one photograph",
    "distinct": "Overlap up to",
    "top_k": "At most",
}

ImageId = Annotated[str, Query(min_length=1, max_length=4096)]
MaskIndex = Annotated[int, Query(ge=0, le=2**31 - 1)]
Version = Annotated[str, Query(alias="v", max_length=64)]
Text = Annotated[str, Query(min_length=1, max_length=300)]


def _filters(
    top_k: Annotated[int, Query(ge=1, le=1000)] = 60,
    per_image: Annotated[int | None, Query(ge=1, le=1000)] = None,
    min_score: Annotated[float | None, Query(ge=-1, le=1)] = None,
    min_calibrated: Annotated[float | None, Query(ge=0, le=1)] = None,
    contrasts: Annotated[str, Query(alias="not", max_length=300)] = "",
    distinct: Annotated[float, Query(gt=0, le=1)] = 0.8,
    min_area: Annotated[int | None, Query(ge=0, le=2**31)] = None,
    max_area: Annotated[int | None, Query(ge=0, le=2**31)] = None,
    where: Annotated[str, Query(max_length=2000)] = "",
) -> Filters:
    unlike = (contrasts,) if contrasts.strip() else ()
    return Filters(top_k, per_image, min_score, min_calibrated, unlike, distinct, min_area, max_area, where)


AskedFilters = Annotated[Filters, Depends(_filters)]
AskedPrompts = Annotated[list[str], Query(min_length=1, max_length=200)]
